"""Label maps laid over a series: a NIfTI or NRRD file, or a DICOM Segmentation (PS3.3 A.51).

Each pixel of a slice takes the label of the voxel that it lies in, wherever the label map's own
grid is: so tilted, uneven and turned series are right. A label map is shown only with a series
that it is of: the same frame of reference, or the same corners.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import SimpleITK
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from pipeline.dicom.findings import Unreadable
from pipeline.dicom.sources import read_dataset
from pipeline.errors import ConfigError
from pipeline.image_files import LPS_TO_RAS, NIFTI, is_image_file, suffix_of
from pipeline.review.geometry import Geometry
from pipeline.review.planes import Planes

#: A label file made for a series repeats its places to rounding.
TOLERANCE_MM = 0.5
SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"


@dataclass(frozen=True)
class Labels:
    """values: integers [slices, rows, columns]. affine_lps: (slice, row, column) to LPS mm.
    names: of values, where the file knows them. frame_of_reference: "" where it names none."""

    values: NDArray[np.int16]
    affine_lps: NDArray[np.float64]
    names: dict[int, str]
    frame_of_reference: str = ""

    @cached_property
    def _to_index(self) -> NDArray[np.float64]:
        return np.linalg.inv(self.affine_lps)

    def is_of(self, geometry: Geometry, frame_of_reference: str) -> bool:
        """Whether these are labels of a series."""
        if self.frame_of_reference:
            return self.frame_of_reference == frame_of_reference
        mine = [self.affine_lps @ (*place, 1) for place in _ends(self.values.shape)]
        across, down, _ = geometry.affine_lps[:3, :3].T
        series = np.array(
            [
                geometry.slice_origins_mm[number] + row * down + column * across
                for number, row, column in _ends(geometry.shape)
            ]
        )
        gaps = [np.linalg.norm(series - corner[:3], axis=1).min() for corner in mine]
        return max(gaps) <= TOLERANCE_MM

    def planes(self, geometry: Geometry) -> Planes:
        """The labels on a series' own pixels; 0 beyond the label map."""

        def read(number: int) -> NDArray[np.int16]:
            across, down, _ = geometry.affine_lps[:3, :3].T
            turn = self._to_index[:3, :3]
            start = self._to_index @ (*geometry.slice_origins_mm[number], 1)
            rows = np.arange(geometry.shape[1])[:, None, None] * (turn @ down)
            columns = np.arange(geometry.shape[2])[:, None] * (turn @ across)
            index = np.rint(start[:3] + rows + columns).astype(int)
            inside = ((index >= 0) & (index < self.values.shape)).all(axis=-1)
            index[~inside] = 0
            found = self.values[tuple(index.transpose(2, 0, 1))]
            return np.where(inside, found, 0).astype(np.int16)

        return Planes(geometry, read, hu_step=1.0, labels=True)


def _ends(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """The corners of a grid, by index."""
    return product(*((0, side - 1) for side in shape))


def read_labels(path: Path) -> Labels:
    """Raises ConfigError where the file is no label map."""
    try:
        return _read_image(path) if is_image_file(path) else _read_seg(path)
    except (RuntimeError, ValueError, AttributeError, Unreadable, OSError, ImageFileError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{path} cannot be read as labels: {reason}") from error


def _read_image(path: Path) -> Labels:
    """NIfTI by nibabel, as ITK refuses the sheared affine of a tilted series."""
    if suffix_of(path) in NIFTI:
        nifti = nibabel.load(path)
        values, affine = np.asanyarray(nifti.dataobj).T, LPS_TO_RAS @ nifti.affine
    else:
        image = SimpleITK.ReadImage(str(path))
        values, affine = SimpleITK.GetArrayFromImage(image), np.eye(4)
        affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
        affine[:3, 3] = image.GetOrigin()
    if values.ndim != 3 or not np.array_equal(values, np.rint(values)):
        raise ValueError("expected whole numbers in three dimensions")
    affine[:3, :3] = affine[:3, 2::-1]  # both count columns first
    return Labels(values.astype(np.int16), affine, {})


def _read_seg(path: Path) -> Labels:
    dataset = read_dataset(path)
    if dataset.SOPClassUID != SEGMENTATION_STORAGE:
        raise ValueError("not a DICOM Segmentation")
    segmentation = highdicom.seg.Segmentation.from_dataset(dataset)
    volume = segmentation.get_volume(combine_segments=True, skip_overlap_checks=True)
    names = {
        number: segmentation.get_segment_description(number).segment_label
        for number in segmentation.segment_numbers
    }
    frame = str(dataset.get("FrameOfReferenceUID") or "")
    return Labels(volume.array.astype(np.int16), np.array(volume.affine), names, frame)


def is_segmentation(reason: str) -> bool:
    """Whether a file was left out of the CT series for being a DICOM Segmentation."""
    return reason == "not a CT image but Segmentation Storage"
