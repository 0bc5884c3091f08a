"""RT Structure Sets: a label map of a series as contours (PS3.3 A.19, C.8.8.5 to C.8.8.8).

Contours run halfway between pixels, in the plane of their slice and in patient coordinates, and
reach holes by keyhole. Filling them gives the label map again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

from pipeline.core.atomic_files import replacing_folder
from pipeline.core.contours import Outline, trace_outlines
from pipeline.core.label_map import LabelMap
from pipeline.core.versions import SOFTWARE, VERSION
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
    equipment_item,
    series_description,
    series_number,
    series_uid,
)
from pipeline.dicom.read.enhanced import source_reference
from pipeline.dicom.read.headers import Instance
from pipeline.dicom.read.raw_elements import RawDataset
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.slice_requirements import numbers

FILE = "RTSTRUCT.dcm"
#: Detached Study Management, retired, is what names a study here (PS3.3 C.8.8.5).
STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"


def write_rtstruct(
    labelmap: LabelMap, series: Series, operation: Operation, folder: Path
) -> WrittenStructures:
    """Write `folder`/RTSTRUCT.dcm, whole or not at all; see make_rtstruct."""
    with replacing_folder(folder) as partial:
        return write_rtstruct_file(labelmap, series, operation, partial)


def write_rtstruct_file(
    labelmap: LabelMap, series: Series, operation: Operation, folder: Path
) -> WrittenStructures:
    """Write RTSTRUCT.dcm into `folder`, which exists; raises as make_rtstruct does."""
    structures = make_rtstruct(labelmap, series, operation)
    save_object(structures, folder, FILE)
    contours = sum(len(roi.get("ContourSequence") or ()) for roi in structures.ROIContourSequence)
    return WrittenStructures(
        instances=1,
        structures=len(labelmap.names),
        contours=contours,
        warnings=tuple(frame_of_reference_warnings(series)),
    )


def make_rtstruct(labelmap: LabelMap, series: Series, operation: Operation) -> Dataset:
    """The object: a structure for each name of the label map, numbered from 1 by value.

    labelmap: on the grid of series.instances. Raises LdctError for a source without
    identifiers or for structures whose names identify the patient.
    """
    require_same_shape(labelmap, series)
    operation = replace(operation, product=f"structures {operation.product}".strip())
    source = first_header(series)
    require_safe_names(labelmap.names.values(), source.dataset)
    dataset = Dataset()
    _describe(dataset, source, series, operation)
    dataset.ReferencedFrameOfReferenceSequence = [_frame_of_reference(series)]
    dataset.StructureSetROISequence = []
    dataset.ROIContourSequence = []
    dataset.RTROIObservationsSequence = []
    for number, value in enumerate(sorted(labelmap.names), start=1):
        _add(dataset, number, labelmap, value, series)
    copy_patient_and_study(source, dataset)
    return dataset


def _describe(dataset: Dataset, source: RawDataset, series: Series, operation: Operation) -> None:
    """Set the modules of series, equipment and SOP, and the structure set's name and label."""
    dataset.SOPClassUID = RTStructureSetStorage
    dataset.SOPInstanceUID = object_uid(series, operation)
    dataset.StudyInstanceUID = series.header.StudyInstanceUID
    dataset.SeriesInstanceUID = series_uid(series.header, operation, series.exact_part)
    dataset.Modality = "RTSTRUCT"
    dataset.SeriesNumber = series_number(source.dataset, operation)
    dataset.SeriesDescription = series_description(source.dataset, operation, series.part)
    dataset.OperatorsName = ""
    dataset.InstanceNumber = 1
    dataset.Manufacturer = SOFTWARE
    dataset.ManufacturerModelName = operation.equipment[:64]
    dataset.SoftwareVersions = [VERSION, operation.equipment_version[:64]]
    dataset.ContributingEquipmentSequence = [equipment_item(operation)]
    dataset.FrameOfReferenceUID = frames_of_reference(series)[0]
    dataset.PositionReferenceIndicator = source.dataset.get("PositionReferenceIndicator") or ""
    dataset.StructureSetLabel = operation.label[:16]
    dataset.StructureSetName = operation.label[:64]
    dataset.StructureSetDescription = operation.description[:1024]
    dataset.StructureSetDate, dataset.StructureSetTime = date_and_time(source.dataset)
    dataset.file_meta = FileMetaDataset()
    # Explicit VR has no length for the contour of a large structure with many holes.
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID


def _frame_of_reference(series: Series) -> Dataset:
    """The item of frame of reference, study and series that references every image."""
    images = Dataset()
    images.SeriesInstanceUID = series.header.SeriesInstanceUID
    images.ContourImageSequence = [source_reference(i.header, i.frame) for i in series.instances]
    study = Dataset()
    study.ReferencedSOPClassUID = STUDY_CLASS
    study.ReferencedSOPInstanceUID = series.header.StudyInstanceUID
    study.RTReferencedSeriesSequence = [images]
    frame = Dataset()
    frame.FrameOfReferenceUID = frames_of_reference(series)[0]
    frame.RTReferencedStudySequence = [study]
    return frame


def _add(dataset: Dataset, number: int, labelmap: LabelMap, value: int, series: Series) -> None:
    """Add a structure to the sequences of ROIs, of contours and of observations."""
    roi = Dataset()
    roi.ROINumber = number
    roi.ReferencedFrameOfReferenceUID = frames_of_reference(series)[0]
    roi.ROIName = labelmap.names[value][:64]
    roi.ROIGenerationAlgorithm = "AUTOMATIC"
    dataset.StructureSetROISequence.append(roi)
    drawn = Dataset()
    drawn.ReferencedROINumber = number
    drawn.ContourSequence = [
        _contour(outline, instance)
        for plane, instance in enumerate(series.instances)
        for outline in trace_outlines(labelmap.mask(value, plane))
    ]
    if not drawn.ContourSequence:
        del drawn.ContourSequence  # present is not empty (type 3)
    dataset.ROIContourSequence.append(drawn)
    observation = Dataset()
    observation.ObservationNumber = number
    observation.ReferencedROINumber = number
    observation.RTROIInterpretedType = ""
    observation.ROIInterpreter = ""
    dataset.RTROIObservationsSequence.append(observation)


def _contour(outline: Outline, instance: Instance) -> Dataset:
    contour = Dataset()
    contour.ContourImageSequence = [source_reference(instance.header, instance.frame)]
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.NumberOfContourPoints = len(outline)
    contour.ContourData = [f"{part:.4f}" for part in _in_patient(outline, instance).ravel()]
    return contour


def _in_patient(outline: Outline, instance: Instance) -> NDArray[np.float64]:
    """(column, row) to patient millimetres in a slice's plane (PS3.3 C.7.6.2.1.1)."""
    cosines = numbers(instance.header, "ImageOrientationPatient", 6)
    row_mm, column_mm = numbers(instance.header, "PixelSpacing", 2)
    axes = np.stack([cosines[:3] * column_mm, cosines[3:] * row_mm])
    return instance.origin_mm + outline @ axes
