"""A phantom as the CT series a scanner would have sent: single-frame CT Image Storage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import DSfloat

from pipeline.errors import ConfigError
from pipeline.physics.phantom import Phantom

_RESCALE_INTERCEPT_HU = -1024
_PADDING = -2000  # as stored, what GE scanners write outside their round field
_DATE, _TIME = "20240101", "120000"  # constant, so that the same seed gives the same bytes


def write_phantom_series(
    phantom: Phantom, folder: Path, *, patient_number: int, seed: int
) -> list[Path]:
    """Write ``phantom`` as ``folder``/CT.0001.dcm ..., head first; returns the paths in order.

    Values are rounded to whole HU; outside the circle inscribed in the image they are padding
    (PixelPaddingValue). The patient is head first supine, so z falls from slice to slice. UIDs
    depend on ``patient_number`` and ``seed`` alone. Attributes: CT Image IOD, DICOM PS3.3 A.3.
    The folder is created. Raises ConfigError for a patient number below 1.
    """
    if patient_number < 1:
        raise ConfigError(f"patient_number counts from 1, got {patient_number}")
    folder.mkdir(parents=True, exist_ok=True)
    entropy = ["ldct phantom", str(patient_number), str(seed)]
    paths = []
    for index, image_hu in enumerate(phantom.image_hu):
        dataset = Dataset()
        _describe_study(dataset, patient_number=patient_number, entropy=entropy)
        _describe_acquisition(dataset, phantom)
        _place(dataset, phantom, index=index)
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[*entropy, f"instance {index + 1}"])
        _store_pixels(dataset, image_hu)
        path = folder / f"CT.{index + 1:04d}.dcm"
        _save(dataset, path)
        paths.append(path)
    return paths


def _describe_study(dataset: Dataset, *, patient_number: int, entropy: list[str]) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = f"Phantom^Chest-{patient_number:02d}"
    dataset.PatientID = f"LDCT-PHANTOM-{patient_number:02d}"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "O"
    dataset.QualityControlSubject = "YES"  # DICOM's way to say that nobody was scanned
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[*entropy, "study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[*entropy, "series"])
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=[*entropy, "frame of reference"])
    dataset.PositionReferenceIndicator = ""
    dataset.StudyID = str(patient_number)
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "LDCT phantom"
    dataset.SeriesDescription = "Chest and abdomen, full dose"
    for part in ("Study", "Series", "Acquisition", "Content"):
        setattr(dataset, f"{part}Date", _DATE)
        setattr(dataset, f"{part}Time", _TIME)


def _describe_acquisition(dataset: Dataset, phantom: Phantom) -> None:
    dataset.SOPClassUID = CTImageStorage
    dataset.Modality = "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Manufacturer = "LDCT phantom"
    dataset.ManufacturerModelName = "patient_phantom"
    dataset.BodyPartExamined = "CHEST"
    dataset.ProtocolName = "Chest and abdomen"
    dataset.PatientPosition = "HFS"
    dataset.SeriesNumber = 2
    dataset.AcquisitionNumber = 1
    dataset.KVP = 120
    dataset.XRayTubeCurrent = 240
    dataset.ExposureTime = 500
    dataset.Exposure = 120
    dataset.ConvolutionKernel = "STANDARD"
    rows_mm = phantom.image_hu.shape[1] * phantom.spacing_mm[1]
    dataset.ReconstructionDiameter = _decimal(rows_mm)


def _place(dataset: Dataset, phantom: Phantom, *, index: int) -> None:
    """The image plane; the isocentre is the middle of the first slice."""
    slice_mm, row_mm, column_mm = phantom.spacing_mm
    rows, columns = phantom.image_hu.shape[1:]
    corner_mm = (-(columns - 1) / 2 * column_mm, -(rows - 1) / 2 * row_mm, -index * slice_mm)
    dataset.ImagePositionPatient = [_decimal(value) for value in corner_mm]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [_decimal(row_mm), _decimal(column_mm)]
    dataset.SliceThickness = _decimal(phantom.slice_thickness_mm)
    dataset.SliceLocation = _decimal(corner_mm[2])
    dataset.InstanceNumber = index + 1


def _decimal(value: float) -> DSfloat:
    """A decimal string within DICOM's 16 characters."""
    return DSfloat(float(value), auto_format=True)


def _store_pixels(dataset: Dataset, image_hu: NDArray[np.float32]) -> None:
    rows, columns = image_hu.shape
    stored = np.rint(image_hu - _RESCALE_INTERCEPT_HU).clip(_PADDING + 1, 32767)
    y, x = np.ogrid[:rows, :columns]
    radius = np.hypot((2 * y - rows + 1) / rows, (2 * x - columns + 1) / columns)
    stored = np.where(radius > 1, _PADDING, stored).astype("<i2")
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 1
    dataset.add_new("PixelPaddingValue", "SS", _PADDING)
    dataset.RescaleIntercept = _RESCALE_INTERCEPT_HU
    dataset.RescaleSlope = 1
    dataset.RescaleType = "HU"
    dataset.WindowCenter, dataset.WindowWidth = 40, 400
    dataset.WindowCenterWidthExplanation = "SOFT TISSUE"
    dataset.add_new("PixelData", "OW", stored.tobytes())


def _save(dataset: Dataset, path: Path) -> None:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
