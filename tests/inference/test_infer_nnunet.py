"""A network of nnU-Net over a volume, against what nnUNetPredictor made of it and against numpy.

tests/data/nnunet holds a results folder that nnU-Net v2 trained on synthetic images, and its own
prediction of another one (.ci/nnunet, which also compares on real CT).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.nnunet_volume import reference_volume
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from torch import nn

from flows.import_model import read_model
from pipeline.config.segmentation import Segmentation
from pipeline.config.task_runs import SegmentRun
from pipeline.core.errors import LdctError
from pipeline.core.volume import Volume
from pipeline.inference.nnunet import _gaussian, _starts, class_probabilities
from pipeline.inference.nnunet_resampling import long_axis, resampled, resampled_shape
from pipeline.inference.segment import segment
from pipeline.models.adapters.segmenter import SegmentationModel

RESULTS = Path(__file__).parents[1] / "data" / "nnunet"
SHAPE, SPACING_MM = (20, 44, 48), (3.0, 1.5, 1.5)


def volume(image_hu: NDArray, axes: NDArray | None = None) -> Volume:
    """axes: rows of LPS unit vectors of [column, row, slice]."""
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if axes is None else axes).T * SPACING_MM[::-1]
    return Volume(
        image_hu=image_hu.astype(np.float32),
        valid=np.ones(image_hu.shape, dtype=bool),
        affine_lps=affine,
        slice_origins_mm=np.arange(len(image_hu))[:, None] * affine[:3, 2],
    )


def imported() -> tuple[Segmentation, SegmentationModel]:
    config, model = read_model(RESULTS, name="theirs", axes="SPL")
    assert isinstance(config, SegmentRun)
    assert isinstance(model, SegmentationModel)
    return config.grid, model


class Threshold(nn.Module):
    """Class 1 above 0.5, as logits."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(image), 20.0 * (image - 0.5)], dim=1)


def plain(**changes: object) -> tuple[Segmentation, SegmentationModel]:
    """The settings of a threshold at 50 HU, which nnU-Net's way is taken with."""
    given = {
        "classes": {"liver": ["liver"]},
        "spacing_mm": SPACING_MM,
        "patch": [8, 16, 16],
        "ranges_hu": [[0, 100]],
        "normalize_hu": {"centre": 0, "scale": 100},
        "as_nnunet": True,
    }
    settings = Segmentation.model_validate(given | changes)
    model = SegmentationModel(
        Threshold(),
        ranges_hu=settings.ranges_hu,
        dimensions=settings.dimensions,
        channels=settings.channels,
        normalize=settings.normalize_hu,
        axes=settings.axes,
    )
    return settings, model


def test_probabilities_and_classes_are_those_of_nnunetpredictor() -> None:
    settings, model = imported()
    image_hu, _ = reference_volume(SHAPE, seed=99)
    with np.load(RESULTS / "predicted.npz") as predicted:
        wanted, classes = predicted["probabilities"].astype(np.float32), predicted["classes"]
    assert len(np.unique(classes)) > 1
    found = class_probabilities(model, volume(image_hu), settings)
    # Kept in half precision; another processor rounds logits, kept in it too, at other places.
    assert np.abs(found - wanted).max() < 5e-3
    assert np.abs(found - wanted).mean() < 3e-4
    assert (segment(model, volume(image_hu), settings) != classes).mean() < 1e-3


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_a_volume_stored_with_other_axes_gets_the_same_classes(order: tuple[int, ...]) -> None:
    settings, model = imported()
    image_hu, _ = reference_volume(SHAPE, seed=3)
    wanted = segment(model, volume(image_hu), settings)
    affine_axes = np.diag(SPACING_MM[::-1])[::-1]  # of slices, rows, columns in LPS
    turned = np.flip(image_hu.transpose(order), 1)
    affine = np.eye(4)
    affine[:3, :3] = (affine_axes[list(order)] * [[1], [-1], [1]])[::-1].T
    stored = Volume(
        image_hu=np.ascontiguousarray(turned),
        valid=np.ones(turned.shape, dtype=bool),
        affine_lps=affine,
        slice_origins_mm=np.arange(len(turned))[:, None] * affine[:3, 2],
    )
    found = segment(model, stored, settings)
    assert len(np.unique(wanted)) > 1
    assert np.array_equal(found, np.flip(wanted.transpose(order), 1))


@pytest.mark.parametrize("axes", [None, "SAR", "RSA"])
@pytest.mark.parametrize("shape", [(11, 33, 29), (3, 7, 50)])
def test_a_threshold_leaves_every_voxel_where_it_was(
    axes: str | None, shape: tuple[int, int, int]
) -> None:
    settings, model = plain(axes=axes, test_time_flips=[0, 2])
    image_hu = np.full(shape, 10.0)
    image_hu[1, 2:5, 3:6] = 90.0
    assert np.array_equal(segment(model, volume(image_hu), settings), image_hu == 90.0)


