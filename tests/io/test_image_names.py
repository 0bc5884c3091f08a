"""Names and patients of image files: kept, and told apart as the user says."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from helpers.body import body_hu
from helpers.dicom import KEY
from torch import nn

from pipeline.core.errors import ConfigError
from pipeline.core.pseudonyms import patient_pseudonym
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.export.denoised import export_denoised
from pipeline.export.series import Export
from pipeline.ingest.ingest import IngestReport, ingest
from pipeline.io.image_names import result_name
from pipeline.models.adapters.card import ModelCard
from pipeline.store.store import Store

CARD = ModelCard("swift", 2, "0123456789abcdef" * 4, "c", "d", 1)
FILES = ("a/one/ct.nii", "a/two/ct.nii", "b/ct.nii", "c.nii", "d.nii")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for number, name in enumerate(FILES):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = nibabel.Nifti1Image((body_hu(slices=1, side=32) + number).T, np.eye(4))
        image.header.set_sform(np.eye(4), code=1)
        nibabel.save(image, path)
    return tmp_path / "in"


def ingested(source: Path, patients: str = "file") -> IngestReport:
    store = Store(source.parent / "store")
    return ingest(source, store, key=KEY, intake=IngestOptions(patients=patients))


def patient_of(report: IngestReport) -> dict[str, str]:
    return {row.source_file: row.patient for row in report.series}


def test_each_file_is_a_patient_and_the_report_says_so(source):
    report = ingested(source)
    assert len(set(patient_of(report).values())) == len(FILES)
    assert all("patients=folder" in " ".join(row.warnings) for row in report.series)
    rows = json.loads(json.dumps(report.to_dict()))["series"]
    assert sorted(row["source_file"] for row in rows) == sorted(FILES)


def test_one_file_alone_needs_no_word(source):
    (row,) = ingested(source / "c.nii").series
    assert row.source_file == "c.nii"
    assert "patients" not in " ".join(row.warnings)


def test_a_folder_below_the_source_is_a_patient(source):
    patients = patient_of(ingested(source, "folder"))
    assert patients["a/one/ct.nii"] == patients["a/two/ct.nii"]
    assert len(set(patients.values())) == 4
    assert "patients" not in " ".join(
        w for r in ingested(source, "folder").series for w in r.warnings
    )


def test_another_choice_changes_what_is_stored_already(source):
    first = ingested(source)
    again = ingested(source, "folder")
    assert [row.series for row in again.series] == [row.series for row in first.series]
    records = Store(source.parent / "store").records()
    assert {r.series: r.patient for r in again.series} == {k: v.patient for k, v in records.items()}


def test_a_table_says_whose_a_file_is(source, tmp_path):
    table = tmp_path / "patients.csv"
    table.write_text("file,patient\n" + "".join(f"{name},P{name == 'd.nii':d}\n" for name in FILES))
    patients = patient_of(ingested(source, str(table)))
    assert patients["d.nii"] == patient_pseudonym(KEY, "P1")  # as a DICOM series of PatientID P1
    assert {patients[name] for name in FILES[:-1]} == {patient_pseudonym(KEY, "P0")}


def test_a_file_that_the_table_lacks_is_refused(source, tmp_path):
    table = tmp_path / "patients.csv"
    table.write_text("file,patient\nc.nii,P1\n")
    report = ingested(source, str(table))
    assert list(patient_of(report)) == ["c.nii"]
    assert {r.reason for r in report.refusals} == {"not in patients.csv: add its patient"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("", "expected lines"),
        ("file,patient\nc.nii,\n", "line 2: expected file,patient"),
        ("name,who\nc.nii,P1\n", "line 2: expected file,patient"),
        ("file,patient\nc.nii,P1\nc.nii,P2\n", "line 3: c.nii has another patient"),
    ],
)
def test_a_table_that_does_not_say_it_is_named(source, tmp_path, text, message):
    if text is not None:
        (tmp_path / "patients.csv").write_text(text)
    with pytest.raises(ConfigError, match=message):
        ingested(source, str(tmp_path / "patients.csv"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("case1.nii.gz", "case1-made"),
        ("LIDC-IDRI-0001.nrrd", "LIDC-IDRI-0001-made"),
        ("scan.1.nii.gz", "scan.1-made"),
        ("P19520304.nii", "made"),
        ("1952-03-04.nii", "made"),
        ("04.03.1952 thorax.mha", "made"),
        ("1.2.840.113619.nii", "made"),
        ("Geheim^Gisela.nii", "made"),
        ("mrn 4711123.nii.gz", "made"),
    ],
)
def test_a_result_keeps_the_name_unless_it_may_be_an_identifier(name, expected):
    assert result_name(Path("folder") / name, "made") == expected


def test_a_result_is_found_by_the_name_of_its_source(source, tmp_path):
    export_denoised(nn.Identity(), CARD, source / "c.nii", Export(tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["c-ai-denoised-swift-v2.nii"]
