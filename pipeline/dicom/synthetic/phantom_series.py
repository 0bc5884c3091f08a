"""A phantom as a CT series like a scanner's: single-frame CT Image Storage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, generate_uid

from pipeline.core.errors import ConfigError
from pipeline.dicom.synthetic.common import (
    RESCALE_INTERCEPT_HU,
    date_study,
    decimal,
    place_slice,
    save_slice,
    store_pixels,
)
from pipeline.physics.phantoms.patient import Phantom

_PADDING = -2000  # as stored, what GE scanners write outside their round field


def write_phantom_series(
    phantom: Phantom, folder: Path, *, patient_number: int, seed: int
) -> list[Path]:
    """Write `phantom` as folder/CT.0001.dcm ..., head first; returns the paths in order.

    Values are rounded to whole HU; outside the circle inscribed in the image they are padding
    (PixelPaddingValue). The patient is head first supine, so z falls from slice to slice. UIDs
    depend on `patient_number` and `seed` alone. Attributes: CT Image IOD, DICOM PS3.3 A.3.
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
        place_slice(
            dataset,
            index,
            shape=image_hu.shape,
            spacing_mm=phantom.spacing_mm,
            thickness_mm=phantom.slice_thickness_mm,
        )
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[*entropy, f"instance {index + 1}"])
        _store_pixels(dataset, image_hu)
        path = folder / f"CT.{index + 1:04d}.dcm"
        save_slice(dataset, path)
        paths.append(path)
    return paths


def _describe_study(dataset: Dataset, *, patient_number: int, entropy: list[str]) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = f"Phantom^Chest-{patient_number:02d}"
    dataset.PatientID = f"LDCT-PHANTOM-{patient_number:02d}"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "O"
    dataset.QualityControlSubject = "YES"  # a phantom, no patient (PS3.3 C.7.1.1)
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[*entropy, "study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[*entropy, "series"])
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=[*entropy, "frame of reference"])
    dataset.PositionReferenceIndicator = ""
    dataset.StudyID = str(patient_number)
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "LDCT phantom"
    dataset.SeriesDescription = "Chest and abdomen, full dose"
    date_study(dataset)


def _describe_acquisition(dataset: Dataset, phantom: Phantom) -> None:
    dataset.SOPClassUID = CTImageStorage
    dataset.Modality = "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Manufacturer = "LDCT phantom"
    dataset.ManufacturerModelName = "patient_phantom"
    dataset.BodyPartExamined = "CHEST"
    dataset.ProtocolName = "Chest and abdomen"
    dataset.SeriesNumber = 2
    dataset.AcquisitionNumber = 1
    dataset.KVP = 120
    dataset.XRayTubeCurrent = 240
    dataset.ExposureTime = 500
    dataset.Exposure = 120
    dataset.ConvolutionKernel = "STANDARD"
    rows_mm = phantom.image_hu.shape[1] * phantom.spacing_mm[1]
    dataset.ReconstructionDiameter = decimal(rows_mm)


def _store_pixels(dataset: Dataset, image_hu: NDArray[np.float32]) -> None:
    rows, columns = image_hu.shape
    stored = np.rint(image_hu - RESCALE_INTERCEPT_HU).clip(_PADDING + 1, 32767)
    y, x = np.ogrid[:rows, :columns]
    radius = np.hypot((2 * y - rows + 1) / rows, (2 * x - columns + 1) / columns)
    dataset.add_new("PixelPaddingValue", "SS", _PADDING)
    store_pixels(dataset, np.where(radius > 1, _PADDING, stored).astype(np.int16))
