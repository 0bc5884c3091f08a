"""A run refuses at its start what it can know then, before anything heavy is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.config.load import load_config
from pipeline.core.errors import ConfigError
from pipeline.training.start_check import check_run

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_run_passes_and_draws_nothing(path: Path) -> None:
    config = load_config(path, ["train.device=cpu", "train.precision=fp32"])
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    check_run(config)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("name", "override", "named"),
    [
        ("denoise_redcnn", "model.args.chanels=8", "model.args.chanels.*'channels'"),
        ("denoise_redcnn", "model.target=os.system", "model.target: os.system is not allowed"),
        ("denoise_redcnn", "model.target=redcn", "did you mean 'redcnn'"),
        ("denoise_redcnn", "model.target=supervised", "model.target: .*not a Module"),
        ("denoise_redcnn", "step.args.residul=true", "step.args.residul.*'residual'"),
        ("denoise_redcnn", "loss.args.hgih=1", "loss.args.hgih.*'high'"),
        ("denoise_redcnn", "degradation.args.dose=0.5", "degradation.args.dose.*dose_fraction"),
        ("denoise_redcnn", "degradation.args.dose_fraction=2", "degradation.args"),
        ("denoise_redcnn", "train.start_from=/nowhere", "train.start_from: /nowhere"),
        ("denoise_pix2pix", "step.args.objective.target=redcnn", "objective"),
        ("segment_organs", "loss.args.smoth=1", "loss.args.smoth"),
        ("segment_organs", "step.target=nothing", "step.target: nothing"),
        ("deblur", "restoration.target={target: jpg}", "restoration.target"),
        ("super_resolve", "model.args.scale=4", "model.args.scale"),
        ("denoise_sequence", "restoration.neighbours=null", r"set restoration\.neighbours"),
        ("label_to_video_style", "restoration.neighbours=null", r"set restoration\.neighbours"),
        ("denoise_redcnn", "step={target: temporal_consistency}", "learns of two places"),
        (
            "denoise_sequence",
            "step={target: supervised}",
            r"restoration\.neighbours: .*leave it out",
        ),
        ("vae_ct", "model.args.latnt=4", "model.args.latnt"),
    ],
)
def test_what_cannot_be_built_is_named(name: str, override: str, named: str) -> None:
    config = load_config(CONFIGS / f"{name}.yaml", [override])
    with pytest.raises(ConfigError, match=named) as refused:
        check_run(config)
    assert "\n" not in str(refused.value)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"train\.device: cuda"):
        check_run(load_config(CONFIGS / "denoise_redcnn.yaml", ["train.device=cuda"]))


IMPORTED = """
import json, sys
from flows.cli.app import main
sys.argv = ["ldct", *json.loads(sys.argv[1])]
try:
    main()
except SystemExit as ended:
    heavy = [name for name in ("prefect", "mlflow", "monai") if name in sys.modules]
    print(json.dumps([ended.code, heavy]))
"""


@pytest.mark.parametrize(
    "override", ["model.args.chanels=8", "model.target=os.system", "train.iteratons=5"]
)
def test_a_mistake_costs_no_heavy_import(override: str, tmp_path: Path) -> None:
    command = ["run", "denoise_redcnn", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    ran = subprocess.run(
        [sys.executable, "-c", IMPORTED, json.dumps([*command, "--set", override])],
        capture_output=True,
        text=True,
        cwd=CONFIGS.parent,
        check=True,
    )
    assert json.loads(ran.stdout.splitlines()[-1]) == [2, []], ran.stderr
    assert not (tmp_path / "out").exists()
