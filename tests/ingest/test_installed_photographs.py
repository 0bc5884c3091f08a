"""Installed photographs beside the bundled ones of a generative run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.restore import drawing
from PIL import Image as PillowImage

from pipeline.config.load import parse_config
from pipeline.config.names import digest, historical_form
from pipeline.core.errors import ConfigError
from pipeline.core.pseudonyms import installation_key
from pipeline.ingest import installed_pictures
from pipeline.ingest.installed_photographs import LONGEST_SIDE
from pipeline.ingest.installed_pictures import PHOTOGRAPHS
from pipeline.store.store import Store
from pipeline.tasks.base import task_of

PACKAGE, OTHER = "mate-backgrounds", "lomiri-wallpapers-16.04"
RUN: dict[str, Any] = {
    "name": "coder",
    "task": "generate",
    "generation": {"source": "photographs"},
    "model": {"target": "vqvae"},
    "step": {"target": "vector_quantised"},
    "loss": {"target": "multi_scale_ssim"},
    "train": {"iterations": 1},
    "windows": {"grey": [127.5, 255]},
    "register": {"name": "coder"},
}


def test_they_are_learned_from_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse_config(
        RUN | {"generation": {"source": "photographs", "installed": [PACKAGE, OTHER]}}
    )
    monkeypatch.setattr(installed_pictures, "BACKGROUNDS", tmp_path)
    there = tmp_path / PHOTOGRAPHS[PACKAGE][0]
    there.parent.mkdir(parents=True)
    pixels = np.moveaxis(drawing(1).astype(np.uint8), 0, -1)
    large = PillowImage.fromarray(pixels).resize((1280, 800), PillowImage.Resampling.BICUBIC)
    large.save(there, quality=95)
    store = Store(tmp_path / "store")
    report = task_of(config).ingest(None, store, config, key=installation_key())
    assert {row.patient for row in report.series} == {
        "photographs-Aqua",
        *(f"photographs-{number}" for number in range(9)),
    }
    [absent] = report.refusals
    assert absent.reason == f"{OTHER} is not installed; bash .ci/install-pictures installs it"
    volume = store.load("photographs-Aqua")
    assert volume.image_hu.shape == (1, round(LONGEST_SIDE * 800 / 1280), LONGEST_SIDE)
    luma = np.asarray(large, dtype=float) @ [0.2125, 0.7154, 0.0721]
    assert volume.image_hu.mean() == pytest.approx(luma.mean(), abs=1)
    labels = [store.load(row.patient).provenance["labels"] for row in report.series]
    assert sorted(labels) == [[number] for number in range(10)], "each has one of its own"


def test_they_stand_beside_photographs_alone() -> None:
    with pytest.raises(ConfigError, match="installed: beside the source photographs, not digits"):
        parse_config(RUN | {"generation": {"source": "digits", "installed": [PACKAGE]}})


def test_a_run_without_them_is_the_run_that_it_was() -> None:
    without = parse_config(RUN).model_dump(mode="json", by_alias=True)
    assert without["generation"]["installed"] == []
    assert "installed" not in historical_form(without)["generation"]
    found = parse_config(RUN | {"generation": {"source": "photographs", "installed": [PACKAGE]}})
    assert digest(found.model_dump(mode="json", by_alias=True)) != digest(without)
