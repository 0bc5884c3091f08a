"""IDX files and the bundled faces in a store: every image once, with its label, on its side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.idx import idx_folder
from helpers.images import tiny_train

from pipeline.config.load import parse_config
from pipeline.config.run import RunConfig
from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.core.pseudonyms import installation_key
from pipeline.evaluation.generation import stored_images
from pipeline.ingest.bundled_pictures import FACE, NO_FACE, faces, store_pictures
from pipeline.store.splits import split_patients
from pipeline.store.store import Store
from pipeline.tasks.base import task_of
from pipeline.tasks.sides import keys_by_side


def run(*, labels: int = 10, **generation: Any) -> RunConfig:
    """A conditional VAE of tiny images."""
    return parse_config(
        {
            "name": "tiny",
            "task": "generate",
            "data": {"split": {"by": "patient", "test": ["idx-test"], "validation": 0.0}},
            "generation": {"source": "idx", "image_size": [6, 6], "label": "given"} | generation,
            "model": {
                "target": "dense_vae",
                "args": {"image_size": [6, 6], "latents": 2, "hidden": [8], "labels": labels},
            },
            "normalize_hu": {"centre": 0, "scale": 255},
            "step": {"target": "variational"},
            "train": tiny_train(),
            "windows": {"grey": [127.5, 255]},
            "register": {"name": "tiny"},
        }
    )


def stored(folder: Path, store: Store, config: RunConfig) -> dict[str, list[str]]:
    """Ingest and split as a run does; the keys by side."""
    report = task_of(config).ingest(folder, store, config, key=installation_key())
    patients = sorted({row.patient for row in report.series})
    sides = split_patients(patients, config.data.split, key=installation_key(), recorded={})
    return keys_by_side(store, config, sides)


def test_the_publisher_s_test_files_are_held_back(tmp_path: Path) -> None:
    store, config = Store(tmp_path / "store"), run()
    keys = stored(idx_folder(tmp_path / "idx", training=60, test=20), store, config)
    expected = {"train": range(60), "test": range(60, 80), "validation": range(0)}
    for side, numbers in expected.items():
        images, labels = stored_images(store, keys[side], config)
        levels = [float(images[n].mean()) for n in range(len(images))]
        assert sorted(levels) == [float(n) for n in numbers]
        assert labels.tolist() == [int(level) % 10 for level in levels]


def test_sheets_hold_images_at_random_and_the_same_each_time(tmp_path: Path) -> None:
    """Files may be in the order of their labels, and a sheet may be held back."""
    folder, store = idx_folder(tmp_path / "idx"), Store(tmp_path / "store")
    first = task_of(run()).ingest(folder, store, run(), key=installation_key())
    assert len(first.series) == 20
    levels = np.asarray(store.load("idx-train-0").image_hu)[:, 0, 0]
    assert len(levels) == 6
    assert levels.max() - levels.min() > 20
    again = task_of(run()).ingest(folder, store, run(), key=installation_key())
    assert not any(row.new for row in again.series)


def test_without_test_files_a_run_names_what_it_holds_back(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path / "idx")
    for part in folder.glob("t10k-*"):
        part.unlink()
    with pytest.raises(ConfigError, match=r"names idx-test.*there are: idx-train-0, idx-train-1"):
        stored(folder, Store(tmp_path / "store"), run())


def test_a_store_never_mixes_two_data_sets(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    stored(idx_folder(tmp_path / "one"), store, run())
    other = idx_folder(tmp_path / "other")
    for part in other.glob("t10k-*"):
        part.unlink()
    with pytest.raises(ConfigError, match=r"has idx-test-0 of other IDX files.*--out"):
        stored(other, store, run())


def test_a_folder_is_asked_for_and_its_faults_are_named(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(ConfigError, match="--data: name the folder of your IDX files"):
        task_of(run()).ingest(None, store, run(), key=installation_key())
    folder = idx_folder(tmp_path / "idx")
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(b"")
    with pytest.raises(NothingUsableError, match=r"train-labels-idx1-ubyte.gz"):
        stored(folder, store, run())
    assert not store.records()


def test_labels_that_the_network_does_not_have_are_named(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    keys = stored(idx_folder(tmp_path / "idx"), store, run())["train"]
    config = run(labels=7)
    with pytest.raises(ConfigError, match=r"labels up to 9.*--set model.args.labels=10"):
        task_of(config).training_data(store, keys, config, 1)
    task_of(run()).training_data(store, keys, run(), 1)


def test_the_bundled_faces_are_a_hundred_of_each_label(tmp_path: Path) -> None:
    from skimage.data import lfw_subset

    store = Store(tmp_path)
    store_pictures("faces", store, lambda what, done, total: None)
    keys = sorted(store.records())
    assert keys == [f"faces-{n}" for n in range(10)]
    images, labels = stored_images(store, keys, run(source="faces", image_size=[25, 25]))
    found = {(images[n].tobytes(), int(labels[n])) for n in range(len(images))}
    # The first hundred of the library's are the faces.
    library = (lfw_subset() * 255).astype(np.float32)
    expected = {(image.tobytes(), FACE if n < 100 else NO_FACE) for n, image in enumerate(library)}
    assert found == expected
    assert faces().white == 255
    for key in keys:
        assert 2 < sum(store.load(key).provenance["labels"]) < 18, "both kinds in every sheet"
