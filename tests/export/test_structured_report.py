"""The SR that goes with a derived series: its figures, its references, and where it goes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from helpers.derived import write_derived
from helpers.dicom import OPERATION
from helpers.pacs import derive, write_ct
from helpers.pacs_bench import Bench
from pydicom.dataset import Dataset

from pipeline.dicom.derived.measurement_report import AUDITED, DOSE_RATIO, FLAGGED, UNLIKE
from pipeline.dicom.read.series import Series, find_series
from pipeline.dicom.read.volume import read_volume
from pipeline.export.output_record import derived_folder
from pipeline.export.structured_report import write_series_report
from pipeline.pacs.steps.worker import Worker
from pipeline.pacs.work.item import State
from pipeline.review.decisions import Decision, decide

NOISE_HU, TISSUE_HU = 20.0, 40.0
DETAILS = {
    "drift": ["kernel X; training saw STANDARD"],
    "drift_line": "UNLIKE THE MODEL'S TRAINING: kernel X; training saw STANDARD.",
    "dose": {"dose_ratio": 4.0, "why": "asked for 4 times the dose", "noise_hu": None},
    "audit": {"summary": "audit: 1 of 3 slices ...", "measured": 3, "flagged": [{"slice": 2}]},
}


def source_of(folder: Path, *, noise_hu: float = NOISE_HU) -> Series:
    """Three slices of soft tissue with white noise."""
    rng = np.random.default_rng(1)
    image_hu = TISSUE_HU + noise_hu * rng.standard_normal((160, 160))
    write_ct(folder, stored=(image_hu + 1024).round().astype(np.int16))
    (series,) = find_series(folder).series
    return series


def report_of(root: Path, *, details: dict | None = None) -> tuple[dict, Dataset, Series, Series]:
    """An SR of a result with half the noise: its row, itself, the source and the derived series."""
    source = source_of(root / "source")
    halved = (read_volume(source).volume.image_hu - TISSUE_HU) / 2 + TISSUE_HU
    folder = root / "out" / "s-1-test-v1"
    write_derived(halved, source, OPERATION, folder)
    row = write_series_report(source, folder, OPERATION, DETAILS if details is None else details)
    (derived,) = find_series(folder).series
    return row, pydicom.dcmread(root / "out" / row["folder"] / row["file"]), source, derived


def groups(report: Dataset) -> list[Dataset]:
    (measurements,) = [item for item in report.ContentSequence if name_of(item) == "126010"]
    return list(measurements.ContentSequence)


def name_of(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)


def number(group: Dataset, code: str) -> float:
    (item,) = [item for item in group.ContentSequence if name_of(item) == code]
    return float(item.MeasuredValueSequence[0].NumericValue)


def test_the_noise_of_both_is_what_it_is(tmp_path):
    row, report, _, _ = report_of(tmp_path)
    before, after = (number(group, "112031") for group in groups(report))
    assert 0.85 * NOISE_HU < before < 1.05 * NOISE_HU  # less what is coarser than the bands
    assert after == pytest.approx(before / 2, rel=0.01)
    assert (row["noise_before_hu"], row["noise_after_hu"]) == (before, after)
    (noise,) = [i for i in groups(report)[0].ContentSequence if name_of(i) == "112031"]
    unit = noise.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]
    assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("[hnsf'U]", "UCUM")


def test_it_names_dose_audit_drift_model_and_version(tmp_path):
    _, report, _, _ = report_of(tmp_path)
    group = groups(report)[1]
    assert number(group, DOSE_RATIO.value) == 4
    assert number(group, AUDITED.value) == 3
    assert number(group, FLAGGED.value) == 1
    items = {name_of(item): item for item in group.ContentSequence}
    assert items[UNLIKE.value].ConceptCodeSequence[0].CodeMeaning == "Yes"
    assert items["111001"].TextValue == OPERATION.equipment
    assert items["111003"].TextValue == OPERATION.equipment_version
    texts = " ".join(str(item.get("TextValue", "")) for item in group.ContentSequence)
    assert "UNLIKE THE MODEL'S TRAINING: kernel X" in texts
    assert OPERATION.description in texts
    assert report.SeriesDescription.startswith("AI REPORT test v1")
    assert (report.Modality, report.VerificationFlag) == ("SR", "UNVERIFIED")
    assert report.PreliminaryFlag == "PRELIMINARY"


@pytest.mark.parametrize(
    ("details", "answer"), [({}, "Unknown"), ({"drift": []}, "No"), ({"drift": ["x"]}, "Yes")]
)
def test_what_is_not_known_is_not_reported(tmp_path, details, answer):
    _, report, _, _ = report_of(tmp_path, details=details)
    items = {name_of(item): item for item in groups(report)[1].ContentSequence}
    assert items[UNLIKE.value].ConceptCodeSequence[0].CodeMeaning == answer
    assert not items.keys() & {DOSE_RATIO.value, AUDITED.value, FLAGGED.value}


def test_without_flat_tissue_there_is_no_noise(tmp_path):
    write_ct(tmp_path / "source")
    (source,) = find_series(tmp_path / "source").series
    write_derived(read_volume(source).volume.image_hu, source, OPERATION, tmp_path / "d")
    row = write_series_report(source, tmp_path / "d", OPERATION, {})
    assert row["noise_before_hu"] is row["noise_after_hu"] is None
    report = pydicom.dcmread(tmp_path / "d-report" / "SR.dcm")
    assert all(name_of(i) != "112031" for group in groups(report) for i in group.ContentSequence)


def test_it_references_every_image_of_both_series(tmp_path):
    _, report, source, derived = report_of(tmp_path)
    evidence = [
        *report.get("CurrentRequestedProcedureEvidenceSequence", ()),
        *report.get("PertinentOtherEvidenceSequence", ()),
    ]
    found = {
        str(image.ReferencedSOPInstanceUID)
        for study in evidence
        for series in study.ReferencedSeriesSequence
        for image in series.ReferencedSOPSequence
    }
    wanted = {str(i.header.SOPInstanceUID) for s in (source, derived) for i in s.instances}
    assert found == wanted
    for group, series in zip(groups(report), (source, derived), strict=True):
        uids = {str(item.get("UID", "")) for item in group.ContentSequence}
        assert str(series.header.SeriesInstanceUID) in uids
        (noise,) = [item for item in group.ContentSequence if name_of(item) == "112031"]
        measured = {
            str(image.ReferencedSOPInstanceUID)
            for item in noise.ContentSequence
            for image in item.get("ReferencedSOPSequence", ())
        }
        assert measured == {str(i.header.SOPInstanceUID) for i in series.instances}
    for name in ("PatientID", "PatientName", "StudyInstanceUID", "StudyID"):
        assert report.get(name) == derived.instances[0].load(pixels=False).get(name)
    assert report.SeriesInstanceUID != derived.header.SeriesInstanceUID


def test_it_is_a_valid_comprehensive_3d_sr(tmp_path, require_program):
    _, report, _, _ = report_of(tmp_path)
    path = tmp_path / "out" / "s-1-test-v1-report" / "SR.dcm"
    checked = subprocess.run(
        [require_program("dciodvfy"), path], capture_output=True, text=True, check=False
    )
    assert "Comprehensive3DSR" in checked.stderr
    assert "Error" not in checked.stderr
    # It knows no private coding scheme; the object names it.
    others = [line for line in checked.stderr.splitlines() if "Warning" in line]
    assert all("<99LDCT>" in line for line in others), others
    assert report.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99LDCT"


def test_highdicom_reads_it_back(tmp_path):
    report_of(tmp_path)
    path = tmp_path / "out" / "s-1-test-v1-report" / "SR.dcm"
    read = highdicom.sr.srread(path)
    assert len(read.content.get_image_measurement_groups()) == 2


def test_the_same_result_has_the_same_report(tmp_path):
    report_of(tmp_path / "once"), report_of(tmp_path / "again")
    once, again = (
        (tmp_path / name / "out" / "s-1-test-v1-report" / "SR.dcm").read_bytes()
        for name in ("once", "again")
    )
    assert once == again


def derive_with_report(series: Path, model: str, out: Path) -> None:
    derive(series, model, out)
    (source,) = find_series(series).series
    write_series_report(source, out / "s-1-test-v1", OPERATION, DETAILS)


@pytest.mark.parametrize("release", ["automatic", "reader"])
def test_it_is_sent_together_with_its_series(tmp_path, release):
    """A reader decides on the series, and the report goes with it."""
    bench = Bench(tmp_path, release=release)
    to = {"": bench.destination}
    bench.worker = Worker(bench.settings, bench.ledger, derive_with_report, to, bench.source)
    work = bench.add()
    bench.worker.run_due()
    if release == "reader":
        assert bench.destination.stored == []
        folder = bench.places.result(work.id) / "s-1-test-v1"
        assert derived_folder(folder.with_name("s-1-test-v1-report")) == folder
        decide(bench.places.results, work.id, folder, Decision(reader="anna", verdict="accept"))
        bench.ledger.make_due(work)
        bench.worker.run_due()
    done = bench.ledger.get(work.id)
    assert (done.state, done.note) == (State.SENT, "4 images counted at the destination")
    sent = [pydicom.dcmread(path) for path in bench.destination.folder.glob("*.dcm")]
    assert [each.Modality for each in sent].count("SR") == 1
