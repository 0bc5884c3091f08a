"""The store: the same volume comes back, whole or not at all, and says nothing of the patient."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

import pipeline.store.store
from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.core.label_map import LabelMap
from pipeline.core.volume import Volume
from pipeline.store.store import Store


def volume_of(seed: int = 0, shape: tuple[int, int, int] = (4, 6, 5)) -> Volume:
    """An oblique, sheared, oblong volume: any swapped axis or sign shows."""
    generator = np.random.default_rng(seed)
    affine = np.array(
        [[0.56, -0.54, 0, 11.5], [0.42, 0.72, 0.3, -7.25], [0, 0, 2.5, 100.125], [0, 0, 0, 1]]
    )
    origins = (affine @ np.array([[0, 0, k, 1] for k in range(shape[0])]).T)[:3].T
    return Volume(
        image_hu=generator.normal(0, 500, shape).astype(np.float32),
        valid=generator.random(shape) > 0.2,
        affine_lps=affine,
        slice_origins_mm=origins + generator.normal(0, 0.1, origins.shape),
        provenance={"source": "test", "warnings": []},
    )


def assert_same(loaded: Volume, stored: Volume) -> None:
    np.testing.assert_array_equal(loaded.image_hu, stored.image_hu)
    assert loaded.image_hu.dtype == np.float32
    np.testing.assert_array_equal(loaded.valid, stored.valid)
    np.testing.assert_array_equal(loaded.affine_lps, stored.affine_lps)
    np.testing.assert_array_equal(loaded.slice_origins_mm, stored.slice_origins_mm)
    assert loaded.provenance == stored.provenance


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_what_was_stored_is_loaded_unchanged_by_another_process(tmp_path):
    assert Store(tmp_path).add(volume_of(), key="s-1", patient="p-1")
    assert_same(Store.existing(tmp_path).load("s-1"), volume_of())
    assert Store(tmp_path).record("s-1").patient == "p-1"


def test_what_a_kill_left_of_a_record_is_no_series(tmp_path):
    """Written aside and not yet in its place: an empty file, which no JSON reader takes."""
    store = Store(tmp_path)
    store.add(volume_of(), key="s-1", patient="p-1")
    (tmp_path / "volumes" / ".partial-0a1b2c3d-s-2.json").touch()
    assert list(store.records()) == ["s-1"]


def test_loading_reads_no_slice_before_it_is_touched(tmp_path):
    store = Store(tmp_path)
    store.add(volume_of(), key="s-1", patient="p-1")
    loaded = store.load("s-1")
    for array in (loaded.image_hu, loaded.valid):
        while array.base is not None and not isinstance(array, np.memmap):
            array = array.base
        assert isinstance(array, np.memmap)
    # Slices must lie together in the file, or one slice would read the whole of it.
    assert loaded.image_hu.flags.c_contiguous


def test_the_nifti_file_stands_where_the_volume_does(tmp_path):
    store, volume = Store(tmp_path), volume_of()
    store.add(volume, key="s-1", patient="p-1")
    image = nibabel.load(tmp_path / "volumes" / "s-1.nii")
    # DICOM's x and y run to the left and the back, NIfTI's to the right and the front.
    expected = np.diag([-1, -1, 1, 1]) @ volume.affine_lps
    np.testing.assert_allclose(image.affine, expected, atol=1e-5)
    assert image.header["sform_code"] > 0
    assert image.header.get_xyzt_units()[0] == "mm"
    data = image.get_fdata()
    assert data.shape == (5, 6, 4)
    assert data[3, 2, 1] == volume.image_hu[1, 2, 3]


def test_storing_the_same_again_changes_not_a_byte(tmp_path):
    store = Store(tmp_path)
    assert store.add(volume_of(), key="s-1", patient="p-1") is True
    before = contents(tmp_path)
    assert Store(tmp_path).add(volume_of(), key="s-1", patient="p-1") is False
    assert contents(tmp_path) == before


@pytest.mark.parametrize("change", ["image_hu", "valid", "affine_lps", "slice_origins_mm"])
def test_a_series_that_changed_is_stored_anew(tmp_path, change):
    store = Store(tmp_path)
    store.add(volume_of(), key="s-1", patient="p-1")
    changed = volume_of()
    array = getattr(changed, change)
    array.flat[1] = not array.flat[1] if array.dtype == bool else array.flat[1] + 1
    before = store.data_digest(["s-1"])
    assert store.add(changed, key="s-1", patient="p-1") is True
    assert store.data_digest(["s-1"]) != before
    assert_same(store.load("s-1"), changed)


@pytest.mark.parametrize("lost", ["s-1.nii", "s-1.valid.npy", "s-1.json"])
def test_a_file_that_went_missing_is_written_again(tmp_path, lost):
    store = Store(tmp_path)
    store.add(volume_of(), key="s-1", patient="p-1")
    (tmp_path / "volumes" / lost).unlink()
    store.add(volume_of(), key="s-1", patient="p-1")
    assert_same(store.load("s-1"), volume_of())


def test_voxels_are_on_the_disk_before_their_record_and_all_names_after_it(tmp_path, monkeypatch):
    """A power cut leaves the series or nothing: fsync of each file, then of the folder they lie
    in, which has the names of all three."""
    store, done = Store(tmp_path), []
    fsync, replace_file = os.fsync, os.replace

    def syncing(descriptor):
        done.append(("synced", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def renaming(source, target):
        done.append(("named", Path(target).name))
        replace_file(source, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "replace", renaming)
    store.add(volume_of(), key="s-1", patient="p-1")
    record = done.index(("named", "s-1.json"))
    for name in ("s-1.nii", "s-1.valid.npy", "s-1.json"):
        (synced,) = [n for n, (what, of) in enumerate(done) if what == "synced" and name in of]
        assert synced < done.index(("named", name)) <= record
    assert done[record + 1 :] == [("synced", "volumes")]


def test_a_kill_before_the_record_leaves_no_series_and_no_harm(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.add(volume_of(1), key="s-1", patient="p-1")

    def killed(path, data):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pipeline.store.store, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            store.add(volume_of(2), key="s-2", patient="p-2")
    assert set(Store(tmp_path).records()) == {"s-1"}
    assert not [name for name in contents(tmp_path) if "partial" in name]
    assert store.add(volume_of(2), key="s-2", patient="p-2") is True
    assert_same(store.load("s-2"), volume_of(2))


@pytest.mark.parametrize("step", ["_save_nifti", "_save_array"])
def test_a_kill_while_volumes_are_written_leaves_no_series(tmp_path, monkeypatch, step):
    store = Store(tmp_path)

    def killed(*arguments, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(f"pipeline.store.store.{step}", killed)
        with pytest.raises(KeyboardInterrupt):
            store.add(volume_of(), key="s-1", patient="p-1")
    assert Store(tmp_path).records() == {}
    with pytest.raises(NothingUsableError):
        Store.existing(tmp_path)
    assert store.add(volume_of(), key="s-1", patient="p-1") is True
    assert_same(store.load("s-1"), volume_of())


def test_writers_at_the_same_time_lose_none_of_each_other(tmp_path):
    Store(tmp_path)

    def write(number: int) -> None:
        store = Store(tmp_path)
        store.add(volume_of(number), key=f"s-{number}", patient=f"p-{number}")
        store.record_split({f"p-{number}": "test"})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(24)))
    assert set(Store(tmp_path).records()) == {f"s-{number}" for number in range(24)}
    assert set(Store(tmp_path).split()) == {f"p-{number}" for number in range(24)}


def test_the_split_is_remembered_and_added_to(tmp_path):
    store = Store(tmp_path)
    assert store.split() == {}
    store.record_split({"p-1": "training"})
    store.record_split({"p-2": "test"})
    assert Store(tmp_path).split() == {"p-1": "training", "p-2": "test"}


def test_the_data_digest_is_of_the_set_and_not_of_its_order(tmp_path):
    store = Store(tmp_path)
    for number in range(3):
        store.add(volume_of(number), key=f"s-{number}", patient="p")
    assert store.data_digest(["s-0", "s-1"]) == store.data_digest(["s-1", "s-0"])
    assert store.data_digest(["s-0", "s-1"]) != store.data_digest(["s-0", "s-2"])
    assert store.data_digest(["s-0"]) != store.data_digest(["s-0", "s-1"])


def test_degraded_inputs_come_back_and_are_named_by_digest(tmp_path):
    store, image = Store(tmp_path), volume_of().image_hu
    store.save_degraded("s-1", "a" * 64, image)
    store.save_degraded("s-1", "b" * 64, image + 1)
    np.testing.assert_array_equal(store.load_degraded("s-1", "a" * 64), image)
    np.testing.assert_array_equal(store.load_degraded("s-1", "b" * 64), image + 1)


def test_what_is_no_store_is_refused_in_one_line(tmp_path):
    with pytest.raises(NothingUsableError, match="is not a store"):
        Store.existing(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot use .*file as a store"):
        Store(tmp_path / "file")
    (tmp_path / "index.json").write_text('{"series": ')
    with pytest.raises(ConfigError, match="cannot use"):
        Store(tmp_path)


def test_a_record_is_json_that_others_can_read(tmp_path):
    Store(tmp_path).add(volume_of(), key="s-1", patient="p-1")
    record = json.loads((tmp_path / "volumes" / "s-1.json").read_text())
    assert record["shape"] == [4, 6, 5]
    np.testing.assert_array_equal(record["affine_lps"], volume_of().affine_lps)


def test_a_store_of_another_version_is_refused(tmp_path):
    Store(tmp_path)
    (tmp_path / "index.json").write_text('{"version": 1, "series": {}}')
    with pytest.raises(ConfigError, match="version 1"):
        Store(tmp_path)


def test_a_kill_while_a_series_is_replaced_leaves_no_false_record(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.add(volume_of(1), key="s-1", patient="p-1")

    def killed(*arguments, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("pipeline.store.store._save_array", killed)
        with pytest.raises(KeyboardInterrupt):
            store.add(volume_of(2), key="s-1", patient="p-1")
    assert store.records() == {}


def labels_of(seed: int = 0, shape: tuple[int, int, int] = (4, 6, 5)) -> LabelMap:
    values = np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)
    names, source = {1: "liver", 2: "tumor"}, {"kind": "test", "warnings": ["a thing"]}
    return LabelMap(values, names, source, overlaps={3: (1, 2)})


def test_labels_come_back_beside_their_volume_memory_mapped(tmp_path):
    store = Store(tmp_path)
    store.add(volume_of(), key="s-1", patient="p-1")
    assert store.add_labels("s-1", "seg", labels_of())
    found = Store.existing(tmp_path).load_labels("s-1", "seg")
    np.testing.assert_array_equal(found.labels, labels_of().labels)
    assert isinstance(found.labels, np.memmap)
    for name in ("names", "overlaps", "source", "digest"):
        assert getattr(found, name) == getattr(labels_of(), name)
    assert store.label_names("s-1") == ["seg"]
    assert list(store.records()) == ["s-1"]


def test_storing_the_same_labels_again_changes_nothing(tmp_path):
    store = Store(tmp_path)
    store.add(volume_of(), key="s-1", patient="p-1")
    store.add_labels("s-1", "seg", labels_of())
    before = contents(tmp_path)
    assert not store.add_labels("s-1", "seg", labels_of())
    assert contents(tmp_path) == before
    assert store.add_labels("s-1", "seg", labels_of(1))
    np.testing.assert_array_equal(store.load_labels("s-1", "seg").labels, labels_of(1).labels)


def killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_kill_while_labels_are_stored_leaves_the_old_ones_or_none(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.add(volume_of(), key="s-1", patient="p-1")
    store.add_labels("s-1", "seg", labels_of())
    for broken in ("_save_array", "write_json"):
        with monkeypatch.context() as patched:
            patched.setattr(pipeline.store.store, broken, killed)
            with pytest.raises(KeyboardInterrupt):
                store.add_labels("s-1", "seg", labels_of(1))
        with pytest.raises(NothingUsableError, match="no labels 'seg'"):
            store.load_labels("s-1", "seg")
    assert store.add_labels("s-1", "seg", labels_of(1))


def test_labels_of_a_volume_that_has_moved_since_are_refused(tmp_path):
    store = Store(tmp_path)
    store.add(volume_of(), key="s-1", patient="p-1")
    store.add_labels("s-1", "seg", labels_of())
    moved = volume_of()
    moved.slice_origins_mm[2, 1] += 1.0
    store.add(moved, key="s-1", patient="p-1")
    with pytest.raises(NothingUsableError, match="of another grid: ingest again"):
        store.load_labels("s-1", "seg")
    assert store.add_labels("s-1", "seg", labels_of())
    assert store.load_labels("s-1", "seg").names == labels_of().names


def test_labels_that_do_not_fit_or_have_no_safe_name_are_not_stored(tmp_path):
    store = Store(tmp_path)
    store.add(volume_of(), key="s-1", patient="p-1")
    with pytest.raises(ValueError, match="for a volume"):
        store.add_labels("s-1", "seg", labels_of(shape=(4, 6, 6)))
    for name in ("", "../x", "Seg", "a.b"):
        with pytest.raises(ValueError, match="lower-case"):
            store.add_labels("s-1", name, labels_of())
    assert store.label_names("s-1") == []
    with pytest.raises(NothingUsableError, match="it has: none"):
        store.load_labels("s-1", "seg")


def test_what_is_told_of_the_same_voxels_may_change(tmp_path):
    store, volume = Store(tmp_path), volume_of()
    assert store.add(volume, key="s-1", patient="p-1")
    store.save_degraded("s-1", "d" * 16, volume.image_hu)
    told = replace(volume, provenance={**volume.provenance, "scale_fault": "no air"})
    assert not store.add(told, key="s-1", patient="p-2")
    assert (store.record("s-1").patient, store.record("s-1").scale_fault) == ("p-2", "no air")
    assert store.degraded_path("s-1", "d" * 16).exists()
