"""From HU to class numbers on the volume's own grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data.utils import compute_importance_map
from monai.inferers import sliding_window_inference
from numpy.typing import NDArray
from torch import nn

from pipeline.config.segmentation import Segmentation
from pipeline.core.errors import LdctError
from pipeline.core.volume import Volume
from pipeline.data.working_grid import WorkingGrid
from pipeline.inference.segment import _probabilities, segment


class Thresholds(nn.Module):
    """Class 1 from -480 to 100 HU, class 2 above: what a perfect network would say."""

    def forward(self, image_hu: torch.Tensor) -> torch.Tensor:
        first, second = (image_hu >= -480) & (image_hu < 100), image_hu >= 100
        return 50.0 * torch.cat([~(first | second), first, second], dim=1).float()


class Blurred(nn.Module):
    """A network whose output depends on where in the window a voxel lies."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        convolution = nn.Conv3d if dimensions == 3 else nn.Conv2d
        self.layer = convolution(1, 3, 5, padding=2)

    def forward(self, image_hu: torch.Tensor) -> torch.Tensor:
        return self.layer(image_hu / 300)


def settings(**changes: object) -> Segmentation:
    given = {
        "classes": {"liver": [5], "bones": [25]},
        "spacing_mm": (1, 1, 1),
        "patch": [8, 16, 16],
    }
    return Segmentation.model_validate(given | changes)


def volume(image_hu: NDArray, *, axes: NDArray | None = None) -> Volume:
    """1 mm voxels; axes are unit vectors of [column, row, slice] in LPS."""
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3) if axes is None else axes.T
    return Volume(
        image_hu=image_hu.astype(np.float32),
        valid=np.ones(image_hu.shape, dtype=bool),
        affine_lps=affine,
        slice_origins_mm=np.arange(len(image_hu))[:, None] * affine[:3, 2],
    )


def scene() -> tuple[NDArray, NDArray]:
    """Air, a body and a brighter ball in it; and their classes."""
    slices, rows, columns = np.indices((30, 50, 44)) - np.array([15, 25, 22])[:, None, None, None]
    classes = np.zeros((30, 50, 44), dtype=np.uint8)
    classes[(rows / 20) ** 2 + (columns / 17) ** 2 <= 1] = 1
    classes[slices**2 + rows**2 + (columns - 6) ** 2 <= 64] = 2
    return np.choose(classes, [-1000.0, 40.0, 160.0]), classes


@pytest.mark.parametrize("patch", [[8, 16, 16], [64, 64, 64], [16, 24]])
def test_on_its_own_grid_every_voxel_is_decided_for_itself(patch: list[int]) -> None:
    image_hu, classes = scene()
    found = segment(Thresholds(), volume(image_hu), settings(patch=patch))
    assert found.dtype == np.uint8
    assert np.array_equal(found, classes)


@pytest.mark.parametrize("spacing_mm", [(2.0, 2.0, 2.0), (1.5, 3.0, 0.7)])
def test_another_working_grid_comes_back_to_the_same_place(
    spacing_mm: tuple[float, float, float],
) -> None:
    """Within a voxel of the rim anything may happen; nothing moves, nothing is lost."""
    image_hu, classes = scene()
    found = segment(Thresholds(), volume(image_hu), settings(spacing_mm=spacing_mm))
    assert found.shape == classes.shape
    for number in (0, 2):
        overlap = ((found == number) & (classes == number)).sum()
        total = (found == number).sum() + (classes == number).sum()
        assert 2 * overlap / total > 0.9
        centres = [np.argwhere(mask == number).mean(axis=0) for mask in (found, classes)]
        assert np.abs(centres[0] - centres[1]).max() < 0.3


@pytest.mark.parametrize("dimensions", [2, 3])
def test_any_orientation_is_answered_in_its_own(dimensions: int) -> None:
    """Stored sagittally and mirrored, the same patient gets the same voxels' classes."""
    image_hu, _ = scene()
    image_hu = image_hu + 30 * np.random.default_rng(0).standard_normal(image_hu.shape)
    model = Blurred(dimensions).eval()
    chosen = settings(patch=[8, 16, 16][-dimensions:])
    expected = segment(model, volume(image_hu), chosen)
    sagittal = np.flip(image_hu, 0).transpose(2, 0, 1)  # columns, slices (from the head), rows
    axes = np.array([[0.0, 1, 0], [0, 0, -1.0], [1.0, 0, 0]])
    found = segment(model, volume(sagittal, axes=axes), chosen)
    assert np.array_equal(found, np.flip(expected, 0).transpose(2, 0, 1))


def test_rolling_windows_are_monai_s_whole_volume() -> None:
    """A few slices at a time, or all at once: the same Gaussian blend."""
    generator = torch.Generator().manual_seed(1)
    image = 300 * torch.randn(1, 1, 29, 40, 36, generator=generator)
    model = Blurred(3).eval()
    chosen = settings(patch=[8, 16, 20])
    image_hu = image[0, 0].numpy()
    grid = WorkingGrid.of(volume(image_hu), (1, 1, 1))
    ours = np.concatenate(list(_probabilities(model, image_hu, grid, chosen)), axis=1)
    lines = [compute_importance_map((n,), mode="gaussian") for n in chosen.patch]
    with torch.inference_mode():
        theirs = sliding_window_inference(
            image,
            chosen.patch,
            sw_batch_size=1,
            predictor=lambda x: model(x).softmax(1),
            overlap=0.5,
            roi_weight_map=torch.einsum("a,b,c->abc", *lines),
        )
    assert ours.shape == theirs[0].shape
    assert np.abs(ours - theirs[0].numpy()).max() < 1e-5
    assert np.allclose(ours.sum(axis=0), 1, atol=1e-5)


def test_mirrored_at_test_time_sides_are_treated_alike() -> None:
    """A network that leans to one side gives, averaged, a mirrored answer for a mirrored image."""
    image_hu, _ = scene()
    model = Blurred(3).eval()
    chosen = settings(patch=[32, 56, 48], test_time_flips=[0, 2])
    straight = segment(model, volume(image_hu), chosen)
    mirrored = segment(model, volume(np.flip(image_hu, (0, 2))), chosen)
    assert np.mean(np.flip(mirrored, (0, 2)) != straight) < 1e-3
    plain = settings(patch=[32, 56, 48])
    leaning = segment(model, volume(np.flip(image_hu, (0, 2))), plain)
    assert np.mean(np.flip(leaning, (0, 2)) != segment(model, volume(image_hu), plain)) > 0.01


def test_what_was_not_measured_has_no_class() -> None:
    image_hu, _ = scene()
    whole = volume(image_hu)
    valid = whole.valid.copy()
    valid[:, :25] = False
    padded = Volume(whole.image_hu, valid, whole.affine_lps, whole.slice_origins_mm)
    found = segment(Thresholds(), padded, settings())
    assert not found[:, :25].any()
    assert found[:, 25:].any()


def test_progress_counts_every_slice_once() -> None:
    image_hu, _ = scene()
    done: list[int] = []
    segment(Thresholds(), volume(image_hu), settings(), progress=done.append)
    assert sum(done) == 30


def test_a_model_of_another_task_is_refused() -> None:
    with pytest.raises(LdctError, match="expected"):
        segment(nn.Identity(), volume(scene()[0]), settings())


def test_numbers_that_are_none_are_refused() -> None:
    class Broken(Thresholds):
        def forward(self, image_hu: torch.Tensor) -> torch.Tensor:
            return super().forward(image_hu) * float("nan")

    with pytest.raises(LdctError, match="not numbers"):
        segment(Broken(), volume(scene()[0]), settings())
