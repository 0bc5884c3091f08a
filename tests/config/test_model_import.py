"""The YAML of a model from elsewhere is data: nothing in it reaches code."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config.model_import import load_import
from pipeline.config.task_runs import DenoiseRun, SegmentRun
from pipeline.core.errors import ConfigError
from pipeline.models.adapters.base import build_model
from pipeline.models.adapters.segmenter import SegmentationModel

SEGMENTER: dict[str, Any] = {
    "name": "organs_from_elsewhere",
    "task": "segment",
    "weights": "weights.pt",
    "network": {"name": "UNet", "args": {"channels": [8, 16], "strides": [2]}},
    "source": "A. Author, example.org/organs, 2025",
    "licence": "CC-BY-4.0",
    "normalize_hu": {"centre": -175, "scale": 425},
    "clip_hu": [-175, 250],
    "classes": ["liver", "spleen"],
    "axes": "RAS",
    "spacing_mm": [0.8, 1.2, 2.5],
    "patch": [64, 48, 16],
    "test_time_flips": [0],
}
DENOISER: dict[str, Any] = {
    "name": "denoiser_from_elsewhere",
    "task": "denoise",
    "weights": "weights.pt",
    "network": {"name": "BasicUNet", "args": {"features": [8, 8, 16, 16, 16, 8]}},
    "source": "B. Author, example.org/denoiser",
    "licence": "MIT",
    "normalize_hu": {"centre": 0, "scale": 1000},
    "residual": True,
}


def written(raw: dict[str, Any], folder: Path) -> Path:
    path = folder / "import.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def test_sizes_along_the_networks_axes_become_those_of_the_working_grid(tmp_path: Path) -> None:
    run = load_import(written(SEGMENTER, tmp_path)).run(weights_sha256="0" * 64)
    assert isinstance(run, SegmentRun)
    grid = run.grid
    assert grid.spacing_mm == (2.5, 1.2, 0.8), "slices, rows, columns"
    assert grid.patch == [16, 48, 64]
    assert grid.test_time_flips == (2,), "the columns"
    assert grid.channels == 3
    assert grid.multiple == 1
    assert run.imported is not None
    assert run.imported.licence == "CC-BY-4.0"


def test_the_example_of_the_page_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "other-software.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.S)
    (tmp_path / "import.yaml").write_text(example)
    run = load_import(tmp_path / "import.yaml").run(weights_sha256="0" * 64)
    assert isinstance(build_model(run), SegmentationModel)


def test_a_denoiser(tmp_path: Path) -> None:
    run = load_import(written(DENOISER, tmp_path)).run(weights_sha256="0" * 64)
    assert isinstance(run, DenoiseRun)
    assert run.model.target == "monai.networks.nets.BasicUNet"
    assert run.model.args["spatial_dims"] == 2
    assert run.step.args == {"residual": True}
    assert run.degradation is not None


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("network.name", "os.system", "network.name: Input should be 'AttentionUnet'"),
        ("network.name", "monai.networks.nets.UNet", "network.name: Input should be"),
        ("network.args.act", "$__import__('os')", "is an expression or a reference; none is run"),
        ("network.args.act", ["@net", 1], "is an expression or a reference"),
        ("network.args.act", {"_target_": "os.system"}, "_target_: a special key; none is read"),
        ("network.args.dropout", float("inf"), "expected a finite number"),
        ("network.args.out_channels", 7, "7, but 3 follows from the other settings"),
        ("network.args.channel", [8], "has no such argument; did you mean 'channels'"),
        ("classes", [], "classes: missing"),
        ("classes", ["liver", "liver"], "liver is listed more than once"),
        ("axes", "RLS", "axes: RLS does not name each of 3 directions once"),
        ("axes", "RA", "patch: expected as many sizes as axes, RA"),
        ("licence", "", "licence: String should have at least 1 character"),
        ("scripts", "x.py", "scripts: Extra inputs are not permitted"),
        ("residual", True, "residual, gate: not for a segmenter"),
    ],
)
def test_what_is_refused(path: str, value: Any, message: str, tmp_path: Path) -> None:
    raw = copy.deepcopy(SEGMENTER)
    *sections, last = path.split(".")
    node = raw
    for section in sections:
        node = node[section]
    node[last] = value
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        build_model(load_import(written(raw, tmp_path)).run(weights_sha256="0" * 64))
