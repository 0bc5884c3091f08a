"""What multi-frame objects that highdicom builds from a series have in common: SEG, Parametric Map.

highdicom takes dates from the clock and some UIDs at random. These are replaced, so that the same
values of the same source by the same operation are the same bytes.
"""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from pipeline.core.versions import VERSION
from pipeline.dicom.derived.structure_objects import (
    copy_patient_and_study,
    date_and_time,
    frames_of_reference,
    object_uid,
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


def series_identity(source: RawDataset, operation: Operation, series: Series) -> dict[str, Any]:
    """The object's own UIDs and numbers, as highdicom's keyword arguments."""
    return {
        "series_instance_uid": series_uid(series.header, operation, series.exact_part),
        "series_number": series_number(source.dataset, operation),
        "sop_instance_uid": object_uid(series, operation),
        "instance_number": 1,
    }


def slice_headers(series: Series) -> list[Dataset]:
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


def reference_frames(made: Dataset, series: Series) -> None:
    """Make references to slices of a multi-frame file name the file and frame."""
    if all(instance.frame is None for instance in series.instances):
        return
    real = {
        str(instance.header.SOPInstanceUID): source_reference(instance.header, instance.frame)
        for instance in series.instances
    }
    for item in walk_items(made):
        reference = real.get(str(item.get("ReferencedSOPInstanceUID") or ""))
        if reference is not None:
            for element in reference:
                item[element.tag] = element
    _reference_file_once(made)


def _reference_file_once(made: Dataset) -> None:
    """Keep one reference to a file of many frames, without a frame number."""
    for referenced in made.ReferencedSeriesSequence:
        once = {i.ReferencedSOPInstanceUID: i for i in referenced.ReferencedInstanceSequence}
        for item in once.values():
            item.pop("ReferencedFrameNumber", None)
        referenced.ReferencedInstanceSequence = list(once.values())


def make_deterministic(
    made: Dataset, source: RawDataset, operation: Operation, series: Series
) -> None:
    """Replace dates from the clock and random UIDs, and copy patient and study."""
    made.SeriesDescription = series_description(source.dataset, operation, series.part)
    made.SoftwareVersions = [VERSION, operation.equipment_version[:64]]
    made.ContributingEquipmentSequence = [equipment_item(operation)]
    made.ContentDate, made.ContentTime = date_and_time(source.dataset)
    for name in ("InstanceCreationDate", "InstanceCreationTime"):
        delattr(made, name)
    organisation = derived_uid([made.SOPInstanceUID], operation, "dimensions")
    for name in ("DimensionOrganizationSequence", "DimensionIndexSequence"):
        for item in made[name].value:
            item.DimensionOrganizationUID = organisation
    copy_patient_and_study(source, made)
