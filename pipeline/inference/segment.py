"""A segmenter over a volume: HU in, class numbers on the volume's own grid out, in bounded
memory.

Windows slide over the working grid and are blended with Gaussian weights, each axis by itself
(Isensee et al., Nature Methods 2021). Probabilities are averaged, not scores. Neither they nor
the working image are ever held for the whole volume: a few working slices at a time are
finished, interpolated onto the source's slices, classified and freed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from pipeline.config.segmentation import Segmentation
from pipeline.core.errors import LdctError
from pipeline.core.masks import patient_mask
from pipeline.core.types import Progress
from pipeline.core.volume import Volume
from pipeline.data.working_grid import WorkingGrid
from pipeline.inference.nnunet import segment_as_nnunet
from pipeline.models.adapters.segmenter import SegmentationModel

#: A result's slices are made by so many at a time; so are those of a network in two dimensions.
BLOCK_SLICES = 8
#: How far a slice may lie from the even grid, as a part of the spacing.
MAX_UNEVENNESS = 0.5
#: Windows that the network sees at once.
WINDOWS = 2
#: Of a scan that is smaller than a window the rim is repeated (RandShortScand shows it so).
PADDING = "replicate"


def segment(
    model: nn.Module,
    volume: Volume,
    settings: Segmentation,
    *,
    progress: Progress = lambda slices: None,
) -> NDArray[np.uint8]:
    """Class numbers of each voxel, uint8 in the volume's shape, 0 the background.

    model: HU to logits (pipeline.models.adapters.segmenter), run where its weights are, in fp32.
    What the scanner did not measure is background. progress gets the slices done. Raises LdctError
    for unevenly spaced slices, and where the model gives another number of classes, or values that
    are not numbers.
    """
    _require_even(volume)
    if settings.as_nnunet:
        assert isinstance(model, SegmentationModel)
        found = segment_as_nnunet(model, volume, settings, progress=progress)
    else:
        found = _segmented(model, volume, settings, progress)
    found = _within_body(found, volume) if settings.within_body else found
    return _single_pieces(found, settings)


def _segmented(
    model: nn.Module, volume: Volume, settings: Segmentation, progress: Progress
) -> NDArray[np.uint8]:
    grid = WorkingGrid.of(volume, settings.spacing_mm)
    oriented = np.empty(grid.oriented_shape, dtype=np.uint8)
    finished = _Finished(_probabilities(model, volume.image_hu, grid, settings))
    for start in range(0, len(oriented), BLOCK_SLICES):
        block = slice(start, min(start + BLOCK_SLICES, len(oriented)))
        needed = grid.needed_for(block)
        probability = grid.to_source(finished.slices(needed), block, first=needed.start)
        oriented[block] = torch.from_numpy(probability).argmax(dim=0).numpy()
        progress(block.stop - block.start)
    return np.where(volume.valid, grid.from_oriented(oriented), np.uint8(0))


def _within_body(found: NDArray[np.uint8], volume: Volume) -> NDArray[np.uint8]:
    """Without what lies outside of the body, the arms and the legs in each slice."""
    row_mm = volume.spacing_mm[1]
    body = np.stack([patient_mask(np.asarray(plane), row_mm) for plane in volume.image_hu])
    return np.where(body, found, np.uint8(0))


def _single_pieces(found: NDArray[np.uint8], settings: Segmentation) -> NDArray[np.uint8]:
    """Of the classes that are one connected piece, the largest that was found."""
    numbers = {name: number for number, name in enumerate(settings.classes, start=1)}
    for name in settings.single_piece:
        pieces, count = ndimage.label(found == numbers[name])
        if count > 1:
            largest = 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
            found[(pieces > 0) & (pieces != largest)] = 0
    return found


def is_even(affine_lps: NDArray[np.float64], slice_origins_mm: NDArray[np.float64]) -> bool:
    """Whether slices lie near enough to where the volume's even grid has them (see Volume)."""
    column_axis, row_axis, slice_axis = affine_lps[:3, :3].T
    normal = np.cross(column_axis, row_axis)
    spacing_mm = float(abs(slice_axis @ normal) / np.linalg.norm(normal))
    return _off_grid_mm(affine_lps, slice_origins_mm) <= MAX_UNEVENNESS * spacing_mm


def _off_grid_mm(affine_lps: NDArray[np.float64], slice_origins_mm: NDArray[np.float64]) -> float:
    """How far a slice lies from its place on the even grid, at most."""
    expected = affine_lps[:3, 3] + np.outer(np.arange(len(slice_origins_mm)), affine_lps[:3, 2])
    return float(np.abs(slice_origins_mm - expected).max())