def test_in_two_dimensions_slices_are_seen_one_by_one_where_they_lie() -> None:
    settings, model = plain(patch=[16, 16], spacing_mm=(9.0, 1.5, 1.5), axes="LP")
    image_hu = np.full((5, 20, 30), 10.0)
    image_hu[3, 2:5, 3:9] = 90.0
    assert np.array_equal(segment(model, volume(image_hu), settings), image_hu == 90.0)


def test_what_is_0_hu_all_around_is_cut_off_and_background() -> None:
    settings, model = plain()
    image_hu = np.zeros((9, 20, 20))
    image_hu[2:5, 4:9, 4:9] = 90.0
    whole = segment(model, volume(image_hu), settings)
    assert np.array_equal(whole, image_hu == 90.0)
    assert not segment(model, volume(np.zeros((4, 8, 8))), settings).any()
    probability = class_probabilities(model, volume(image_hu), settings)
    assert (probability[0, 0] == 1).all()


def test_folds_are_averaged_as_logits() -> None:
    settings, model = plain()
    each = [nn.Conv3d(1, 2, 1), nn.Conv3d(1, 2, 1)]
    mean = nn.Conv3d(1, 2, 1)
    with torch.no_grad():
        for number, layer in enumerate([*each, mean]):
            layer.weight[:] = torch.tensor([[[[[0.0]]]], [[[[4.0 + 2 * (number % 2)]]]]])
            layer.bias[:] = torch.tensor([0.0, -2.0])
        mean.weight[:] = (each[0].weight + each[1].weight) / 2
    image_hu, _ = reference_volume((8, 16, 16), seed=1)
    model.network = mean
    wanted = class_probabilities(model, volume(image_hu), settings)
    model.network = nn.Module()
    model.network.members = nn.ModuleList(each)  # as pipeline.models.nnunet has them
    found = class_probabilities(model, volume(image_hu), settings)
    assert wanted.std() > 0.05
    assert np.abs(found - wanted).max() < 2e-3  # of half precision


def test_progress_comes_to_all_slices_and_a_broken_output_is_refused() -> None:
    settings, model = plain()
    said: list[int] = []
    segment(model, volume(np.full((20, 30, 30), 10.0)), settings, progress=said.append)
    assert sum(said) == 20
    assert len(said) > 4
    model.network = nn.Conv3d(1, 3, 1)
    with pytest.raises(LdctError, match="was expected"):
        segment(model, volume(np.full((8, 16, 16), 10.0)), settings)
    model.network = nn.Conv3d(1, 2, 1)
    nn.init.constant_(model.network.bias, torch.nan)
    with pytest.raises(LdctError, match="not numbers"):
        segment(model, volume(np.full((8, 16, 16), 10.0)), settings)


def test_resampling_keeps_edges_and_takes_the_nearest_slices_of_long_voxels() -> None:
    assert resampled_shape((10, 20, 30), (3.0, 1.5, 1.5), (1.5, 1.5, 3.0)) == (20, 20, 15)
    assert long_axis((5.0, 1.0, 1.0), (1.0, 1.0, 1.0)) == 0
    assert long_axis((3.0, 1.0, 1.0), (1.0, 1.0, 1.0)) is None
    assert long_axis((1.0, 1.0, 1.0), (1.0, 4.0, 1.0)) == 1
    assert long_axis((0.2, 1.0, 1.0), (1.0, 1.0, 1.0)) is None  # two long ones
    ramp = np.broadcast_to(np.arange(20.0), (4, 6, 20))
    found = resampled(ramp, (4, 6, 40), spacing_mm=(1, 1, 1), wanted_mm=(1, 1, 0.5), order=1)
    places = (np.arange(40) + 0.5) / 2 - 0.5
    assert np.allclose(found, places.clip(0, 19))
    stacked = np.broadcast_to(np.arange(7.0)[:, None, None], (7, 6, 6))
    for count in (3, 5, 14, 20):
        found = resampled(
            stacked, (count, 6, 6), spacing_mm=(5, 1, 1), wanted_mm=(2, 1, 1), order=3
        )
        places = 7 / count * (np.arange(count) + 0.5) - 0.5
        nearest = map_coordinates(np.arange(7.0), [places], order=0, mode="nearest")
        assert np.array_equal(found[:, 2, 2].round(6), nearest)


def test_windows_cover_the_image_evenly() -> None:
    assert _starts(110, 64, 0.5) == [0, 23, 46]
    assert _starts(64, 64, 0.5) == [0]
    weights = _gaussian((8, 9))
    assert weights.max() == 10
    assert (weights > 0).all()
