"""Structures of a series in memory, found by a segmenter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ldct.processing import load_model
from ldct.series import CTSeries
from pipeline.config.task_runs import SegmentRun
from pipeline.core.errors import ConfigError
from pipeline.core.label_map import LabelMap
from pipeline.core.types import Progress
from pipeline.dicom.derived.write import Operation

if TYPE_CHECKING:
    from pipeline.models.adapters.card import LoadedModel


@dataclass(frozen=True)
class Segmentation:
    """Which structure each voxel of a series belongs to, on the series' own grid.

    series: as it was segmented. labelmap: the values and their names. operation: what found them,
    for the header of what is written.
    """

    series: CTSeries = field(repr=False)
    labelmap: LabelMap = field(repr=False)
    operation: Operation = field(repr=False)

    @property
    def labels(self) -> NDArray[np.unsignedinteger]:
        """The value of each voxel [slices, rows, columns]; 0 where there is no structure."""
        return self.labelmap.labels

    @property
    def names(self) -> dict[int, str]:
        """The structures by their value; a structure that was not found has a name all the same."""
        return dict(self.labelmap.names)

    @property
    def volumes_ml(self) -> dict[str, float]:
        """The volume in ml of each structure, by its name."""
        voxel_ml = float(np.prod(self.series.spacing_mm)) / 1000
        return {
            name: float(self.labelmap.mask(value).sum()) * voxel_ml
            for value, name in sorted(self.names.items())
        }


def segment(
    series: CTSeries, model: str | LoadedModel, *, progress: Progress = lambda slices: None
) -> Segmentation:
    """Find the structures that a segmenter was trained for, as `ldct apply` does it.

    model: a reference, see `load_model`, or what load_model returned. progress: called with the
    number of slices that are done since the last call. Raises ConfigError for a model that is no
    segmenter, and LdctError for slices that are not evenly spaced.
    """
    from pipeline.export.labels import segmentation_by
    from pipeline.inference.segment import segment as segmented

    loaded = load_model(model) if isinstance(model, str) else model
    if not isinstance(loaded.config, SegmentRun):
        raise ConfigError(f"{loaded.card.uri} is no segmenter; its task: {loaded.config.task}")
    settings = loaded.config.grid
    classes = segmented(loaded.model, series.volume, settings, progress=progress)
    labelmap = settings.labelmap_of(classes, {"kind": "model", "model": loaded.card.uri})
    operation = segmentation_by(loaded.card)
    if series.operation is not None:
        operation = operation.after(series.operation)
    return Segmentation(series, labelmap, operation)
