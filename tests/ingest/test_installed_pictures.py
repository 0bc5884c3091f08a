"""Photographs of Debian packages: used where they are installed, named where they are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.restore import drawing, run
from PIL import Image as PillowImage

from pipeline.core.pseudonyms import installation_key
from pipeline.core.refusals import Disposition
from pipeline.ingest import installed_pictures
from pipeline.ingest.installed_pictures import LONGEST_SIDE, PHOTOGRAPHS, installed_picture
from pipeline.store.store import Store
from pipeline.tasks.base import task_of

NOISE = {"target": "gaussian_noise", "args": {"sigma": 20}}
PACKAGE, OTHER = "mate-backgrounds", "lomiri-wallpapers-16.04"


def test_packages_are_learned_from_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run(NOISE, restoration={"source": "shipped", "installed": [PACKAGE, OTHER]})
    monkeypatch.setattr(installed_pictures, "BACKGROUNDS", tmp_path)
    there = tmp_path / PHOTOGRAPHS[PACKAGE][0]
    there.parent.mkdir(parents=True)
    pixels = np.moveaxis(drawing(1).astype(np.uint8), 0, -1)
    PillowImage.fromarray(pixels).save(there)
    store = Store(tmp_path / "store")
    report = task_of(config).ingest(None, store, config, key=installation_key())
    patients = {row.patient for row in report.series}
    assert {"installed-Aqua", "shipped-camera", "shipped-cat"} <= patients
    assert task_of(config).usable(store, "installed-Aqua-grey", config)
    [absent] = report.refusals
    assert absent.disposition is Disposition.EXCLUDED
    assert absent.reason == f"{OTHER} is not installed; bash .ci/install-pictures installs it"


def test_a_large_photograph_is_reduced_and_keeps_its_shape(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    PillowImage.new("RGB", (3000, 2000), (200, 100, 50)).save(path, quality=95)
    levels = installed_picture(path)
    assert levels.shape == (3, round(LONGEST_SIDE * 2 / 3), LONGEST_SIDE)
    np.testing.assert_allclose(levels.mean(axis=(1, 2)), [200, 100, 50], atol=1.5)


def test_sequences_are_made_of_installed_photographs_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restoration = {"source": "moving", "neighbours": 1, "installed": [PACKAGE, OTHER]}
    step = {"target": "temporal_consistency", "args": {"residual": True}}
    config = run(NOISE, restoration=restoration, step=step)
    monkeypatch.setattr(installed_pictures, "BACKGROUNDS", tmp_path)
    there = tmp_path / PHOTOGRAPHS[PACKAGE][0]
    there.parent.mkdir(parents=True)
    PillowImage.fromarray(np.moveaxis(drawing(1).astype(np.uint8), 0, -1)).save(there)
    store = Store(tmp_path / "store")
    report = task_of(config).ingest(None, store, config, key=installation_key())
    slices = {row.patient: row.slices for row in report.series}
    assert slices["moving-installed-Aqua"] == slices["moving-camera"] == 12
    assert [one.reason.split()[0] for one in report.refusals] == [OTHER]
