"""A denoiser on a hospital's own series: figures, digest, and what the registry makes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.dicom import write_series
from helpers.flows import registry_waiting_for
from helpers.images import run_config
from typer.testing import CliRunner

import flows.qualify
from flows.cli.app import app
from flows.runtime.progress import StageProgress
from flows.tracking.qualification import record_qualification
from flows.tracking.registry import Registry
from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.core.verdicts import QUALIFIED_AT, READER_STUDY
from pipeline.core.volume import Volume
from pipeline.evaluation.contrast_table import TableRequest
from pipeline.evaluation.gates import judge_denoising
from pipeline.evaluation.qualification import Qualification, QualifyRequest, qualify
from pipeline.models.adapters.base import Identity
from pipeline.models.adapters.card import LoadedModel, ModelCard
from pipeline.report.qualification import write_qualification
from pipeline.store.store import Store

CARD = ModelCard("m", 1, "w" * 64, "c" * 64, "d" * 64, 0)
REQUEST = QualifyRequest(
    doses=(0.25,),
    site="north",
    phantom_slices=2,
    table=TableRequest(
        doses=(0.25, 1.0),
        contrasts_hu=(20.0,),
        realisations=1,
        strengths=(1.0,),
        regions=16,
    ),
)


class Darker(Identity):
    """5 HU below what it was given."""

    def forward(self, image_hu: torch.Tensor) -> torch.Tensor:
        return image_hu - 5


def water(noise_hu: float) -> Volume:
    """A cylinder of soft tissue with smoothed noise, in air."""
    rows, columns = np.indices((160, 160)) - 79.5
    truth = np.where(np.hypot(rows, columns) < 70, 40.0, -1000.0)
    image_hu = truth + np.random.default_rng(0).normal(0, noise_hu, (3, 160, 160))
    return Volume(
        image_hu=image_hu.astype(np.float32),
        valid=np.ones(image_hu.shape, dtype=bool),
        affine_lps=np.diag([1.5, 1.5, 5.0, 1.0]),
        slice_origins_mm=np.array([[0, 0, 5.0 * n] for n in range(3)]),
        provenance={"warnings": [], "SliceThickness": 5.0, "Manufacturer": "SIEMENS"},
    )


def qualified(
    folder: Path, model: torch.nn.Module, *extra: Volume, request: QualifyRequest = REQUEST
) -> Qualification:
    store = Store(folder)
    for number, volume in enumerate((water(20), *extra)):
        store.add(volume, key=f"s-{number}", patient=f"p-{number}")
    loaded = LoadedModel(model.eval(), CARD, run_config())  # type: ignore[arg-type]
    return qualify(loaded, store, request, StageProgress)


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Qualification:
    """Of a model that changes nothing, on one series and one that is empty."""
    empty = replace(water(1), image_hu=np.full((3, 160, 160), -1000, np.float32))
    return qualified(tmp_path_factory.mktemp("store"), Identity(), empty)


@pytest.fixture(scope="module")
def darker(tmp_path_factory: pytest.TempPathFactory) -> Qualification:
    """Of a model that is 5 HU off, without an observer, whom that does not matter to."""
    assert REQUEST.table is not None
    request = replace(REQUEST, table=replace(REQUEST.table, observer=False))
    return qualified(tmp_path_factory.mktemp("store"), Darker(), request=request)


def test_a_model_that_changes_nothing_is_worth_no_dose(unchanged: Qualification):
    (row,) = unchanged.series
    assert (row.series, row.slices, row.measured_slices) == ("s-0", 3, [1, 2, 3])
    assert "not known" in row.drift_line
    assert list(unchanged.refused) == ["s-1"]
    quarter, full = row.doses
    assert (quarter.dose_fraction, full.dose_fraction) == (0.25, 1.0)
    # Noise of quanta doubles; what is inserted has the noise's own level, not quite its spectrum.
    assert quarter.noise_hu / full.noise_hu == pytest.approx(2, rel=0.25)
    assert quarter.noise_left_hu == quarter.noise_hu
    assert quarter.rmse_left_hu == quarter.rmse_hu > 10
    assert full.rmse_hu == full.rmse_left_hu == 0
    assert abs(quarter.bias["soft_tissue"].bias_hu or 0) < 2
    assert unchanged.contrast.scanner.photons_per_ray_at_full_dose == pytest.approx(
        row.photons_per_ray
    )
    observer = unchanged.contrast.observer
    assert observer is not None
    assert observer.equivalent_dose_all_rods is not None
    assert observer.equivalent_dose_all_rods.dose == pytest.approx(1, abs=0.01)
    assert unchanged.passed
    assert [error.slice for error in unchanged.worst if error.dose_fraction == 0.25] != []


def test_a_bias_beyond_the_gate_fails_at_every_dose(darker: Qualification):
    assert not darker.passed
    failed = {check.name: check.figure for check in darker.verdict.failed}
    assert failed["HU bias in soft_tissue at 100 % dose"] == pytest.approx(-5, abs=0.01)
    assert failed["HU bias in soft_tissue at 25 % dose"] == pytest.approx(-5, abs=2)


def test_the_digest_is_of_model_data_version_and_request(
    unchanged: Qualification, darker: Qualification
) -> None:
    again = Qualification.from_dict(json.loads(json.dumps(unchanged.to_dict())))
    assert again.to_dict() == unchanged.to_dict()
    # The same weights by name, other data.
    assert unchanged.digest != darker.digest
    assert unchanged.data_digest != darker.data_digest


def test_the_page_tells_drift_first_and_loads_nothing(unchanged: Qualification, tmp_path: Path):
    write_qualification(unchanged, tmp_path / "q.html")
    page = (tmp_path / "q.html").read_text(encoding="utf-8").split("</head>")[1]
    assert page.index("not known") < page.index("<h1>")
    for part in (unchanged.digest, "Worst slices", "What survives", "at north", "s-1: "):
        assert part in page
    assert "undefined" not in page.lower()


def test_what_cannot_be_qualified_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--site"):
        QualifyRequest(site="north wing")
    with pytest.raises(ConfigError, match="below 1"):
        QualifyRequest(doses=(1.0,))
    loaded = LoadedModel(Identity(), CARD, run_config())  # type: ignore[arg-type]
    with pytest.raises(NothingUsableError, match="no series"):
        qualify(loaded, Store(tmp_path), REQUEST, StageProgress)


def test_a_command_writes_page_and_figures(
    unchanged: Qualification, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[QualifyRequest] = []

    def found(loaded: Any, store: Store, request: QualifyRequest, progress: Any) -> Qualification:
        assert len(store.records()) == 1
        asked.append(request)
        return unchanged

    monkeypatch.setattr(flows.qualify, "qualify", found)
    write_series(tmp_path / "in", 3)
    words = ["qualify", "swift@pretrained", tmp_path / "in", "--out", tmp_path / "out"]
    result = CliRunner().invoke(app, [*map(str, words), "--site", "north", "--doses", "0.5"])
    assert result.exception is None, result.output
    assert (asked[0].doses, asked[0].site) == ((0.5, 1.0), "north")
    kept = json.loads((tmp_path / "out" / "qualification.json").read_text())
    assert kept["digest"] == unchanged.digest
    assert (tmp_path / "out" / "qualification.html").exists()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "qualification.html",
        "qualification.json",
    ], "no volume is left behind"
    assert unchanged.digest in result.output.replace("\n", "")


GATE = {"psnr_gain_db": 1.0, "qualified": "north"}


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """With one version whose gate waits for a hospital alone."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return registry_waiting_for("qualified at north")


