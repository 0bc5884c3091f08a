"""DICOM Segmentation objects: a label map of a series as one object (PS3.3 A.51, C.8.20).

highdicom builds them, frame by frame at the places of the source's slices and with a reference
to each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentDescription
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from pipeline.core.atomic_files import replacing_folder
from pipeline.core.label_map import LabelMap
from pipeline.core.versions import SOFTWARE, VERSION
from pipeline.dicom.derived.highdicom_objects import (
    make_deterministic,
    reference_frames,
    series_identity,
    slice_headers,
)
from pipeline.dicom.derived.structure_codes import Anatomy, codes_of
from pipeline.dicom.derived.structure_objects import (
    WrittenStructures,
    first_header,
    frame_of_reference_warnings,
    require_safe_names,
    require_same_shape,
    save_object,
)
from pipeline.dicom.derived.write import (
    Operation,
)
from pipeline.dicom.read.series import Series

FILE = "SEG.dcm"
BINARY, LABELMAP = SegmentationTypeValues.BINARY, SegmentationTypeValues.LABELMAP


def write_seg(
    labelmap: LabelMap,
    series: Series,
    operation: Operation,
    folder: Path,
    *,
    kind: SegmentationTypeValues = BINARY,
    anatomy: Mapping[str, Anatomy] | None = None,
) -> WrittenStructures:
    """Write `folder`/SEG.dcm, whole or not at all; see make_seg."""
    with replacing_folder(folder) as partial:
        return write_seg_file(labelmap, series, operation, partial, kind=kind, anatomy=anatomy)


def write_seg_file(
    labelmap: LabelMap,
    series: Series,
    operation: Operation,
    folder: Path,
    *,
    kind: SegmentationTypeValues = BINARY,
    anatomy: Mapping[str, Anatomy] | None = None,
) -> WrittenStructures:
    """Write SEG.dcm into `folder`, which exists; raises as make_seg does."""
    segmentation = make_seg(labelmap, series, operation, kind=kind, anatomy=anatomy)
    save_object(segmentation, folder, FILE)
    return WrittenStructures(
        instances=1,
        structures=len(labelmap.names),
        frames=int(segmentation.NumberOfFrames),
        warnings=tuple(frame_of_reference_warnings(series)),
    )


def make_seg(
    labelmap: LabelMap,
    series: Series,
    operation: Operation,
    *,
    kind: SegmentationTypeValues = BINARY,
    anatomy: Mapping[str, Anatomy] | None = None,
) -> Dataset:
    """The object: a segment for each name of the label map, numbered from 1 by value.

    labelmap: on the grid of series.instances. kind: BINARY, or LABELMAP (2024), which few
    programs know yet. anatomy: codes of names that pipeline.dicom.derived.structure_codes does not
    know. Raises ConfigError for a name without codes, LdctError for a source without identifiers
    or for structures whose names identify the patient, and ValueError for overlapping structures
    as LABELMAP.
    """
    require_same_shape(labelmap, series)
    if kind is LABELMAP and labelmap.overlaps:
        raise ValueError("structures overlap, which LABELMAP cannot hold: write BINARY")
    if kind is LABELMAP:
        operation = replace(operation, product="label map")  # an object of its own
    source = first_header(series)
    require_safe_names(labelmap.names.values(), source.dataset)
    segmentation = Segmentation(
        source_images=slice_headers(series),
        pixel_array=_pixels(labelmap),
        segmentation_type=kind,
        segment_descriptions=_segments(labelmap, operation, anatomy or {}),
        **series_identity(source, operation, series),
        manufacturer=SOFTWARE,
        manufacturer_model_name=operation.equipment[:64],
        software_versions=VERSION,
        device_serial_number=SOFTWARE,
        content_label="SEGMENTATION",
        content_description=operation.label[:64],
    )
    reference_frames(segmentation, series)
    make_deterministic(segmentation, source, operation, series)
    return segmentation


def _pixels(labelmap: LabelMap) -> NDArray:
    """Segment numbers [slices, rows, columns]; with overlaps, a mask of each segment in a last
    axis."""
    values = sorted(labelmap.names)
    if labelmap.overlaps:
        return np.stack([labelmap.mask(value) for value in values], axis=-1).astype(np.uint8)
    table = np.zeros(max([0, *values]) + 1, np.uint8 if len(values) < 256 else np.uint16)
    table[values] = np.arange(1, len(values) + 1)
    return table[labelmap.labels]


def _segments(
    labelmap: LabelMap, operation: Operation, anatomy: Mapping[str, Anatomy]
) -> list[SegmentDescription]:
    algorithm = AlgorithmIdentificationSequence(
        name=operation.equipment[:64],
        family=codes.DCM.ArtificialIntelligence,
        version=operation.equipment_version[:64],
        source=SOFTWARE,
    )
    algorithm[0].AlgorithmParameters = operation.description
    found = []
    for number, value in enumerate(sorted(labelmap.names), start=1):
        name = labelmap.names[value]
        found.append(_segment(number, name, anatomy.get(name) or codes_of(name), algorithm))
    return found


def _segment(
    number: int, name: str, anatomy: Anatomy, algorithm: AlgorithmIdentificationSequence
) -> SegmentDescription:
    """A segment's description; the side is the structure's, or, of a lesion, its organ's."""
    segment = SegmentDescription(
        segment_number=number,
        segment_label=name[:64],
        segmented_property_category=anatomy.category,
        segmented_property_type=anatomy.type,
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        anatomic_regions=[anatomy.region] if anatomy.region else None,
    )
    if anatomy.side and anatomy.region:
        segment.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [_item(anatomy.side)]
    elif anatomy.side:
        kind = segment.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [_item(anatomy.side)]
    return segment


def _item(code: Code) -> CodedConcept:
    return CodedConcept(code.value, code.scheme_designator, code.meaning)
