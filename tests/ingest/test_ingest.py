"""From a folder to the store: what is sound goes in, once, without a word of who it is."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.dicom import (
    KEY,
    ROOT_UID,
    identifying,
    in_order,
    only_series,
    patch,
    quarantined,
    ramp,
    raw_hu,
    write_series,
)

import pipeline.store.store
from pipeline.core.errors import LdctError, NothingUsableError
from pipeline.dicom.read.volume import read_volume
from pipeline.ingest.ingest import IngestReport, ingest
from pipeline.store.store import Store


def as_json(report: IngestReport) -> str:
    return json.dumps(report.to_dict())


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def chest(tmp_path_factory, test_data):
    """The real chest series: its folder, its store, what ingest said."""
    source, store = test_data / "ct" / "chest-ge-lidc0001", tmp_path_factory.mktemp("store")
    return source, store, ingest(source, Store(store), key=KEY)


def test_the_store_holds_the_hu_of_the_files(chest):
    source, store, report = chest
    (entry,) = report.series
    loaded = Store(store).load(entry.series)
    expected = np.stack([raw_hu(path) for path in in_order(source)])
    np.testing.assert_array_equal(loaded.image_hu[loaded.valid], expected[loaded.valid])
    assert loaded.valid.mean() > 0.78
    fresh = read_volume(only_series(source)).volume
    np.testing.assert_array_equal(loaded.image_hu, fresh.image_hu)
    np.testing.assert_array_equal(loaded.affine_lps, fresh.affine_lps)
    np.testing.assert_array_equal(loaded.slice_origins_mm, fresh.slice_origins_mm)


def test_the_report_says_what_went_where(chest):
    _, _, report = chest
    (entry,) = report.series
    assert entry.slices == 52
    assert entry.new is True
    # The data hold 52 consecutive slices of a longer scan, whose anonymiser gave each slice a
    # frame of reference, and nothing else is odd.
    assert entry.warnings == [
        "slices may be missing at the ends: instance numbers 18 to 69",
        "FrameOfReferenceUID: 52 different ones in 52 slices, taken as one frame of reference",
    ]
    assert entry.description["ConvolutionKernel"] == "STANDARD"
    assert report.to_dict()["quarantined"] == report.to_dict()["excluded"] == []
    assert len(report.sources[entry.series].instances) == 52


def test_nothing_in_the_store_identifies_the_patient(chest):
    source, store, report = chest
    secrets = set().union(*(identifying(path) for path in source.iterdir()))
    assert len(secrets) > 60  # 52 instances, the patient, study, series, dates
    assert "LIDC-IDRI-0001" in secrets
    assert "20000101" in secrets
    files = contents(store)
    assert len(files) >= 3
    leaks = [
        (name, text)
        for name, content in files.items()
        for text in secrets
        if text.encode() in content or text in name
    ]
    assert leaks == []
    assert not [text for text in secrets if text in json.dumps(report.to_dict()["series"])]


def test_a_name_and_a_birth_date_stay_out_of_store_and_report(tmp_path):
    write_series(tmp_path / "in", 3, PatientName="Müller^Änne", PatientBirthDate="19520304")
    report = ingest(tmp_path / "in", Store(tmp_path / "store"), key=KEY)
    everything = as_json(report).encode() + b"".join(contents(tmp_path / "store").values())
    secrets = ("Müller", "M\\u00fcller", "ller^", "19520304", "SECRET-4711", "19991231", ROOT_UID)
    assert not [text for text in secrets if text.encode() in everything]


def test_ingesting_twice_changes_not_a_byte(tmp_path):
    write_series(tmp_path / "in" / "a", 4)
    write_series(tmp_path / "in" / "b", 3, SeriesInstanceUID=f"{ROOT_UID}.9")
    store = tmp_path / "store"
    first = ingest(tmp_path / "in", Store(store), key=KEY)
    before = contents(store)
    second = ingest(tmp_path / "in", Store(store), key=KEY)
    assert contents(store) == before
    assert [entry.new for entry in first.series] == [True, True]
    assert [entry.new for entry in second.series] == [False, False]
    assert [e.series for e in first.series] == [e.series for e in second.series]


def test_another_order_and_other_names_of_the_files_are_the_same_series(tmp_path):
    paths = write_series(tmp_path / "in", 4)
    ingest(tmp_path / "in", Store(tmp_path / "store"), key=KEY)
    (tmp_path / "moved" / "deep").mkdir(parents=True)
    for number, path in enumerate(paths):
        shutil.copy(path, tmp_path / "moved" / ("deep" if number % 2 else ".") / f"x{9 - number}")
    report = ingest(tmp_path / "moved", Store(tmp_path / "store"), key=KEY)
    assert [entry.new for entry in report.series] == [False]


def test_patients_keep_their_pseudonym_and_another_key_gives_another(tmp_path):
    write_series(tmp_path / "in" / "a", 2)
    write_series(tmp_path / "in" / "b", 2, SeriesInstanceUID=f"{ROOT_UID}.9")
    write_series(tmp_path / "in" / "c", 2, SeriesInstanceUID=f"{ROOT_UID}.8", PatientID="ANOTHER")
    ours = ingest(tmp_path / "in", Store(tmp_path / "ours"), key=KEY).series
    theirs = ingest(tmp_path / "in", Store(tmp_path / "theirs"), key=b"x" * 32).series
    assert len({entry.patient for entry in ours}) == 2
    assert not {entry.patient for entry in ours} & {entry.patient for entry in theirs}


@pytest.mark.parametrize(
    ("name", "value"),
    [("PatientID", "ANOTHER"), ("StudyInstanceUID", f"{ROOT_UID}.9"), ("KVP", "80")],
)
def test_series_that_share_a_uid_by_mistake_are_all_stored(tmp_path, name, value):
    def edit(dataset, index):
        if index % 2:
            setattr(dataset, name, value)

    write_series(tmp_path / "in", 6, edit=edit)
    report = ingest(tmp_path / "in", Store(tmp_path / "store"), key=KEY)
    store = Store(tmp_path / "store")
    assert len(report.series) == 2
    assert len(store.records()) == len(report.sources) == 2
    first = {float(store.load(key).image_hu[0, 0, 0]) for key in store.records()}
    assert first == {float(ramp(0)[0, 0]) - 1024, float(ramp(1)[0, 0]) - 1024}


def test_a_kill_before_the_record_leaves_no_series(tmp_path, monkeypatch):
    write_series(tmp_path / "in", 3)
    store = Store(tmp_path / "store")

    def killed(path, data):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pipeline.store.store, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            ingest(tmp_path / "in", store, key=KEY)
    assert Store(tmp_path / "store").records() == {}
    assert ingest(tmp_path / "in", store, key=KEY).series[0].new is True


def test_a_series_without_uids_is_quarantined_by_name_and_others_go_on(tmp_path, test_data):
    shutil.copytree(test_data / "ct" / "torso-siemens", tmp_path / "in" / "torso")
    write_series(tmp_path / "in" / "sound", 3)
    report = ingest(tmp_path / "in", Store(tmp_path / "store"), key=KEY)
    assert [entry.slices for entry in report.series] == [3]
    refused = quarantined(report.refusals)
    assert len(refused) == 20
    for refusal in refused:
        # PatientID, which it lacks too, is of type 2 and may be empty.
        assert refusal.attribute == "StudyInstanceUID"
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "unidentified"):
            assert name in refusal.reason
    entries = report.to_dict()["quarantined"]
    assert {Path(entry["file"]).parts[0] for entry in entries} == {"torso"}
    assert {entry["fate"] for entry in entries} == {"quarantined"}


def test_one_damaged_slice_is_quarantined_and_the_series_stored_without_it(tmp_path):
    paths = write_series(tmp_path / "in", 5)
    paths[2].write_bytes(paths[2].read_bytes()[:-10])
    report = ingest(tmp_path / "in", Store(tmp_path / "store"), key=KEY)
    (entry,) = report.series
    assert entry.slices == 4
    assert any("uneven" in text for text in entry.warnings)
    assert [refusal.path for refusal in report.refusals] == [paths[2]]
    assert Store(tmp_path / "store").load(entry.series).image_hu.shape[0] == 4


def test_a_series_of_damaged_slices_is_quarantined_and_others_go_on(tmp_path):
    broken = write_series(tmp_path / "in" / "broken", 3, SeriesInstanceUID=f"{ROOT_UID}.9")
    for path in broken:
        path.write_bytes(path.read_bytes()[:-10])
    write_series(tmp_path / "in" / "sound", 3)
    report = ingest(tmp_path / "in", Store(tmp_path / "store"), key=KEY)
    assert [entry.slices for entry in report.series] == [3]
    assert sorted(refusal.path for refusal in quarantined(report.refusals)) == broken
    assert {refusal.attribute for refusal in report.refusals} == {"PixelData"}


def test_a_series_without_a_decoder_says_which_syntax(tmp_path, test_data):
    folder = test_data / "edge" / "transfer-syntaxes"
    (source,) = folder.glob("*1.2.840.10008.1.2.4.53.dcm")
    (tmp_path / "in").mkdir()
    shutil.copy(source, tmp_path / "in" / "0.dcm")
    write_series(tmp_path / "in" / "sound", 2)
    report = ingest(tmp_path / "in", Store(tmp_path / "store"), key=KEY)
    (refusal,) = report.refusals
    assert "Process 6 and 8" in refusal.reason + refusal.value


@pytest.mark.parametrize(
    ("name", "value"),
    [("XRayTubeCurrent", b"239.6 "), ("Exposure", b"4.5 "), ("KVP", b"na"), ("KVP", b"nan ")],
)
def test_descriptive_attributes_that_are_broken_stop_nothing(tmp_path, name, value):
    for path in write_series(tmp_path / "in", 2, XRayTubeCurrent=100, Exposure=5):
        patch(path, name, value)
    report = ingest(tmp_path / "in", Store(tmp_path / "store"), key=KEY)
    assert [entry.slices for entry in report.series] == [2]
    assert len(Store(tmp_path / "store").records()) == 1


def test_a_folder_with_nothing_usable_is_reported_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    for name in ("README.md", "notes.txt", "letter.dcm"):
        (tmp_path / "texts" / name).write_text("text\n")
    (tmp_path / "texts" / "more.txt").write_text("text\n")
    said = {}
    for name in ("empty", "texts"):
        with pytest.raises(NothingUsableError) as error:
            ingest(tmp_path / name, Store(tmp_path / "store"), key=KEY)
        said[name] = str(error.value)
        assert "\n" not in said[name]
        assert str(tmp_path / name) in said[name]
    assert "empty" in said["empty"]
    assert "4 files refused, 1 of them: not DICOM, though its name says so" in said["texts"]
    assert Store(tmp_path / "store").records() == {}


def test_a_folder_of_nothing_but_unnamed_series_is_refused_with_the_reason(tmp_path, test_data):
    with pytest.raises(NothingUsableError, match="20 of them: StudyInstanceUID, SeriesIns"):
        ingest(test_data / "ct" / "torso-siemens", Store(tmp_path / "store"), key=KEY)


def test_progress_counts_to_the_end(tmp_path):
    write_series(tmp_path / "in", 3)
    seen = []
    ingest(
        tmp_path / "in",
        Store(tmp_path / "store"),
        key=KEY,
        progress=lambda what, done, total: seen.append((what, done, total)),
    )
    assert ("reading headers", 3, 0) in seen
    assert seen[-1] == ("storing series", 1, 1)


def test_the_source_is_left_untouched(tmp_path):
    write_series(tmp_path / "in", 3)
    before = contents(tmp_path / "in")
    ingest(tmp_path / "in", Store(tmp_path / "store"), key=KEY)
    assert contents(tmp_path / "in") == before
    assert pydicom.dcmread(tmp_path / "in" / "000.dcm").PatientID == "SECRET-4711"


@pytest.mark.parametrize("error", [AttributeError("of Geheim"), MemoryError(), LdctError("no")])
def test_a_series_that_fails_does_not_stop_the_others(tmp_path, monkeypatch, error):
    """Whatever its reading or storing raises: its files are quarantined with the type of error."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    write_series(tmp_path / "in" / "a", 2)
    write_series(
        tmp_path / "in" / "b",
        2,
        SeriesInstanceUID="1.2.3",
        edit=lambda dataset, index: setattr(dataset, "SOPInstanceUID", f"1.2.3.{index}"),
    )
    broken = {str(path) for path in (tmp_path / "in" / "a").glob("*.dcm")}

    def fail(series):
        if str(series.instances[0].path) in broken:
            raise error
        return read_volume(series)

    monkeypatch.setattr("pipeline.ingest.ingest.read_volume", fail)
    report = ingest(tmp_path / "in", Store(tmp_path / "store"), key=KEY)
    assert len(report.series) == 1
    assert {str(refusal.path) for refusal in report.refusals} == broken
    (reason,) = {refusal.reason for refusal in report.refusals}
    assert ("no" if isinstance(error, LdctError) else type(error).__name__) in reason
    assert "Geheim" not in reason
    monkeypatch.setattr("pipeline.ingest.ingest.is_disk_full", lambda error: True)
    with pytest.raises(type(error)):
        ingest(tmp_path / "in", Store(tmp_path / "store"), key=KEY)


