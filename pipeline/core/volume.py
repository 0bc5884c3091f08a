"""The thing that flows: an image in HU with its place in the patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Volume:
    """A CT series as numbers.

    image_hu: float32 [slices, rows, columns]. valid: bool, the same shape, False where the
    scanner measured nothing; image_hu holds air there (padding), or the nearest HU (pixels that
    were drawn over). affine_lps: 4 x 4, from (column, row, slice) to patient millimetres in
    DICOM's LPS axes; with a tilted gantry it is sheared. slice_origins_mm: [slices, 3], each
    slice's first voxel as its header says, the truth where spacing is uneven. provenance: what was
    read and how, free of identity.
    """

    image_hu: NDArray[np.float32]
    valid: NDArray[np.bool_]
    affine_lps: NDArray[np.float64]
    slice_origins_mm: NDArray[np.float64]
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.image_hu.ndim != 3 or self.image_hu.shape != self.valid.shape:
            raise ValueError(
                "image_hu and valid must be of one shape [slices, rows, columns], got "
                f"{self.image_hu.shape} and {self.valid.shape}"
            )
        if self.slice_origins_mm.shape != (self.image_hu.shape[0], 3):
            raise ValueError(
                f"slice_origins_mm must be [{self.image_hu.shape[0]}, 3], "
                f"got {self.slice_origins_mm.shape}"
            )

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """(slice, row, column) spacing in mm; between slices along the normal, on average."""
        column_axis, row_axis, slice_axis = self.affine_lps[:3, :3].T
        normal = np.cross(column_axis, row_axis)
        normal /= np.linalg.norm(normal)
        return (
            float(abs(slice_axis @ normal)),
            float(np.linalg.norm(row_axis)),
            float(np.linalg.norm(column_axis)),
        )

    def slices(self, numbers: Sequence[int] | NDArray[np.int64]) -> Volume:
        """The slices of these numbers, counted from 0, in their order; the affine stays that of
        the whole volume."""
        chosen = np.asarray(numbers, np.int64)
        return replace(
            self,
            image_hu=self.image_hu[chosen],
            valid=self.valid[chosen],
            slice_origins_mm=self.slice_origins_mm[chosen],
        )


def even_origins_mm(affine_lps: NDArray[np.float64], slices: int) -> NDArray[np.float64]:
    """The slices' origins [slices, 3] in LPS mm on the even grid of an affine [4, 4]."""
    return affine_lps[:3, 3] + np.arange(slices)[:, None] * affine_lps[:3, 2]
