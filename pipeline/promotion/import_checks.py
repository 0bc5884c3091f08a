"""What a model from elsewhere must do before it is registered: on synthetic images alone."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.config.run import RunConfig
from pipeline.config.segmentation import Segmentation
from pipeline.config.task_runs import DenoiseRun, SegmentRun
from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.verdicts import Check
from pipeline.core.volume import Volume, even_origins_mm
from pipeline.dicom.derived.structure_codes import codes_of
from pipeline.inference.segment import segment
from pipeline.models.adapters.base import ModelAdapter
from pipeline.models.adapters.segmenter import SegmentationModel
from pipeline.promotion.acceptance import check, identity, odd_sizes

#: Sides that no stride divides: slices, rows, columns.
ODD_VOLUME = (11, 33, 29)
_AIR_HU, _TISSUE_HU = -1000.0, 60.0


def import_checks(model: ModelAdapter, config: RunConfig) -> list[Check]:
    """Odd sizes with finite output, and what an identity in the model's adapter leaves in place.

    Raises LdctError where one fails, with its reason, and ConfigError for a class without a code.
    """
    if isinstance(config, DenoiseRun):
        checks = [
            check("odd sizes, finite", lambda: odd_sizes(model)),
            check("identity in the model's adapter", lambda: identity(config)),
        ]
    elif isinstance(config, SegmentRun):
        grid = config.grid
        for name in grid.classes:
            codes_of(name)  # or a result could not be written as DICOM
        checks = [
            check("odd sizes, finite", lambda: _odd_volume(model, grid)),
            check("identity in the model's adapter", lambda: _in_place(grid)),
        ]
    else:
        raise ConfigError(f"a model of the task {config.task} cannot be imported")
    for each in checks:
        if not each.passed:
            raise LdctError(f"not registered: {each.name}: {each.limit}")
    return checks


def _odd_volume(model: nn.Module, settings: Segmentation) -> None:
    """Raises for an output of another shape, of other classes, or that is not finite."""
    drawn = np.random.default_rng(0).normal(40, 200, ODD_VOLUME).astype(np.float32)
    segment(model, _volume(drawn, settings), settings)


class _Threshold(nn.Module):
    """A network that finds its first class wherever its input is above a limit."""

    def __init__(self, limit: float, channels: int) -> None:
        super().__init__()
        self.limit, self.channels = limit, channels

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits [batch, channels, ...] of an image [batch, 1, ...]."""
        logits = image.new_zeros((image.shape[0], self.channels, *image.shape[2:]))
        logits[:, 1] = torch.where(image[:, 0] > self.limit, 9.0, -9.0)
        return logits


def _in_place(settings: Segmentation) -> None:
    """Raises LdctError where the adapter does not put a block, which lies in one corner of the
    patient, back where it was, voxel for voxel."""
    image_hu = np.full(ODD_VOLUME, _AIR_HU, dtype=np.float32)
    image_hu[1:4, 3:12, 5:9] = _TISSUE_HU
    middle_hu = (_AIR_HU + _TISSUE_HU) / 2
    (low_hu, high_hu), channels = settings.ranges_hu[0], settings.channels
    if not low_hu < middle_hu < high_hu:
        middle_hu = (max(low_hu, _AIR_HU) + min(high_hu, _TISSUE_HU)) / 2
    adapter = SegmentationModel(
        nn.Identity(),
        ranges_hu=settings.ranges_hu,
        dimensions=settings.dimensions,
        channels=channels,
        multiple=settings.multiple,
        normalize=settings.normalize_hu,
        axes=settings.axes,
    )
    limit = float(adapter.units(torch.tensor(middle_hu), low_hu, high_hu))
    adapter.network = _Threshold(limit, channels)
    found = segment(adapter, _volume(image_hu, settings), settings)
    wrong = int((found != (image_hu == _TISSUE_HU)).sum())
    if wrong:
        raise LdctError(f"a threshold in the model's adapter moves {wrong} voxels")


def _volume(image_hu: NDArray[np.float32], settings: Segmentation) -> Volume:
    """On the working grid itself: columns to the left, rows to posterior, slices to the head."""
    slice_mm, row_mm, column_mm = settings.spacing_mm
    affine = np.diag([column_mm, row_mm, slice_mm, 1.0])
    return Volume(
        image_hu=image_hu,
        valid=np.ones(image_hu.shape, dtype=np.bool_),
        affine_lps=affine,
        slice_origins_mm=even_origins_mm(affine, len(image_hu)),
        provenance={},
    )
