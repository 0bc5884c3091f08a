"""A source that the store has already is not decoded again; whatever changed is."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.dicom import KEY, write_series

import pipeline.ingest.ingest as stage
from flows.ingest import ingest_flow
from pipeline.core.errors import NothingUsableError
from pipeline.core.volume import Volume, even_origins_mm
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.ingest.ingest import ingest
from pipeline.ingest.report import IngestReport
from pipeline.io.volume_writer import write_image
from pipeline.store.store import Store


def counted(read: Callable, found: list[object]) -> Callable:
    def counting(source: object, *rest: object, **more: object) -> object:
        found.append(source)
        return read(source, *rest, **more)

    return counting


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The sources whose pixels were read."""
    found: list[object] = []
    for name in ("read_volume", "read_image"):
        monkeypatch.setattr(stage, name, counted(getattr(stage, name), found))
    return found


def two_series(folder: Path) -> Path:
    for number in (1, 2):
        write_series(
            folder / str(number), 3, SeriesInstanceUID=f"1.2.{number}",
            edit=lambda d, n, s=number: setattr(d, "SOPInstanceUID", f"1.2.{s}.{n}"),
        )  # fmt: skip
    return folder


def stored(source: Path, store: Path, **intake: str) -> IngestReport:
    options = IngestOptions.model_validate(intake)
    return ingest(source, Store(store), key=KEY, intake=options)


def test_the_second_time_nothing_is_decoded_and_the_report_is_the_same(
    tmp_path: Path, decoded: list[object]
) -> None:
    source = two_series(tmp_path / "in")
    first = stored(source, tmp_path / "store")
    assert (first.skipped, len(decoded)) == (0, 2)
    again = stored(source, tmp_path / "store")
    assert (again.skipped, len(decoded)) == (2, 2)
    assert again.series == [replace(row, new=False) for row in first.series]
    assert again.sources.keys() == again.stored.keys() == first.sources.keys()


def test_a_series_more_is_the_only_one_that_is_read(tmp_path: Path, decoded: list[object]) -> None:
    source = two_series(tmp_path / "in")
    shutil.move(source / "2", tmp_path / "later")
    stored(source, tmp_path / "store")
    shutil.move(tmp_path / "later", source / "2")
    report = stored(source, tmp_path / "store")
    assert (report.skipped, len(decoded), len(report.series)) == (1, 2, 2)
    assert sorted(row.new for row in report.series) == [False, True]


def test_a_changed_pixel_is_read_and_stored(tmp_path: Path, decoded: list[object]) -> None:
    source = two_series(tmp_path / "in")
    stored(source, tmp_path / "store")
    path = sorted((source / "1").glob("*"))[0]
    changed = pydicom.dcmread(path)
    changed.PixelData = bytes([changed.PixelData[0] ^ 1]) + changed.PixelData[1:]
    changed.save_as(path)
    before = {key: r.digest for key, r in Store(tmp_path / "store").records().items()}
    report = stored(source, tmp_path / "store")
    after = {key: r.digest for key, r in Store(tmp_path / "store").records().items()}
    assert (report.skipped, len(decoded)) == (1, 3)
    assert sum(before[key] != after[key] for key in before) == 1


def test_a_damaged_store_is_mended(tmp_path: Path) -> None:
    source = two_series(tmp_path / "in")
    row = stored(source, tmp_path / "store").series[0]
    path = tmp_path / "store" / "volumes" / f"{row.series}.nii"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    assert stored(source, tmp_path / "store").skipped == 1
    assert path.read_bytes() == whole


def test_what_was_refused_is_named_every_time(tmp_path: Path) -> None:
    source = two_series(tmp_path / "in")
    path = sorted((source / "1").glob("*"))[1]
    path.write_bytes(path.read_bytes()[:-40])
    first, again = (stored(source, tmp_path / "store", gaps="slices") for _ in range(2))
    assert again.skipped == 1
    assert (
        [each.path for each in first.refusals] == [each.path for each in again.refusals] == [path]
    )


def test_another_code_reads_again(
    tmp_path: Path, decoded: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = two_series(tmp_path / "in")
    stored(source, tmp_path / "store")
    monkeypatch.setattr("pipeline.ingest.known_sources.code_digest", lambda: "another")
    assert stored(source, tmp_path / "store").skipped == 0
    assert len(decoded) == 4


def test_members_of_an_archive_are_known_too(tmp_path: Path, decoded: list[object]) -> None:
    source = two_series(tmp_path / "in")
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for path in sorted(source.rglob("*.dcm")):
            archive.write(path, path.relative_to(source))
    stored(source, tmp_path / "store")
    assert stored(tmp_path / "study.zip", tmp_path / "store").skipped == 2
    assert len(decoded) == 2


def test_the_patient_of_an_image_file_is_the_one_asked_for(
    tmp_path: Path, decoded: list[object]
) -> None:
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    for name in ("a", "b"):
        image_hu = np.random.default_rng(ord(name)).normal(-500, 400, (2, 64, 64))
        valid = np.ones(image_hu.shape, bool)
        volume = Volume(image_hu.astype("f4"), valid, affine, even_origins_mm(affine, 2))
        (tmp_path / "in" / "one").mkdir(parents=True, exist_ok=True)
        write_image(volume, tmp_path / "in" / "one" / f"{name}.nii.gz")
    store = tmp_path / "store"

    def patients(choice: str) -> set[str]:
        stored(tmp_path / "in", store, patients=choice)
        return {record.patient for record in Store(store).records().values()}

    by_file, by_folder = patients("file"), patients("folder")
    assert (len(by_file), len(by_folder), len(decoded)) == (2, 1, 4)
    assert patients("file") == by_file, "and not the folder's, which came between"
    assert len(decoded) == 6
    report = stored(tmp_path / "in", store)
    assert (report.skipped, len(decoded)) == (2, 6)
    assert {row.source_file for row in report.series} == {"one/a.nii.gz", "one/b.nii.gz"}


def test_the_command_says_what_it_skipped(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    source = two_series(tmp_path / "in")
    first = ingest_flow(source, tmp_path / "store", IngestOptions())
    assert "skipped" not in capfd.readouterr().err
    again = ingest_flow(source, tmp_path / "store", IngestOptions())
    said = "ingest: skipped 2 of 2 series: the store has them from the same files"
    assert said in capfd.readouterr().err
    assert [row["series"] for row in again["series"]] == [row["series"] for row in first["series"]]


def test_what_is_noted_names_nobody(tmp_path: Path) -> None:
    source = write_series(tmp_path / "in", 2, PatientID="DOE-4711", PatientName="Doe^Jane")
    stored(tmp_path / "in", tmp_path / "store")
    (note,) = (tmp_path / "store" / "ingested").iterdir()
    assert note.name.startswith("i-")
    assert "DOE" not in note.read_text().upper()
    assert str(source) not in note.read_text()


def test_an_empty_source_is_refused_every_time(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for _ in range(2):
        with pytest.raises(NothingUsableError):
            stored(tmp_path / "in", tmp_path / "store")
