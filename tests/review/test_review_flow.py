"""`ldct review`'s commands: policy, audit, the study's statistics and their way to the registry."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from helpers.dicom import KEY, only_series
from helpers.flows import registry_waiting_for
from helpers.review import (
    SLICES,
    body_hu,
    write_case,
    write_denoised,
    write_original,
    write_uncertainty,
)
from typer.testing import CliRunner

from flows.cli.app import app
from flows.tracking.reader_study import ARTIFACT, record_study
from flows.tracking.registry import Registry
from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.core.verdicts import READER_STUDY
from pipeline.dicom.read.volume import read_volume
from pipeline.review.planes_geometry import ROWS as CORONAL
from pipeline.review.study.reader_study import CRITERIA, Score, open_study, plan, save
from pipeline.review.worklist import LABELS, UNCERTAINTY, collect
from pipeline.store.store import LPS_TO_RAS, Store

RUNNER = CliRunner()
#: As many as a plan for 8 readers and a margin of one point asks for.
READERS, CASES = [f"reader-{number}" for number in range(8)], 8


def invoked(*words: str | Path) -> str:
    result = RUNNER.invoke(app, ["review", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_policy_is_shown_and_set(tmp_path: Path) -> None:
    assert json.loads(invoked("policy", tmp_path, "--json")) == {"send": "any"}
    invoked("policy", tmp_path, "--send", "accepted")
    assert json.loads(invoked("policy", tmp_path, "--json")) == {"send": "accepted"}
    found = json.loads(invoked("audit", tmp_path, "--json"))
    assert [record["act"] for record in found["records"]] == ["policy"]
    refused = RUNNER.invoke(app, ["review", "policy", str(tmp_path), "--send", "all"])
    assert isinstance(refused.exception, ConfigError)


def test_a_changed_audit_log_fails_the_command(tmp_path: Path) -> None:
    for _ in range(2):
        invoked("policy", tmp_path, "--send", "any")
    log = tmp_path / "review" / "audit.jsonl"
    log.write_text(log.read_text().replace("policy", "nothing", 1))
    assert RUNNER.invoke(app, ["review", "audit", str(tmp_path)]).exit_code == 1


def test_a_folder_without_series_ends_with_code_3(tmp_path: Path) -> None:
    """The first word is a folder: `ldct review DIR` opens it."""
    refused = RUNNER.invoke(app, ["review", str(tmp_path)])
    assert getattr(refused.exception, "exit_code", None) == 3


def read_by(root: Path, reader: str, *, original: int, denoised: int) -> None:
    study = open_study(root, [f"case-{number}" for number in range(CASES)])
    for item in plan(study, reader):
        left, right = (denoised, original) if item.left == "denoised" else (original, denoised)
        score = Score(
            item=item.item,
            left=dict.fromkeys(CRITERIA, left),
            right=dict.fromkeys(CRITERIA, right),
            preference="neither",
        )
        save(root, study, reader, score)


def test_statistics_are_printed_and_written_as_csv(tmp_path: Path) -> None:
    read_by(tmp_path, "anna", original=3, denoised=4)
    read_by(tmp_path, "ben", original=3, denoised=4)
    table = tmp_path / "readings.csv"
    found = json.loads(invoked("stats", tmp_path, "--json", "--csv", table))
    assert found["cases"] == CASES
    assert found["criteria"]["texture"]["difference"] == 1
    assert found["criteria"]["texture"]["non_inferior"] is None
    assert len(table.read_text().splitlines()) == 1 + 2 * (CASES + CASES // 4)
    assert "no verdict" in invoked("stats", tmp_path)


def test_a_study_is_planned_by_command_and_a_pilot(tmp_path: Path) -> None:
    shown = json.loads(invoked("plan", tmp_path, "--json"))
    assert (shown["readers"], shown["margin"]) == (5, 0.5)
    planned = json.loads(invoked("plan", tmp_path, "--readers", "8", "--margin", "0.75", "--json"))
    assert planned["cases_needed"] == planned["cases_by_readers"]["8"] < shown["cases_needed"]
    assert json.loads(invoked("plan", tmp_path, "--json")) == planned
    assert "8 (planned)" in invoked("plan", tmp_path)
    refused = RUNNER.invoke(app, ["review", "plan", str(tmp_path), "--readers", "1"])
    assert isinstance(refused.exception, ConfigError)
    pilot = tmp_path / "pilot"
    read_by(pilot, "anna", original=3, denoised=4)
    read_by(pilot, "ben", original=3, denoised=3)
    found = json.loads(invoked("plan", tmp_path, "--pilot", pilot, "--margin", "3", "--json"))
    # Two readers who differ by a point: 1 / sqrt(2).
    assert found["reader_sd"] == pytest.approx(0.707, abs=0.001)
    assert (found["case_sd"], found["readers"]) == (0, 8)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """With one version whose gate waits for nothing but its readers."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return registry_waiting_for(READER_STUDY)


