"""report.json and source.json: written whatever happens, and added to by every run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from conftest import Ended
from helpers.dicom import KEY, write_series
from helpers.flows import identity_config, register
from pydicom.dataset import Dataset

from pipeline.review.series_index import ORIGINAL
from pipeline.review.worklist import collect

pytestmark = pytest.mark.usefixtures("own_registry")
CONFIG = str(Path(__file__).parents[2] / "configs" / "demo.yaml")


def write_case(folder: Path, number: int) -> None:
    def name_it(dataset: Dataset, index: int) -> None:
        dataset.SOPInstanceUID = f"1.2.3.{number}.{index}"

    write_series(folder, 2, edit=name_it, SeriesInstanceUID=f"1.2.3.{number}")


def recorded(out: Path) -> dict:
    return json.loads((out / "report.json").read_text(encoding="utf-8"))


def test_review_finds_the_originals_of_every_run(
    ldct: Callable[..., Ended], tmp_path: Path
) -> None:
    model, out = register(identity_config()).uri, tmp_path / "out"
    for number, name in enumerate(("one", "two")):
        write_case(tmp_path / name, number)
        (tmp_path / name / "broken.dcm").touch()
        assert ldct("apply", model, tmp_path / name, "--out", out).code == 4
    report = recorded(out)
    assert len(report["exported"]) == 2
    assert [row.get("source", 0) for row in report["quarantined"]] == [0, 1]
    cases = collect(out, key=KEY).cases
    assert [ORIGINAL in case.shown for case in cases.values()] == [True, True]
    # The same again: nothing is told twice.
    assert ldct("apply", model, tmp_path / "one", "--out", out).code == 4
    assert recorded(out)["quarantined"] == report["quarantined"][::-1]
    assert len(recorded(out)["exported"]) == 2


def test_simulated_and_denoised_series_share_a_record(
    ldct: Callable[..., Ended], tmp_path: Path, phantom_patients: Path
) -> None:
    model, out = register(identity_config()).uri, tmp_path / "out"
    source = phantom_patients / "1"
    assert ldct("simulate", source, "--dose", 0.5, "--out", out).code == 0
    assert ldct("apply", model, source, "--out", out).code == 0
    assert len(recorded(out)["exported"]) == 2
    (named,) = json.loads((out / "source.json").read_text())["sources"]
    assert not Path(named).is_absolute()
    assert (out / named).resolve() == source.resolve()


def test_a_report_of_another_program_is_left_alone(
    ldct: Callable[..., Ended], tmp_path: Path
) -> None:
    write_case(tmp_path / "in", 0)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text('{"mine": 1}')
    model = register(identity_config()).uri
    ended = ldct("apply", model, tmp_path / "in", "--out", tmp_path / "out")
    assert ended.code == 2
    assert "is no report of ldct" in ended.err
    assert [path.name for path in (tmp_path / "out").glob("[!.]*")] == ["report.json"]
    assert recorded(tmp_path / "out") == {"mine": 1}


def test_a_run_that_fails_on_the_way_says_what_was_done(
    ldct: Callable[..., Ended],
    tmp_path: Path,
    phantom_patients: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("of DOE^JANE")

    monkeypatch.setattr("flows.run.train_and_register", fail)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    out = tmp_path / "out"
    ended = ldct("run", CONFIG, "--data", phantom_patients, "--out", out, "--json")
    assert ended.code == 1
    report = recorded(out)
    assert report["error"] == "could not be processed (RuntimeError)"
    assert len(report["series"]) == 3
    assert [stage["stage"] for stage in report["stages"]] == ["ingest"]
    assert ended.json["series"] == report["series"]
    assert ended.json["error"]["details"]


def test_what_a_store_has_is_told_with_its_remarks(
    ldct: Callable[..., Ended], tmp_path: Path, phantom_patients: Path
) -> None:
    """What ingest remarked on reaches those who train and evaluate on the store."""
    source, store = tmp_path / "in", tmp_path / "store"
    shutil.copytree(phantom_patients, source)
    for path in (source / "1").glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
        dataset.save_as(path)
    ingested = ldct("ingest", source, "--store", store, "--json").json
    model = register(identity_config()).uri
    report = ldct("evaluate", model, "--store", store, "--json").json
    remarks = {row["series"]: row["warnings"] for row in report["series"]}
    assert remarks == {row["series"]: row["warnings"] for row in ingested["series"]}
    assert (
        sum("the source is itself a derived series" in str(found) for found in remarks.values())
        == 1
    )
    assert {row["side"] for row in report["series"]} >= {"train", "test"}
