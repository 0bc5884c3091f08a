"""Versions ranked by their metrics, in MLflow and by `ldct models`; versions without any."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from conftest import Ended
from helpers.flows import identity_config, register

from flows.tracking.image_metrics import image_metrics
from flows.tracking.registry import Registry
from pipeline.core.units import Window
from pipeline.metrics.image import psnr_db

pytestmark = pytest.mark.usefixtures("own_registry")
PSNR, RMSE = "test.soft_tissue.output.psnr", "test.soft_tissue.output.rmse_hu"


def register_before_metrics() -> None:
    """A version as those before were: its files in its run, no metrics, no card."""
    found = Registry.default()
    client = found.client
    run = client.create_run(client.get_experiment_by_name("identity").experiment_id)
    client.log_metric(run.info.run_id, "loss", 0.5)
    tags = {"gate": "passed", "headline": json.dumps({"text": "as it was"})}
    client.create_model_version("identity", "unused", run_id=run.info.run_id, tags=tags)


def test_a_version_has_its_figures_its_card_and_one_copy_of_the_weights(tmp_path: Path) -> None:
    card = register(identity_config(), psnr_db=31.5)
    client = Registry.default().client
    version = client.get_model_version(card.name, card.version)
    run = client.get_run(version.run_id)
    (model,) = run.outputs.model_outputs
    assert version.source == f"models:/{model.model_id}"
    of_model = {each.key: each.value for each in client.get_logged_model(model.model_id).metrics}
    assert of_model == run.data.metrics
    assert of_model[PSNR] == 31.5
    assert of_model["test.bias_hu.lung"] == -0.5
    assert "test.bias_hu.bone" not in of_model, "not measured, so not there"
    assert {"task": "denoise", "dose": "0.5"}.items() <= version.tags.items()
    assert run.data.params["degradation.args.dose_fraction"] == "0.5"
    assert f"| `{PSNR}` | 31.5 |" in version.description
    assert run.data.tags["mlflow.note.content"] == version.description
    suffixes = [path.suffix for path in (tmp_path / "mlruns").rglob("*")]
    copies = {suffix: suffixes.count(suffix) for suffix in (".safetensors", ".pt2", ".pkl", ".pth")}
    assert copies == {".safetensors": 1, ".pt2": 0, ".pkl": 0, ".pth": 0}
    (environment,) = (tmp_path / "mlruns").rglob("environment.txt")
    packages = environment.read_text().splitlines()[1:]
    assert any(line.startswith("torch==") for line in packages)
    assert not [line for line in packages if "/" in line or "@" in line]


def test_figures_of_a_hundred_classes_are_all_kept() -> None:
    registry = Registry.default()
    with registry.run(identity_config(), data_digest="0" * 64) as run:
        metrics = {f"test.class.organ_{number}.dice": number / 2000 for number in range(1500)}
        run.log_test(metrics, None)
    assert registry.client.get_run(run.run_id).data.metrics == metrics


def test_models_are_sorted_and_chosen_by_any_metric(ldct: Callable[..., Ended]) -> None:
    for figure in (31.0, 33.0, 32.0):
        register(identity_config(), psnr_db=figure)
    register_before_metrics()

    def order(*options: str) -> list[int]:
        found = ldct("models", "--json", *options)
        assert found.code == 0, found.err
        return [row["version"] for row in found.json["models"]]

    assert order("--sort", PSNR) == [2, 3, 1, 4]
    assert order("--sort", PSNR, "--ascending") == [1, 3, 2, 4]
    assert order("--sort", PSNR, "--where", f"{PSNR} >= 32") == [2, 3]
    assert order("--where", "alias = champion") == [1]
    assert order("--where", "task = denoise", "--where", f"{RMSE}<10") == []
    ended = ldct("models", "--sort", PSNR, "--json").json
    assert ended["models"][-1]["metrics"] == {"loss": 0.5}, "nothing is made up for it"
    assert ended["without_metric"] == {PSNR: 1}
    shown = ldct("models", "--sort", PSNR)
    assert "1 version without test.soft_tissue.output.psnr" in shown.out
    assert "33.0000" in shown.out
    assert max(map(len, shown.out.splitlines()[:-1])) <= 80


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--sort", "test.psnr"),
            "no version has a metric test.psnr; there are: test.bias",
        ),
        (("--where", "test.slices"), "expected NAME, one of"),
        (("--where", "test.slices > many"), "'many' is no number"),
        (("--where", "task > denoise"), "compare by = or !="),
    ],
)
def test_what_cannot_be_asked_says_what_can(
    ldct: Callable[..., Ended], options: tuple[str, ...], message: str
) -> None:
    register(identity_config())
    ended = ldct("models", *options)
    assert ended.code == 2
    assert message in ended.err


def test_mlflow_evaluates_a_version_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    card = register(identity_config())
    generator = np.random.default_rng(0)
    inputs = [generator.normal(0, 50, shape).astype(np.float32) for shape in ((40, 32), (32, 48))]
    targets = [np.zeros_like(image_hu) for image_hu in inputs]
    found = mlflow.models.evaluate(
        card.uri,
        data=pd.DataFrame({"input_hu": inputs, "target_hu": targets}),
        targets="target_hu",
        extra_metrics=image_metrics(centre_hu=40, width_hu=400),
    ).metrics
    window = Window(40, 400)
    expected = np.mean([psnr_db(i, t, window) for i, t in zip(inputs, targets, strict=True)])
    assert found["psnr/mean"] == pytest.approx(expected, abs=1e-3)
    assert found.keys() >= {"ssim/mean", "rmse_hu/mean"}