@pytest.mark.parametrize(("denoised", "verdict"), [(4, "passed"), (1, "failed")])
def test_a_study_settles_the_gate_that_waits_for_it(
    registry: Registry, tmp_path: Path, denoised: int, verdict: str
) -> None:
    needed = json.loads(invoked("plan", tmp_path, "--readers", "8", "--margin", "1", "--json"))
    assert needed["cases_needed"] <= CASES
    for reader in READERS:
        read_by(tmp_path, reader, original=3, denoised=denoised)
    result = json.loads(invoked("stats", tmp_path, "--json", "--model", "m/1"))
    assert result["model"]["reader_study"] == verdict
    version = registry.client.get_model_version("m", "1")
    assert version.tags["reader_study"] == version.tags["gate"] == verdict
    assert list(version.aliases) == (["champion"] if verdict == "passed" else [])
    local = registry.client.download_artifacts(version.run_id, ARTIFACT)
    kept = json.loads(Path(local).read_text())
    assert kept["criteria"] == result["criteria"]
    record_study(registry, "m/1", result)  # again: nothing more
    assert len(registry.client.get_registered_model("m").aliases) == (verdict == "passed")


def test_a_study_smaller_than_its_plan_writes_nothing(registry: Registry, tmp_path: Path) -> None:
    read_by(tmp_path, "anna", original=3, denoised=3)
    refused = RUNNER.invoke(app, ["review", "stats", str(tmp_path), "--model", "m/1"])
    assert isinstance(refused.exception, NothingUsableError)
    assert "no verdict" in str(refused.exception)
    version = registry.client.get_model_version("m", "1")
    assert "reader_study" not in version.tags
    assert list(version.aliases) == []


def test_a_stores_series_are_reviewed_too(tmp_path: Path) -> None:
    original, _ = write_case(tmp_path / "data", 1)
    volume = read_volume(only_series(original)).volume
    store = Store(tmp_path / "store")
    store.add(volume, key="s-1", patient="p-1")
    store.save_degraded("s-1", "a" * 16, volume.image_hu - 3)
    case = collect(tmp_path / "store", key=KEY).cases["s-1"]
    assert list(case.shown) == ["original", "low_dose"]
    for role, shift in (("original", 0), ("low_dose", -3)):
        planes = case.shown[role].planes
        shown = planes.chunk("slices", 0).planes[4] * planes.hu_step
        assert np.array_equal(shown, body_hu(4) + shift)


def test_an_uncertainty_that_cannot_be_read_is_a_flag(tmp_path: Path) -> None:
    write_case(tmp_path, 1)
    write_uncertainty(tmp_path, 1)
    (case,) = collect(tmp_path, key=KEY).cases.values()
    assert UNCERTAINTY in case.shown
    assert not any("uncertainty" in flag for flag in case.flags)
    (tmp_path / "derived-1-uncertainty" / "PM.dcm").write_bytes(b"damaged")
    (case,) = collect(tmp_path, key=KEY).cases.values()
    assert UNCERTAINTY not in case.shown
    assert any(flag.startswith("uncertainty cannot be shown: ") for flag in case.flags)


def test_labels_lie_on_the_series_they_are_of(tmp_path: Path) -> None:
    """Of a tilted series, in a file whose slices run the other way round."""
    original, _ = write_case(tmp_path, 1, shear_mm=1.2)
    volume = read_volume(only_series(original)).volume
    labels = np.zeros(volume.image_hu.shape, np.uint8)
    labels[5, 20:30, 40:50] = 3
    turned = volume.affine_lps.copy()
    turned[:3, 3] += turned[:3, 2] * (SLICES - 1)
    turned[:3, 2] *= -1
    path = tmp_path / "sources" / "labels.nii.gz"
    image = nibabel.Nifti1Image(labels[::-1].T, LPS_TO_RAS @ turned)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    # A source that lies in the folder: the file is still one.
    sources = [tmp_path / "sources"]
    (case,) = collect(tmp_path, sources, key=KEY).cases.values()
    planes = case.shown[LABELS].planes
    assert np.array_equal(planes.chunk("slices", 0).planes, labels[:8])
    assert planes.chunk(CORONAL, 3).planes.max() == 3
    assert case.shown[LABELS].label_names == {3: "label 3"}


def test_each_result_is_shown_beside_its_own_original_where_two_share_their_uids(
    tmp_path: Path,
) -> None:
    """Two kernels of one study, whose images have the same SOP Instance UIDs."""
    for kernel, number, shift in (("SOFT", 3, 0), ("LUNG", 4, 100)):
        original = tmp_path / "sources" / kernel
        images = [(body_hu(index) + shift).astype(np.int16) for index in range(SLICES)]
        for path in write_original(original, 1, images=images):
            dataset = pydicom.dcmread(path)
            dataset.SeriesInstanceUID += f".{number}"
            dataset.SeriesNumber, dataset.ConvolutionKernel = number, kernel
            dataset.save_as(path)
        write_denoised(original, tmp_path / f"derived-{kernel}")
    cases = collect(tmp_path, key=KEY).cases.values()
    shown = {case.folder.name: case.shown for case in cases if case.folder}
    assert set(shown) == {"derived-SOFT", "derived-LUNG"}
    for kernel, shift in (("SOFT", 0), ("LUNG", 100)):
        planes = shown[f"derived-{kernel}"]["original"].planes
        seen = planes.chunk("slices", 0).planes[4] * planes.hu_step
        assert np.array_equal(seen, body_hu(4) + shift)