def write_three(root: Path) -> None:
    for number in range(3):
        write_series(
            root / f"{number}", PatientID=f"P{number}", SeriesInstanceUID=f"{ROOT_UID}.9.{number}"
        )


def test_a_series_is_read_while_the_one_before_it_is_stored_and_no_more_than_two_are_held(
    tmp_path, monkeypatch
):
    write_three(tmp_path / "in")
    began = [threading.Event() for _ in range(4)]
    began[3].set()  # behind the last there is none
    held, most, lock = 0, 0, threading.Lock()
    reads, adds = iter(began), iter(began[1:])

    def reading(series):
        nonlocal held, most
        with lock:
            held, most = held + 1, max(most, held + 1)
        next(reads).set()
        return read_volume(series)

    def adding(self, *arguments, **named):
        nonlocal held
        assert next(adds).wait(60)  # for the next one to be read
        assert threading.current_thread() is not threading.main_thread()
        try:
            return add(self, *arguments, **named)
        finally:
            with lock:
                held -= 1

    add = Store.add
    monkeypatch.setattr("pipeline.ingest.ingest.read_volume", reading)
    monkeypatch.setattr(Store, "add", adding)
    report = ingest(tmp_path / "in", Store(tmp_path / "store"), key=KEY)
    assert [row.new for row in report.series] == [True] * 3
    assert most == 2


def test_a_series_that_cannot_be_stored_is_quarantined_and_the_others_are_stored(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    write_three(tmp_path / "in")
    add, keys = Store.add, []

    def adding(self, volume, *, key, **named):
        keys.append(key)
        if len(keys) == 2:
            raise RuntimeError("no such thing")
        return add(self, volume, key=key, **named)

    monkeypatch.setattr(Store, "add", adding)
    store = Store(tmp_path / "store")
    report = ingest(tmp_path / "in", store, key=KEY)
    assert [row.series for row in report.series] == [keys[0], keys[2]]
    assert sorted(store.records()) == sorted([keys[0], keys[2]])
    assert {refusal.path.parent.name for refusal in report.refusals} == {"1"}
    assert len(report.refusals) == 4
    monkeypatch.setattr(Store, "add", add)
    again = ingest(tmp_path / "in", store, key=KEY)
    assert (again.skipped, [row.series for row in again.series]) == (2, keys)
