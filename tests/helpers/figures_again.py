"""A run's figures, computed again from the files that it left, by pydicom and numpy; the masks of
body and tissue alone are ours. Padding is the same in all of them, so that it adds no error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from pipeline.core.masks import body_mask
from pipeline.metrics.image import tissue_masks


def volume_hu(folder: Path) -> NDArray[np.float64]:
    """A series in HU [slices, rows, columns], from the feet up."""
    return np.stack([pixels for _, pixels in sorted(_slices(folder), key=lambda one: one[0])])


def _slices(folder: Path) -> list[tuple[float, NDArray[np.float64]]]:
    images = [pydicom.dcmread(path) for path in folder.glob("*.dcm")]
    return [
        (
            float(image.ImagePositionPatient[2]),
            image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept),
        )
        for image in images
    ]


def source_of(derived: Path, root: Path) -> Path:
    """The folder below `root` with the images that a derived series names as its source."""
    image = pydicom.dcmread(next(derived.glob("*.dcm")), stop_before_pixels=True)
    named = image.SourceImageSequence[0].ReferencedSOPInstanceUID
    (folder,) = {
        path.parent
        for path in root.rglob("*.dcm")
        if pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).get("SOPInstanceUID") == named
    }
    return folder


def psnr_db(image_hu: NDArray, target_hu: NDArray, centre_hu: float, width_hu: float) -> float:
    """Mean over slices of the PSNR of the whole slice, both images clipped to the window."""
    low, high = centre_hu - width_hu / 2, centre_hu + width_hu / 2
    error = image_hu.clip(low, high) - target_hu.clip(low, high)
    return float(np.mean(10 * np.log10(width_hu**2 / np.mean(error**2, axis=(1, 2)))))


def bias_hu(image_hu: NDArray, target_hu: NDArray, tissue: str) -> float:
    """The mean error over all voxels of a tissue."""
    masks = np.stack([tissue_masks(target, body_mask(target))[tissue] for target in target_hu])
    return float((image_hu - target_hu)[masks].mean())
