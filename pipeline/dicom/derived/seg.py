"""DICOM Segmentation objects: a label map of a series as one object (PS3.3 A.51, C.8.20).

highdicom builds them, frame by frame at the places of the source's slices and with a reference
to each. Dates and UIDs that it takes from the clock or at random are replaced, so that the same
labels of the same source by the same model are the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentDescription
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import CTImageStorage

from pipeline.core.atomic_files import replacing_folder
from pipeline.core.label_map import LabelMap
from pipeline.core.versions import SOFTWARE, VERSION
from pipeline.dicom.derived.structure_codes import Anatomy, codes_of
from pipeline.dicom.derived.structure_objects import (
    WrittenStructures,
    copy_patient_and_study,
    date_and_time,
    first_header,
    frame_of_reference_warnings,
    frames_of_reference,
    object_uid,
    require_safe_names,
    require_same_shape,
    save_object,
)
from pipeline.dicom.derived.write import (
    Operation,
    derived_uid,
    equipment_item,
    series_description,
    series_number,
    series_uid,
)
from pipeline.dicom.read.enhanced import source_reference
from pipeline.dicom.read.raw_elements import RawDataset, walk_items
from pipeline.dicom.read.series import Series

FILE = "SEG.dcm"
BINARY, LABELMAP = SegmentationTypeValues.BINARY, SegmentationTypeValues.LABELMAP
#: The attributes that highdicom needs of each slice.
SLICE_KEYWORDS = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "Rows",
    "Columns",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
)


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
        source_images=_slices(series),
        pixel_array=_pixels(labelmap),
        segmentation_type=kind,
        segment_descriptions=_segments(labelmap, operation, anatomy or {}),
        **_series_identity(source, operation, series),
        manufacturer=SOFTWARE,
        manufacturer_model_name=operation.equipment[:64],
        software_versions=VERSION,
        device_serial_number=SOFTWARE,
        content_label="SEGMENTATION",
        content_description=operation.label[:64],
    )
    _reference_frames(segmentation, series)
    _make_deterministic(segmentation, source, operation, series)
    return segmentation


def _series_identity(source: RawDataset, operation: Operation, series: Series) -> dict[str, Any]:
    """The object's own UIDs and numbers, as highdicom's keyword arguments."""
    return {
        "series_instance_uid": series_uid(series.header, operation, series.exact_part),
        "series_number": series_number(source.dataset, operation),
        "sop_instance_uid": object_uid(series, operation),
        "instance_number": 1,
    }


def _slices(series: Series) -> list[Dataset]:
    """Each slice's header with what highdicom needs; the patient is copied later."""
    frame_of_reference = frames_of_reference(series)[0]
    found = []
    for instance in series.instances:
        header = Dataset()
        for name in SLICE_KEYWORDS:
            if name in instance.header:
                setattr(header, name, instance.header[name].value)
        header.SOPClassUID, header.Modality = CTImageStorage, "CT"
        header.FrameOfReferenceUID = frame_of_reference
        for name in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex"):
            setattr(header, name, "")
        for name in ("AccessionNumber", "StudyID", "StudyDate", "StudyTime"):
            setattr(header, name, "")
        found.append(header)
    return found


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


def _reference_frames(segmentation: Dataset, series: Series) -> None:
    """Make references to slices of a multi-frame file name the file and frame."""
    if all(instance.frame is None for instance in series.instances):
        return
    real = {
        str(instance.header.SOPInstanceUID): source_reference(instance.header, instance.frame)
        for instance in series.instances
    }
    for item in walk_items(segmentation):
        reference = real.get(str(item.get("ReferencedSOPInstanceUID") or ""))
        if reference is not None:
            for element in reference:
                item[element.tag] = element
    _reference_file_once(segmentation)


def _reference_file_once(segmentation: Dataset) -> None:
    """Keep one reference to a file of many frames, without a frame number."""
    for referenced in segmentation.ReferencedSeriesSequence:
        once = {i.ReferencedSOPInstanceUID: i for i in referenced.ReferencedInstanceSequence}
        for item in once.values():
            item.pop("ReferencedFrameNumber", None)
        referenced.ReferencedInstanceSequence = list(once.values())


def _make_deterministic(
    segmentation: Dataset, source: RawDataset, operation: Operation, series: Series
) -> None:
    """Replace dates from the clock and random UIDs, and copy patient and study."""
    segmentation.SeriesDescription = series_description(source.dataset, operation, series.part)
    segmentation.SoftwareVersions = [VERSION, operation.equipment_version[:64]]
    segmentation.ContributingEquipmentSequence = [equipment_item(operation)]
    segmentation.ContentDate, segmentation.ContentTime = date_and_time(source.dataset)
    for name in ("InstanceCreationDate", "InstanceCreationTime"):
        delattr(segmentation, name)
    organisation = derived_uid([segmentation.SOPInstanceUID], operation, "dimensions")
    for name in ("DimensionOrganizationSequence", "DimensionIndexSequence"):
        for item in segmentation[name].value:
            item.DimensionOrganizationUID = organisation
    copy_patient_and_study(source, segmentation)