@pytest.mark.parametrize(("site", "passed"), [("north", True), ("north", False), ("south", True)])
def test_a_gate_that_waits_for_a_site_lets_serve_once_it_passed(
    registry: Registry, unchanged: Qualification, site: str, passed: bool
) -> None:
    found = unchanged.model_copy(update={"site": site, "passed": passed})
    record_qualification(registry, "m/1", found)
    version = registry.find("m/1")
    serves = passed and site == "north"
    assert list(version.aliases) == (["champion"] if serves else [])
    assert version.tags["gate"] == ("passed" if serves else "failed")
    outcome = "passed" if passed else "failed"
    assert version.tags[f"qualified.{site}"] == outcome
    assert version.tags[f"qualified.{site}.digest"] == unchanged.digest
    (row,) = registry.list()
    assert row.qualified == {site: outcome}
    local = registry.client.download_artifacts(version.run_id, f"qualification-{site}.json")
    assert json.loads(Path(local).read_text())["digest"] == unchanged.digest
    verdict = registry.recorded(version).verdict_by(version.tags)
    assert [check.passed for check in verdict.checks] == [True, serves]


def test_a_run_that_asks_for_a_site_waits_for_it():
    config = run_config(register={"name": "m", "gate": GATE})
    overall = type("Overall", (), {"windows": {}, "hu_bias": {"output": {}}})()
    verdict = judge_denoising(overall, config.register_.gate)
    assert [check.name for check in verdict.failed] == [f"{QUALIFIED_AT}north"]
    assert READER_STUDY not in verdict.reasons
    with pytest.raises(ConfigError, match="qualified"):
        run_config(register={"name": "m", "gate": {"qualified": "north wing"}})
