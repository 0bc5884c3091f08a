"""A CT series of any length, from the slices of a real one: what benchmarks of length read."""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom.uid import generate_uid

STEP_MM = 2.5


def write_long_series(source: Path, folder: Path, slices: int) -> Path:
    """The real slices there and back again, with names and places of their own, STEP_MM apart.

    UIDs depend on `slices` and the source's alone. Returns `folder`.
    """
    folder.mkdir(parents=True)
    real = sorted(source.glob("*.dcm")) or sorted(p for p in source.iterdir() if p.is_file())
    there_and_back = real + real[-2:0:-1]
    for number in range(slices):
        dataset = pydicom.dcmread(there_and_back[number % len(there_and_back)])
        named = [str(dataset.SeriesInstanceUID), str(slices)]
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[*named, str(number)])
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.SeriesInstanceUID = generate_uid(entropy_srcs=named)
        dataset.InstanceNumber = number + 1
        across, down, _ = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [across, down, number * STEP_MM]
        dataset.save_as(folder / f"{number:04d}.dcm")
    return folder
