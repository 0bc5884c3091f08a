"""A new task is one module in pipeline/tasks and one YAML: nothing else has to know it.

The task of this test, `smooth`, learns what a Gaussian blur makes of a slice. Its module is
written to a folder that is made part of the package pipeline.tasks for the test.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Ended

import pipeline.tasks
from pipeline.config.run import RunConfig

MODULE = '''
"""Smoothing: a network learns what a Gaussian blur makes of a slice."""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.utils.data import Dataset

from pipeline.config.component import build
from pipeline.config.run import RunConfig
from pipeline.config.sections import Component, NoGate, Register, Strict
from pipeline.core.atomic_files import write_json
from pipeline.core.errors import ConfigError
from pipeline.core.json_numbers import JsonRecord
from pipeline.core.verdicts import Check, Verdict
from pipeline.inference.denoise import apply_model
from pipeline.models.adapters.base import HUModel
from pipeline.config.sections import Normalize
from pipeline.tasks.base import Task


class SmoothGate(Strict):
    max_rmse_hu: float = 50.0


class SmoothRun(RunConfig):
    adapter: ClassVar[str] = "pipeline.tasks.smooth.adapter"

    task: Literal["smooth"]
    sigma_pixels: float = 1.0
    loss: Component = Field(description="say what to minimise")
    register_: Register[SmoothGate] = Field(alias="register")


def adapter(config):
    network = build(config.model, key="model", base=nn.Module)
    return HUModel(network, normalize=Normalize(), residual=True)


def smoothed(image_hu, config):
    return gaussian_filter(image_hu, (0, config.sigma_pixels, config.sigma_pixels))


class Slices(Dataset):
    def __init__(self, store, keys, config, length):
        images = np.concatenate([np.asarray(store.load(key).image_hu) for key in keys])
        self.length, self.images, self.targets = length, images, smoothed(images, config)

    def __len__(self):
        return self.length

    def __getitem__(self, item):
        pair = {"input": self.images, "target": self.targets}
        return {k: torch.from_numpy(v[item % len(v)][None]).float() for k, v in pair.items()}


class Rmse(JsonRecord):
    rmse_hu: float


class SmoothResult(JsonRecord):
    overall: Rmse
    patients: dict[str, Rmse]


class Smooth(Task[SmoothRun, SmoothResult]):
    result = SmoothResult
    takes_series = False

    def prepare(self, store, keys, config, progress=lambda done, total: None):
        pass

    def training_data(self, store, keys, config, length):
        return Slices(store, keys, config, length)

    def evaluate(self, model, store, keys, config, progress=lambda slices: None):
        rows = {}
        for key in keys:
            image_hu = np.asarray(store.load(key).image_hu)
            error_hu = apply_model(model, image_hu) - smoothed(image_hu, config)
            rows[key] = Rmse(rmse_hu=float(np.sqrt(np.mean(error_hu**2))))
        mean = float(np.mean([row.rmse_hu for row in rows.values()]))
        return SmoothResult(overall=Rmse(rmse_hu=mean), patients=rows)

    def judge(self, figures, config):
        limit, found = config.register_.gate.max_rmse_hu, figures.overall.rmse_hu
        return Verdict.of([Check.at_most("RMSE, HU", found, limit)])

    def headline(self, figures):
        return {"text": f"RMSE {figures.overall.rmse_hu:.1f} HU"}

    def export(self, model, card, source, to, config, progress=lambda slices: None):
        raise ConfigError(f"{card.uri} smooths for training only")

    def write_report(self, report, model, store, keys, config, *, curve, path):
        figures = SmoothResult.from_dict(report['metrics'])
        path.write_text(f"<p>{report['name']}: {self.headline(figures)['text']}</p>")


TASK = Smooth()
'''

YAML = """
name: smooth
task: smooth
sigma_pixels: 1.5
data: {split: {test: 0.3, validation: 0}}
model: {target: redcnn, args: {channels: 4, kernel: 3, padding: true}}
step: {target: supervised, args: {residual: true}}
loss: {target: mse}
train: {iterations: 2, batch: 2, device: cpu, precision: fp32}
windows: {soft_tissue: [40, 400]}
register: {name: smooth, gate: {max_rmse_hu: 500}}
"""


@pytest.fixture
def smooth_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The YAML of a run of the new task, whose module is there for this test."""
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "smooth.py").write_text(MODULE)
    monkeypatch.setattr(pipeline.tasks, "__path__", [*pipeline.tasks.__path__, str(folder)])
    path = tmp_path / "smooth.yaml"
    path.write_text(YAML)
    yield path
    RunConfig.types.pop("smooth", None)
    sys.modules.pop("pipeline.tasks.smooth", None)


def test_a_module_and_a_yaml_go_the_whole_way(
    smooth_yaml: Path, ldct: Callable[..., Ended], phantom_patients: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ended = ldct("run", smooth_yaml, "--data", phantom_patients, "--out", out)
    assert ended.code == 0, ended.err
    assert "rmse hu" in ended.out  # its closing table
    report = json.loads((out / "report.json").read_text())
    assert report["task"] == "smooth"
    assert report["metrics"]["overall"]["rmse_hu"] > 0
    assert report["gate"]["checks"][0]["limit"] == "<= 500.0"
    assert "RMSE" in (out / "report.html").read_text()
    assert ldct("models", "--json").json["models"][0]["headline"]["text"].startswith("RMSE")

    found = ldct("evaluate", "smooth/1", "--store", out / "store", "--json")
    assert found.json["figures"]["overall"] == report["metrics"]["overall"]
    assert "--phantoms: not for" in ldct("evaluate", "smooth/1", "--phantoms").err
    promoted = ldct("models", "promote", "smooth", "1")
    assert promoted.code != 0


def test_its_own_keys_are_checked_as_ours_are(
    smooth_yaml: Path, ldct: Callable[..., Ended], tmp_path: Path
) -> None:
    run = ("run", smooth_yaml, "--data", tmp_path, "--out", tmp_path / "out", "--set")
    assert "did you mean 'sigma_pixels'" in ldct(*run, "sigma_pixel=2").err
    assert "strength: not for the task smooth" in ldct(*run, "strength=0.5").err
    assert "model.args.chanels" in ldct(*run, "model.args.chanels=2").err
