"""Holes of pictures: what the mask leaves is kept to the bit, in depth and file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.fill import CONFIG, DIGITS, SIDE, drawn, some_codes, waves
from numpy.typing import NDArray
from PIL import Image

from pipeline.config.load import parse_config
from pipeline.core.errors import ConfigError, LdctError
from pipeline.export.filled_pictures import Masks, fill_pictures, white_of
from pipeline.generative.fill import Fill
from pipeline.models.adapters.generative import Generative

FILL = Fill(moves=150, follow=60, pool=32)
CONFIG_OF_DIGITS = CONFIG | {"generation": DIGITS, "normalize_hu": {"centre": 8, "scale": 3}}
HOLE = np.zeros((SIDE, SIDE), dtype=bool)
HOLE[5:10, 6:11] = True


@pytest.fixture
def model() -> Generative:
    return waves(CONFIG_OF_DIGITS)


def levels(model: Generative, count: int, depth: type) -> NDArray:
    """Pictures that the generator could have drawn, as a file of that depth holds them."""
    codes = 0.5 * (some_codes(1) + 0.1 * some_codes(count, seed=5))
    return np.rint(drawn(model, codes).clip(0, 16) / 16 * np.iinfo(depth).max).astype(depth)


def saved(pixels: NDArray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def mask(folder: Path, name: str, hole: NDArray[np.bool_] = HOLE) -> Path:
    return saved(np.where(hole, 255, 0).astype(np.uint8), folder / name)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_the_hole_is_as_the_generator_had_it_and_the_rest_is_the_same(
    model: Generative, tmp_path: Path, depth: type
) -> None:
    truth = levels(model, 1, depth)[0]
    source = saved(np.where(HOLE, 0, truth).astype(depth), tmp_path / "in" / "a.png")
    masks, to = Masks(mask(tmp_path, "mask.png"), source.parent), tmp_path / "out" / "a.png"
    (row,) = fill_pictures(model, [(source, to)], masks, FILL, white=16.0)
    made = np.asarray(Image.open(to))
    assert made.dtype == depth
    np.testing.assert_array_equal(made[~HOLE], truth[~HOLE])
    white = np.iinfo(depth).max
    np.testing.assert_allclose(made / white, truth / white, atol=0.04)
    assert row["pixels"] == HOLE.sum()
    assert row["bits"] == 8 * np.dtype(depth).itemsize
    assert row["explained"] > 0.95
    # Again is harmless; another result does not take its place.
    fill_pictures(model, [(source, to)], masks, FILL, white=16.0)
    with pytest.raises(LdctError, match="holds something else"):
        fill_pictures(model, [(source, to)], masks, Fill(moves=50, pool=32), white=16.0)
    np.testing.assert_array_equal(np.asarray(Image.open(to)), made)


def test_frames_of_a_folder_have_masks_of_their_names(model: Generative, tmp_path: Path) -> None:
    frames = levels(model, 3, np.uint8)
    pairs = []
    for number, frame in enumerate(frames):
        hole = HOLE if number != 1 else HOLE & False
        source = saved(np.where(hole, 0, frame).astype(np.uint8), tmp_path / "in" / f"{number}.tif")
        mask(tmp_path / "masks", f"{number}.png", hole)
        pairs.append((source, tmp_path / "out" / source.name))
    masks = Masks(tmp_path / "masks", tmp_path / "in")
    rows = fill_pictures(model, pairs, masks, FILL, white=16.0)
    assert [row["pixels"] for row in rows] == [25, 0, 25]
    assert rows[1]["loss"] is None
    made = np.stack([np.asarray(Image.open(to)) for _, to in pairs])
    np.testing.assert_allclose(made / 255, frames / 255, atol=0.04)


def test_a_mask_says_white_or_black(model: Generative, tmp_path: Path) -> None:
    source = saved(levels(model, 1, np.uint8)[0], tmp_path / "in" / "a.png")
    pairs = [(source, tmp_path / "out" / "a.png")]

    def refused(path: Path, why: str) -> None:
        with pytest.raises(LdctError, match=why):
            fill_pictures(model, pairs, Masks(path, source.parent), FILL, white=16.0)
        assert not (tmp_path / "out").exists()

    refused(saved(np.full((SIDE, SIDE), 128, np.uint8), tmp_path / "grey.png"), "white .hole. and")
    refused(mask(tmp_path, "small.png", HOLE[:8]), r"its mask is of \(8, 16\)")
    refused(mask(tmp_path, "none.png", HOLE & False), "nothing to do")
    refused(mask(tmp_path, "all.png", HOLE | True), "all of it")
    mask(tmp_path / "masks", "b.png")
    refused(tmp_path / "masks", "0 masks of that name")
    with pytest.raises(ConfigError, match="give a mask picture"):
        Masks(tmp_path / "nowhere", tmp_path)


def test_colour_and_ct_are_other_models_work(model: Generative, tmp_path: Path) -> None:
    source = saved(np.zeros((SIDE, SIDE, 3), np.uint8), tmp_path / "in" / "a.png")
    masks = Masks(mask(tmp_path, "mask.png"), source.parent)
    with pytest.raises(LdctError, match="convert it to grey"):
        fill_pictures(model, [(source, tmp_path / "a.png")], masks, FILL, white=16.0)
    assert white_of(parse_config(CONFIG_OF_DIGITS)) == 16
    with pytest.raises(ConfigError, match="draws CT in HU"):
        white_of(parse_config(CONFIG))
