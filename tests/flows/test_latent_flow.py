"""A generative run and `ldct latent`, as a user meets them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from conftest import Ended

from flows.cli.endings import GATE_FAILED

pytestmark = pytest.mark.usefixtures("own_registry")

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = [
    *("--set", "train.iterations=3", "--set", "train.batch=2"),
    *("--set", "generation.samples=20", "--set", "train.log_every=1"),
]


@pytest.fixture
def digits(ldct: Callable[..., Ended], tmp_path: Path) -> dict:
    """report.json of a run on digits."""
    ended = ldct("run", CONFIGS / "vae_digits.yaml", "--out", tmp_path / "out", *SMALL, "--json")
    assert ended.code == GATE_FAILED, ended.err  # so short a training passes no gate
    return ended.json


def test_digits_go_the_whole_way(
    digits: dict,
    ldct: Callable[..., Ended],
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    assert json.loads((out / "report.json").read_text(encoding="utf-8")) == digits
    assert digits["split"]["digits-0"] == "test"
    assert digits["exported"] == []
    assert digits["metrics"]["overall"]["images"] == 360
    for name in ("report.html", "samples.png", "reconstructions.png", "traversals.png"):
        assert (out / name).exists()
    # Three updates make no good digits: the gate says so, and no alias is given.
    assert digits["gate"]["passed"] is False
    assert digits["model"]["aliases"] == []

    uri = digits["model"]["uri"]
    store = ("--store", out / "store")
    for command in (
        ("sample", uri),
        ("reconstruct", uri, *store),
        ("interpolate", uri, "--label", "3"),
        ("traverse", uri, *store),
        ("interpolate", uri, *store),
        ("arithmetic", uri, *store, "--attribute", "thickness"),
        ("plot", uri, *store),
    ):
        shown = ldct("latent", *command, "--out", tmp_path / "shown", "--json")
        assert shown.code == 0, shown.err
        assert Path(shown.json["files"][0]).name == f"{command[0]}.png"
        assert Path(shown.json["files"][0]).exists()

    asked = (uri, *store, "--attribute", "label=3", "--out", tmp_path / "shown")
    undone = ldct("latent", "arithmetic", *asked)
    assert undone.code == 2
    assert "codes do not hold it" in undone.err
    refused = ldct("latent", "sample", uri, "--out", tmp_path / "shown", "--dicom")
    assert refused.code == 2
    assert "grey levels" in refused.err
    table = ldct("models", "show", "vae_digits")
    assert "active latents" in table.out


def test_ct_goes_the_whole_way_to_a_synthetic_series(
    ldct: Callable[..., Ended],
    phantom_patients: Path,
    tmp_path: Path,
) -> None:
    small = [
        *("--set", "model.args.channels=[4, 4, 4, 4]", "--set", "model.args.latents=4"),
        *("--set", "generation.image_size=[32, 32]", "--set", "model.args.image_size=[32, 32]"),
    ]
    config = CONFIGS / "vae_ct.yaml"
    nothing = ldct("run", config, "--out", tmp_path / "none")
    assert nothing.code == 2
    assert "--data" in nothing.err
    out = tmp_path / "out"
    ended = ldct("run", config, "--data", phantom_patients, "--out", out, *SMALL, *small, "--json")
    assert ended.code == GATE_FAILED, ended.err
    uri = ended.json["model"]["uri"]
    # Two held-back slices tell of copies, and of nothing else.
    assert set(ended.json["metrics"]["overall"]["samples"]) == {
        "count",
        "copies",
        "nearer_to_training",
    }
    shown = ldct("latent", "sample", uri, "--count", 3, "--out", tmp_path / "made", "--dicom")
    assert shown.code == 0, shown.err
    made = sorted((tmp_path / "made" / "synthetic-sample").iterdir())
    assert len(made) == 3
    assert pydicom.dcmread(made[0]).PatientName == "SYNTHETIC^Nobody"
    applied = ldct("apply", uri, phantom_patients, "--out", tmp_path / "applied")
    assert applied.code != 0
    assert "ldct latent" in applied.err
