"""Export of a segmentation model's labels: DICOM SEG or RTSTRUCT of a series, or a label file of
an image file."""

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
from pipeline.export.series import Export, Exported, require_identifiers, warnings_of
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
    """Segment a source, and write the labels in the form `to.labels`.

    settings: the run's segmentation section, whose classes the labels are. Of a series with
    slices that cannot be read, the others are segmented. Raises LdctError for a volume that the
    model cannot process, and for an object that fails its check.
    """
    operation = segmentation_by(card)

    def labels_in(volume: Volume) -> LabelMap:
        """The volume's label map."""
        classes = segment(model, volume, settings, progress=progress)
        return settings.labelmap_of(classes, {"kind": "model", "model": card.uri})

    if not isinstance(source, Series):
        try:
            volume = read_image(source, air=to.air)
        except Unreadable as fault:
            return Exported(None, [fault.refusal(source)])
        report = export_labels(labels_in(volume), source, to.folder, operation)
        return Exported(report.with_details(warnings=warnings_of(volume)), [])
    try:
        require_identifiers(source)
        reading = read_volume(source)
    except SeriesRefusedError as refused:
        return Exported(None, refused.refusals)
    labelmap = labels_in(reading.volume)
    report = export_labels(labelmap, reading.series, to.folder, operation, form=to.labels)
    warnings = warnings_of(reading.volume)
    return Exported(report.with_details(warnings=warnings), reading.refusals)
