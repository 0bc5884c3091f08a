"""A segmenter over a source, and what it found handed over: DICOM SEG or RTSTRUCT of a series,
or a label file beside an image file."""

from __future__ import annotations

from torch import nn

from pipeline.config.segmentation import Segmentation
from pipeline.core.label_map import LabelMap
from pipeline.core.refusals import SeriesRefusedError, Unreadable
from pipeline.core.types import Progress
from pipeline.core.volume import Volume
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import read_volume
from pipeline.export.labels import export_labels, segmentation_by
from pipeline.export.series import Export, Exported, require_names
from pipeline.inference.segment import segment
from pipeline.io.discover import Source
from pipeline.io.volume_files import read_image
from pipeline.models.adapters.card import ModelCard


def export_segmented(
    model: nn.Module,
    card: ModelCard,
    source: Source,
    to: Export,
    settings: Segmentation,
    progress: Progress = lambda slices: None,
) -> Exported:
    """Read the source, find the run's classes in it, and hand them over as `to.labels` says.

    Returns what to report, and what of the source is refused (of a series with refused slices,
    those that are left are segmented). Raises LdctError for a volume that the model cannot take,
    and for an object that fails its check.
    """
    operation = segmentation_by(card)

    def found_in(volume: Volume) -> LabelMap:
        classes = segment(model, volume, settings, progress=progress)
        return settings.labelmap_of(classes, {"kind": "model", "model": card.uri})

    if not isinstance(source, Series):
        try:
            volume = read_image(source)
        except Unreadable as fault:
            return None, [fault.refusal(source)]
        return export_labels(found_in(volume), source, to.folder, operation), []
    try:
        require_names(source)
        reading = read_volume(source)
    except SeriesRefusedError as refused:
        return None, refused.refusals
    labelmap = found_in(reading.volume)
    told = export_labels(labelmap, reading.series, to.folder, operation, form=to.labels)
    return told, reading.refusals
