"""Pictures as a training sees them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.restore import run

from pipeline.core.errors import ConfigError
from pipeline.data.stored_pictures import SmallerPictures, smaller
from pipeline.ingest.ingest import IngestReport
from pipeline.ingest.picture_ingest import store_image
from pipeline.store.store import Store
from pipeline.tasks.base import task_of

NOISE = {"target": "gaussian_noise", "args": {"sigma": 1}}
#: Of which no piece can be degraded by itself.
WHOLE = {"target": "sparse_view", "args": {"keep": 4}}


@pytest.mark.parametrize(
    ("size", "smaller"),
    [
        ((300, 400), (75, 100)),
        ((90, 100), (90, 100)),  # no larger
        ((100, 400), (32, 128)),  # no piece would be left
    ],
)
def test_larger_pictures_are_made_smaller_but_never_than_a_patch(size, smaller) -> None:
    rows, columns = np.indices(size, dtype=np.float32)
    picture = np.stack([np.full(size, 40, np.float32), 100 * rows / size[0], columns * 0])
    found = SmallerPictures([picture], [100], (32, 32))[0]
    assert found.shape == (3, *smaller)
    assert np.allclose(found[0], 40, atol=1e-3)
    assert found[1].mean() == pytest.approx(picture[1].mean(), abs=0.5)  # the whole of it is there


def test_each_picture_is_there_once_for_each_side() -> None:
    pictures = [np.full((1, 200, 100), level, np.float32) for level in (10, 20)]
    found = SmallerPictures(pictures, [50, 150, 400], (16, 16))
    shapes = [(float(one.mean()), one.shape[1:]) for one in (found[n] for n in range(len(found)))]
    sizes = [(50, 25), (150, 75), (200, 100)]
    assert shapes == [(level, size) for level in (10, 20) for size in sizes]


def test_edges_stay_sharp_and_levels_within_the_pictures_own() -> None:
    edge = np.zeros((1, 120, 120), np.float32)
    edge[..., 60:] = 200
    found = smaller(edge, 1 / 4)
    assert np.diff(found[0, 15]).max() > 0.85 * 200  # a linear kernel leaves three quarters
    assert (found.min(), found.max()) == (0, 200)


def test_a_run_trains_on_smaller_pictures(tmp_path: Path) -> None:
    store, report = Store(tmp_path), IngestReport(Path())
    _, columns = np.indices((256, 192))
    stripes = (columns // 4 % 2 * 200.0).astype(np.float32)[None]
    store_image(stripes, store, report, colour="grey", patient="p-0", key="stripes")
    config = run(NOISE, restoration={"source": "pictures", "training_side": 128})
    items = task_of(config).training_data(store, ["stripes"], config, 4)
    for item in items:  # stripes of 4 pixels are 2 wide at half the size
        piece = item["target"].numpy()
        across = np.abs(np.diff(piece, axis=2)).mean(), np.abs(np.diff(piece, axis=1)).mean()
        assert max(across) == pytest.approx(100, rel=0.3)  # 50 at its own size


def test_training_side_is_refused_where_it_would_change_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="training_side: of pictures, not of the source series"):
        run(NOISE, restoration={"source": "series", "training_side": 128})
    config = run(WHOLE, restoration={"source": "pictures", "training_side": 128})
    with pytest.raises(ConfigError, match="training_side: not with"):
        task_of(config).training_data(Store(tmp_path), [], config, 4)
