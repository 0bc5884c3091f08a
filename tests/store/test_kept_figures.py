"""Figures are kept under all that they depend on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from helpers.images import tiny_store

from pipeline.core.label_map import LabelMap
from pipeline.store import kept_figures
from pipeline.store.kept_figures import KeptFigures
from pipeline.store.store import Store

ASKED = {"weights_sha256": "a", "strength": 1.0, "config": {"name": "tiny"}, "device": "cpu"}
FIGURES = {"psnr": 30.25, "series": ["s-0"]}


def other_labels(store: Store) -> None:
    labels = np.zeros(store.record("s-0").shape, np.uint16)
    store.add_labels("s-0", "organs", LabelMap(labels, {1: "liver"}, "here", {}))


def other_voxels(store: Store) -> None:
    volume = store.load("s-0")
    brighter = replace(volume, image_hu=np.asarray(volume.image_hu) + 1)
    store.add(brighter, key="s-0", patient="p-0")


@pytest.mark.parametrize(
    "change", [other_labels, other_voxels, lambda s: s.record_split({"p-0": "test"})]
)
def test_another_state_of_the_store_has_figures_of_its_own(
    tmp_path, change: Callable[[Store], None]
):
    store = tiny_store(tmp_path / "store", patients=1)
    KeptFigures(store, ["s-0"], ASKED).write(FIGURES)
    assert KeptFigures(store, ["s-0"], ASKED).read() == FIGURES
    change(store)
    assert KeptFigures(store, ["s-0"], ASKED).read() is None


def test_another_model_code_or_package_has_figures_of_its_own(tmp_path, monkeypatch):
    store = tiny_store(tmp_path / "store", patients=1)
    kept = KeptFigures(store, ["s-0"], ASKED)
    kept.write(FIGURES)
    for name in ASKED:
        assert KeptFigures(store, ["s-0"], {**ASKED, name: "other"}).read() is None
    assert KeptFigures(store, [], ASKED).read() is None
    for name, other in (("code_digest", lambda: "other"), ("versions", lambda: {"torch": "9"})):
        with monkeypatch.context() as patch:
            patch.setattr(kept_figures, name, other)
            assert KeptFigures(store, ["s-0"], ASKED).read() is None
    kept.path.write_text("{")
    assert kept.read() is None
