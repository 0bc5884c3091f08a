"""scikit-image's stereo pair: strips of picture and disparity that belong together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from helpers.restore import run

from pipeline.core.pseudonyms import installation_key
from pipeline.data.stored_pictures import StoredPictures
from pipeline.degradations.cache import degrade_store
from pipeline.ingest.stereo import STRIPS, disparity_levels, stereo_picture
from pipeline.store.store import Store
from pipeline.tasks.base import task_of


def test_strips_make_up_the_scene(tmp_path: Path) -> None:
    config = run(
        {"target": "pair_input"},
        restoration={"source": "stereo", "colour": "rgb", "target": {"target": "pair_target"}},
    )
    store = Store(tmp_path / "store")
    report = task_of(config).ingest(None, store, config, key=installation_key())
    keys = [row.series for row in report.series]
    assert [row.patient for row in report.series] == [f"stereo-{n}" for n in range(STRIPS)]
    assert all(task_of(config).usable(store, key, config) for key in keys)
    degrade_store(store, dict.fromkeys(keys, 1), config)
    stored = StoredPictures(store, keys, config)
    pictures = np.concatenate([stored.target(number) for number in range(STRIPS)], axis=2)
    depths = np.concatenate([stored.degraded(number) for number in range(STRIPS)], axis=2)
    np.testing.assert_array_equal(pictures, stereo_picture())
    np.testing.assert_array_equal(depths, disparity_levels().repeat(3, axis=0))


def test_what_is_near_is_bright() -> None:
    """The front wheel is nearer than the wall behind."""
    levels = disparity_levels()[0]
    assert levels.min() == 0
    assert levels.max() == 255
    wheel, wall = levels[300:400, 100:200], levels[:60, 300:400]
    assert np.median(wheel[wheel > 0]) > np.median(wall[wall > 0]) + 40
