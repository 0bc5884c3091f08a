"""Series at two doses, and the public Mayo set's layout, made of small phantoms or real slices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from helpers.dicom import ROOT_UID, ct_slice, save
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume
from pipeline.physics.lowdose import LowDoseCT

SIZE, STEP_MM, PIXEL_MM = 48, 5.0, 2.0
NOISE_HU = 40.0
MAYO = "LDCT-and-Projection-data"
BODY_PARTS = {"C": "CHEST", "L": "ABDOMEN", "N": "HEAD"}

Change = Callable[[Dataset, int], None]


def body(size: int, place: float) -> NDArray[np.int16]:
    """Stored values (HU + 1024) of a round body whose brightness tells the slice's place."""
    rows, columns = np.indices((size, size)) - (size - 1) / 2
    inside = np.hypot(rows, columns) < 0.4 * size
    return np.where(inside, 1024 + 20 + place, 24).astype(np.int16)


def write_dose(
    folder: Path,
    description: str,
    places: list[float],
    *,
    patient: str = "P-1",
    noise_hu: float = 0.0,
    size: int = SIZE,
    origin_mm: tuple[float, float] = (-48.0, -48.0),
    change: Change = lambda dataset, number: None,
    **attributes: Any,
) -> list[Path]:
    """A series with slices at these places (mm). The names of low-dose files run the other way,
    so that a pair by file names is a pair of two places."""
    generator = np.random.default_rng(len(description))
    paths = []
    for number, place in enumerate(places):
        noise = np.rint(noise_hu * generator.standard_normal((size, size)))
        stored = (body(size, place) + noise).astype(np.int16)
        named = {
            "PatientID": patient,
            "SeriesDescription": description,
            "StudyInstanceUID": f"{ROOT_UID}.1.{sum(patient.encode())}",
            "SeriesInstanceUID": generate_uid(entropy_srcs=[patient, description, str(folder)]),
            "SOPInstanceUID": generate_uid(entropy_srcs=[patient, str(folder), str(number)]),
            "InstanceNumber": number + 1,
            "SliceThickness": str(STEP_MM),
            "PixelSpacing": [str(PIXEL_MM)] * 2,
            "ImagePositionPatient": [*map(str, origin_mm), f"{place:.3f}"],
        }
        dataset = ct_slice(stored=stored, **(named | attributes))
        change(dataset, number)
        is_low = "low" in description.casefold()
        name = len(places) - number if is_low else number + 1
        paths.append(save(dataset, folder / f"1-{name:02d}.dcm"))
    return paths


def mayo_folder(root: Path, case: str, series: str, number: int = 1) -> Path:
    """Where TCIA's downloader puts a case's series."""
    tail = f"{sum((case + series).encode()) * 7 % 100000:05d}"
    return root / MAYO / case / "12-23-2021-NA-NA-62464" / f"{number}.000000-{series}-{tail}"


def write_mayo_case(root: Path, case: str, places: list[float]) -> None:
    """A case of the public set: full- and low-dose images, and projections to be left alone."""
    about: dict[str, Any] = {
        "patient": case,
        "BodyPartExamined": BODY_PARTS[case[0]],
        "Manufacturer": "SIEMENS",
        "PatientName": case,
    }
    for series, noise_hu in (("Full Dose Images", 0.0), ("Low Dose Images", NOISE_HU)):
        folder = mayo_folder(root, case, series)
        write_dose(folder, series, places, noise_hu=noise_hu, **about)
    projections = mayo_folder(root, case, "Full dose projections")
    projections.mkdir(parents=True)
    (projections / "1-00001.dcm").write_bytes(b"not to be opened")


def as_mayo(source: list[Path], root: Path, case: str, physics: LowDoseCT) -> None:
    """Real slices, in order of place, and our simulation of their low dose as a case of the
    public set."""
    volume = read_volume(find_series(source[0].parent).series[0]).volume
    low_hu = physics(volume, np.random.default_rng(0))
    doses = {"Full Dose Images": None, "Low Dose Images": low_hu}
    for description, values_hu in doses.items():
        for number, path in enumerate(source):
            dataset = pydicom.dcmread(path)
            dataset.PatientID = dataset.PatientName = case
            dataset.SeriesDescription = description
            dataset.BodyPartExamined = BODY_PARTS[case[0]]
            dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[case, description])
            dataset.SOPInstanceUID = generate_uid(entropy_srcs=[case, description, str(number)])
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            if values_hu is not None:
                rescaled = (values_hu[number] - dataset.RescaleIntercept) / dataset.RescaleSlope
                measured = np.where(volume.valid[number], np.rint(rescaled), dataset.pixel_array)
                dataset.PixelData = measured.astype(dataset.pixel_array.dtype).tobytes()
            folder = mayo_folder(root, case, description)
            folder.mkdir(parents=True, exist_ok=True)
            name = number if values_hu is None else len(source) - number
            dataset.save_as(folder / f"1-{name:02d}.dcm")
