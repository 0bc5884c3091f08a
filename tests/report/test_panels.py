"""Which slices the report shows: the worst first, each once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.images import add_inputs, run_config, tiny_store

from pipeline.core.units import Window
from pipeline.degradations.digest import degradation_digest
from pipeline.evaluation.denoising import evaluate_store
from pipeline.metrics.conventions import CONVENTIONS
from pipeline.models.adapters.base import Identity
from pipeline.report.slice_selection import MAX_PANELS, choose_panels

KEYS = ["s-0", "s-1", "s-2"]


def worse(store, config, key: str, index: int, noise_hu: float) -> None:
    """More noise in one slice of the inputs."""
    digest = degradation_digest(config, 0)
    input_hu = np.array(store.load_degraded(key, digest))
    noise = np.random.default_rng(9).standard_normal(input_hu[index].shape)
    input_hu[index] = store.load(key).image_hu[index] + noise_hu * noise
    store.save_degraded(key, digest, input_hu.astype(np.float32))


def test_the_worst_slice_comes_first_and_no_slice_twice(tmp_path: Path) -> None:
    store, config = tiny_store(tmp_path, slices=4), run_config()
    add_inputs(store, config, noise_hu=20)
    worse(store, config, "s-1", 3, 200)
    figures = evaluate_store(Identity(), store, KEYS, config)
    panels = choose_panels(Identity(), store, KEYS, config, figures.overall)
    assert len(panels) == MAX_PANELS
    assert panels[0].title == "p-1, slice 4 of 4"
    assert panels[0].remark.startswith("lowest PSNR")
    assert len({panel.title for panel in panels}) == len(panels)
    assert [panel.remark for panel in panels[2:]] == ["", ""]
    row = figures.overall.worst_slices["soft_tissue"].output_psnr[0]
    assert panels[0].figures["output"]["psnr"] == pytest.approx(row.output_psnr)


def test_panels_follow_the_window_of_the_convention(tmp_path: Path) -> None:
    store, config = tiny_store(tmp_path), run_config()
    add_inputs(store, config, noise_hu=20)
    figures = evaluate_store(Identity(), store, KEYS, config, convention=CONVENTIONS["range4096"])
    panels = choose_panels(Identity(), store, KEYS, config, figures.overall)
    assert {(panel.window_name, panel.window) for panel in panels} == {("full", Window(1024, 4096))}
    assert panels[0].pixel_mm == 1.0
