"""Small series with known structures in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from helpers.dicom import ct_slice, only_series, save
from pipeline.core.label_map import LabelMap
from pipeline.core.volume import Volume
from pipeline.dicom.derived.write import DENOISED, Operation
from pipeline.dicom.read.series import Series

SHAPE = (8, 40, 36)
COLUMN_MM, ROW_MM = 0.7, 0.8
WEIGHTS = "0123456789abcdef" * 4

SEGMENTED = Operation(
    label="AI SEGMENTATION test v1",
    description=f"Segmentation by neural network. Model test version 1, SHA-256 {WEIGHTS}.",
    code=DENOISED,
    equipment="test",
    equipment_version="1 sha256:0123456789abcdef",
    identity=f"test/1/{WEIGHTS}",
)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def make_series(folder: Path, **attributes: Any) -> Series:
    """SHAPE slices of 0.8 x 0.7 mm, 2.5 mm apart; attributes as for ct_slice."""
    slices, rows, columns = SHAPE
    stored = (np.arange(rows * columns).reshape(rows, columns) % 900 + 100).astype(np.int16)
    for index in range(slices):
        save(ct_slice(index, stored + index, **attributes), folder / f"{index:03d}.dcm")
    return only_series(folder)


def tilted(**attributes: Any) -> dict[str, Any]:
    """Attributes of slices whose gantry was tilted: rows lean out of the axial plane."""
    cosines = ["1", "0", "0", "0", "0.9483237", "-0.3173047"]
    return {"ImageOrientationPatient": cosines, **attributes}


def ball(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> NDArray:
    """Where an ellipsoid is, centre and radii in voxels (slice, row, column)."""
    places = np.indices(SHAPE) - np.reshape(centre, (3, 1, 1, 1))
    return ((places / np.reshape(radii, (3, 1, 1, 1))) ** 2).sum(axis=0) <= 1


def structures() -> LabelMap:
    """A liver with a hole, a left kidney beside it, and a spleen that the image lacks.

    No axis can be flipped or swapped without its showing.
    """
    labels = np.zeros(SHAPE, np.uint8)
    labels[ball((3, 15, 12), (2.6, 12, 9))] = 5
    labels[ball((3, 15, 12), (1.2, 4, 3))] = 0
    labels[ball((5, 27, 28), (2.2, 6, 5))] = 2
    labels[6, 36, 2] = 2
    return LabelMap(labels, {2: "kidney_left", 5: "liver", 9: "spleen"})


def assert_same_structures(found: LabelMap, expected: LabelMap) -> None:
    """Every structure of `expected` in the same voxels, whatever its value."""
    values = {name: value for value, name in found.names.items()}
    for value, name in expected.names.items():
        np.testing.assert_array_equal(found.mask(values[name]), expected.mask(value), name)


def dice(first: NDArray, second: NDArray) -> float:
    return 2 * float((first & second).sum()) / float(first.sum() + second.sum())


def nifti_labels(path: Path, labels: NDArray, affine_lps: NDArray[np.float64]) -> Path:
    """A NIfTI by nibabel alone, of labels [slices, rows, columns]."""
    image = nibabel.Nifti1Image(labels.T, LPS_TO_RAS @ affine_lps)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def even_volume(affine_lps: NDArray[np.float64]) -> Volume:
    origins = affine_lps[:3, 3] + np.arange(SHAPE[0])[:, None] * affine_lps[:3, 2]
    return Volume(np.zeros(SHAPE, np.float32), np.ones(SHAPE, bool), affine_lps, origins)


def of_another(dataset: Dataset, index: int) -> None:
    """Make a slice one of another study, with its own coordinates."""
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
        setattr(dataset, name, f"{dataset[name].value}.9")
