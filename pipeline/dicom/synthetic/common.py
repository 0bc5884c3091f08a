"""What phantom and generated CT images have in common: image plane, pixels, file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import DSfloat

RESCALE_INTERCEPT_HU = -1024
_DATE, _TIME = "20240101", "120000"  # constant, so that the same seed gives the same bytes


def date_study(dataset: Dataset) -> None:
    """Set study, series, acquisition and content to one constant date and time."""
    for part in ("Study", "Series", "Acquisition", "Content"):
        setattr(dataset, f"{part}Date", _DATE)
        setattr(dataset, f"{part}Time", _TIME)


def place_slice(
    dataset: Dataset,
    index: int,
    *,
    shape: tuple[int, int],
    spacing_mm: tuple[float, float, float],
    thickness_mm: float,
) -> None:
    """Set the image plane, head first supine; the isocentre is the middle of the first slice.

    index: the slice's, from 0. shape: (rows, columns). spacing_mm: (slice, row, column).
    """
    slice_mm, row_mm, column_mm = spacing_mm
    rows, columns = shape
    corner_mm = (-(columns - 1) / 2 * column_mm, -(rows - 1) / 2 * row_mm, -index * slice_mm)
    dataset.PatientPosition = "HFS"
    dataset.ImagePositionPatient = [decimal(value) for value in corner_mm]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [decimal(row_mm), decimal(column_mm)]
    dataset.SliceThickness = decimal(thickness_mm)
    dataset.SliceLocation = decimal(corner_mm[2])
    dataset.InstanceNumber = index + 1


def decimal(value: float) -> DSfloat:
    """A decimal string within DICOM's 16 characters."""
    return DSfloat(float(value), auto_format=True)


def store_pixels(dataset: Dataset, stored: NDArray[np.integer]) -> None:
    """Set pixels, signed 16-bit, from stored values [rows, columns]: HU - RESCALE_INTERCEPT_HU."""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 1
    dataset.RescaleIntercept = RESCALE_INTERCEPT_HU
    dataset.RescaleSlope = 1
    dataset.RescaleType = "HU"
    dataset.WindowCenter, dataset.WindowWidth = 40, 400
    dataset.WindowCenterWidthExplanation = "SOFT TISSUE"
    dataset.add_new("PixelData", "OW", stored.astype("<i2").tobytes())


def save_slice(dataset: Dataset, path: Path) -> None:
    """Write a CT Image with the file meta information that belongs to it."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
