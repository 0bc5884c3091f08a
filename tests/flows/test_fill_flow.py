"""`ldct latent fill`, as a user meets it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Ended
from helpers.fill import CONFIG, DIGITS, waves
from helpers.fill_series import DISC, series_of, stored, with_metal
from PIL import Image

from flows.tracking.registration import NewVersion, register
from flows.tracking.registry import Registry
from pipeline.config.load import parse_config
from pipeline.core.verdicts import Verdict
from pipeline.evaluation.generation import GenerationOverall, GenerationResult

pytestmark = pytest.mark.usefixtures("own_registry")
PASSED = Verdict(checks=())


def registered(config: dict) -> str:
    """The name of a generator with known answers, in the test's own registry."""
    parsed, registry = parse_config(config), Registry.default()
    with registry.run(parsed, data_digest="0" * 64) as run:
        figures = GenerationResult(overall=GenerationOverall(), patients={})
        new = NewVersion(waves(config), parsed, "0" * 64, figures, PASSED)
        return register(registry, run, new).name


def test_metal_of_a_series_is_made_up_and_checked(
    ldct: Callable[..., Ended], tmp_path: Path
) -> None:
    name = registered(CONFIG)
    source = series_of(with_metal(), tmp_path / "source")
    out = tmp_path / "out"
    done = ldct(
        "latent", "fill", name, source, "--out", out, "--region", "metal", "--moves", 60, "--json"
    )
    assert done.code == 0, done.err
    assert json.loads((out / "report.json").read_text(encoding="utf-8"))["exported"]
    (row,) = done.json["exported"]
    assert row["pixels"] > 2 * DISC.sum()
    folders = sorted(path.name for path in out.iterdir() if path.is_dir())
    assert folders == [row["folder"], f"{row['folder']}-region"]
    checked = ldct("check", out, "--source", source)
    assert checked.code == 0, checked.out

    series_of(stored(4), tmp_path / "without")
    nothing = ldct(
        "latent", "fill", name, tmp_path / "without", "--out", tmp_path / "o", "--region", "metal"
    )
    assert nothing.code == 1
    assert "nothing to do" in nothing.err
    other = ldct(
        "latent", "fill", "redcnn@pretrained", source, "--out", tmp_path / "o", "--region", "metal"
    )
    assert other.code == 2
    assert "no space of codes" in other.err


def test_pictures_of_a_folder_come_back_by_their_names(
    ldct: Callable[..., Ended], tmp_path: Path
) -> None:
    name = registered(CONFIG | {"generation": DIGITS})
    for folder in ("in", "masks"):
        (tmp_path / folder).mkdir()
    mask = np.zeros((16, 16), np.uint8)
    mask[5:9, 5:9] = 255
    for number in range(2):
        Image.fromarray(np.full((16, 16), 3, np.uint8) + mask // 85).save(
            tmp_path / "in" / f"{number}.png"
        )
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
    call = ("latent", "fill", name, tmp_path / "in", "--region", tmp_path / "masks", "--moves", 30)
    done = ldct(*call, "--out", tmp_path / "out", "--sequence", "--json")
    assert done.code == 0, done.err
    assert [row["file"] for row in done.json["exported"]] == ["0.png", "1.png"]
    made = np.asarray(Image.open(tmp_path / "out" / "0.png"))
    assert (made[mask == 0] == 3).all()
    own = ldct(*call, "--out", tmp_path / "in")
    assert own.code == 2
    assert "folder of the pictures" in own.err