def _require_even(volume: Volume) -> None:
    """Raises LdctError where slices are not where the volume's even grid has them."""
    if not is_even(volume.affine_lps, volume.slice_origins_mm):
        off_mm = _off_grid_mm(volume.affine_lps, volume.slice_origins_mm)
        raise LdctError(
            f"slices lie up to {off_mm:.2f} mm from even spacing: a segmenter needs an even "
            "series; ingest it with --intake uneven=resample"
        )


class _Finished:
    """Working slices of class probabilities as they come, each asked for in ascending order."""

    def __init__(self, chunks: Iterator[NDArray[np.float32]]) -> None:
        self.chunks = chunks
        self.first = 0
        self.kept: NDArray[np.float32] | None = None

    def slices(self, asked: slice) -> NDArray[np.float32]:
        """[classes, asked, rows, columns]; what lies before will not be asked for again."""
        kept = [] if self.kept is None else [self.kept[:, asked.start - self.first :]]
        have = sum(part.shape[1] for part in kept)
        while have < asked.stop - asked.start:
            kept.append(next(self.chunks))
            have += kept[-1].shape[1]
        self.kept, self.first = np.concatenate(kept, axis=1), asked.start
        return self.kept[:, : asked.stop - asked.start]


def _probabilities(
    model: nn.Module, image_hu: NDArray, grid: WorkingGrid, settings: Segmentation
) -> Iterator[NDArray[np.float32]]:
    """The working grid's class probabilities [classes, some, rows, columns], slices ascending."""
    in_slices = settings.dimensions == 2
    depth = min(BLOCK_SLICES if in_slices else settings.patch[0], grid.shape[0])
    step = depth if in_slices else max(1, int(depth * (1 - settings.overlap)))
    weights = np.ones(depth, np.float32) if in_slices else _gaussian(depth)
    starts = [*range(0, grid.shape[0] - depth, step), grid.shape[0] - depth]
    # Of the slices that later windows may still touch; in place, for they are large.
    total = np.zeros((settings.channels, depth, *grid.shape[1:]), np.float32)
    weight = np.zeros(depth, np.float32)
    for start, following in zip(starts, [*starts[1:], grid.shape[0]], strict=True):
        image = torch.from_numpy(grid.to_working(image_hu, slice(start, start + depth)))
        probability = _of_slab(model, image, settings)
        probability *= weights[:, None, None]
        total += probability
        weight += weights
        done = following - start
        yield total[:, :done] / weight[:done, None, None]
        for sums in (*total, weight):
            sums[: depth - done] = sums[done:].copy()
            sums[depth - done :] = 0


def _gaussian(length: int) -> NDArray[np.float32]:
    """MONAI's blending weights of one axis."""
    from monai.data.utils import compute_importance_map  # MONAI takes seconds to import

    return compute_importance_map((length,), mode="gaussian").numpy()


def _within_slices(patch: list[int]) -> torch.Tensor:
    """The weights of rows and columns, in the shape of the patch: those of slices come later."""
    rows, columns = (torch.from_numpy(_gaussian(length)) for length in patch[-2:])
    return torch.outer(rows, columns).expand(patch)


def _of_slab(
    model: nn.Module, image_hu: torch.Tensor, settings: Segmentation
) -> NDArray[np.float32]:
    """Probabilities [classes, slices, rows, columns] of a slab as deep as the windows."""
    from monai.inferers import sliding_window_inference  # MONAI takes seconds to import

    device = next((weights.device for weights in model.parameters()), torch.device("cpu"))
    in_slices = settings.dimensions == 2
    windows = image_hu[:, None] if in_slices else image_hu[None, None]
    with torch.inference_mode():
        probability = sliding_window_inference(
            windows,
            roi_size=settings.patch,
            sw_batch_size=WINDOWS,
            predictor=lambda patch: _predicted(model, patch, settings),
            overlap=settings.overlap,
            roi_weight_map=_within_slices(settings.patch),
            padding_mode=PADDING,
            sw_device=device,
            device=torch.device("cpu"),
        )
    if not torch.isfinite(probability).all():
        raise LdctError("the model's output holds values that are not numbers; nothing was kept")
    return (probability.movedim(0, 1) if in_slices else probability[0]).numpy()


def _predicted(model: nn.Module, image_hu: torch.Tensor, settings: Segmentation) -> torch.Tensor:
    """Class probabilities of windows, averaged over the mirrored ones asked for."""
    axes = [axis - 3 for axis in settings.test_time_flips if axis - 3 >= -settings.dimensions]
    flips = list(chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1)))
    total = torch.zeros(())
    for flip in flips:
        logits = model(image_hu.flip(flip))
        expected = (len(image_hu), settings.channels, *image_hu.shape[2:])
        if logits.shape != expected:
            raise LdctError(f"the model gave {tuple(logits.shape)} where {expected} was expected")
        total = total.to(logits.device) + logits.softmax(dim=1).flip(flip)
    return total / len(flips)
