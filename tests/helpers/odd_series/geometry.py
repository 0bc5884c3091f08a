"""Where slices lie, as texts in a header, and the affine that these texts mean (PS3.3 C.7.6.2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

#: Row and column directions: as a patient lies, feet first, coronal, sagittal, and rotated.
DIRECTIONS = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "prone": ((-1, 0, 0), (0, -1, 0)),
    "feet first": ((-1, 0, 0), (0, 1, 0)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
}
MAX_DS_LENGTH = 16


@dataclass(frozen=True)
class Geometry:
    """A stack of slices. turned: degrees about x, then about z. tilt: degrees between the line
    through the slices and their normal. decimals: of positions and cosines in the texts. style:
    how numbers are written. jitter: every second slice's cosines differ by so much. mixed_texts: it
    writes the same spacing otherwise."""

    plane: str = "axial"
    turned: tuple[float, float] = (0.0, 0.0)
    tilt: float = 0.0
    slices: int = 4
    step_mm: float = 2.5
    spacing: tuple[str, str] = ("0.80", "0.70")
    origin_mm: tuple[float, float, float] = (-10.5, -20.25, 0.0)
    decimals: int = 6
    style: str = "plain"
    jitter: float = 0.0
    mixed_texts: bool = False

    @cached_property
    def cosines(self) -> list[tuple[str, ...]]:
        """ImageOrientationPatient of each slice."""
        exact = np.concatenate([self._rotation @ direction for direction in self._plane])
        return [
            tuple(ds(value + self.jitter * (index % 2), 10, self.style) for value in exact)
            for index in range(self.slices)
        ]

    def spacing_of(self, index: int) -> list[str]:
        """PixelSpacing of slice `index`."""
        if self.mixed_texts and index % 2:
            return [f"{float(value):.8e}" for value in self.spacing]
        return list(self.spacing)

    @cached_property
    def positions(self) -> list[tuple[str, ...]]:
        """ImagePositionPatient of each slice, in the order of the scan."""
        row, column = (self._rotation @ direction for direction in self._plane)
        lean = np.tan(np.radians(self.tilt)) * column
        step = (np.cross(row, column) + lean) * self.step_mm
        origins = np.array(self.origin_mm) + np.arange(self.slices)[:, None] * step
        return [tuple(ds(value, self.decimals, self.style) for value in at) for at in origins]

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """The slices from the lowest to the highest along row x column."""
        cosines = np.array(self.cosines[0], dtype=float)
        normal = np.cross(cosines[:3], cosines[3:])
        return np.argsort(np.array(self.positions, dtype=float) @ normal)

    @cached_property
    def affine_lps(self) -> NDArray[np.float64]:
        """(column, row, slice) to LPS mm, of the numbers as they are written."""
        cosines = np.array(self.cosines[self.order[0]], dtype=float)
        origins = np.array(self.positions, dtype=float)[self.order]
        row_mm, column_mm = map(float, self.spacing)
        affine = np.eye(4)
        affine[:3, 0] = cosines[:3] * column_mm
        affine[:3, 1] = cosines[3:] * row_mm
        affine[:3, 2] = (origins[-1] - origins[0]) / (len(origins) - 1)
        affine[:3, 3] = origins[0]
        return affine

    @property
    def _plane(self) -> NDArray[np.float64]:
        return np.array(DIRECTIONS[self.plane], dtype=float)

    @property
    def _rotation(self) -> NDArray[np.float64]:
        about_x, about_z = np.radians(self.turned)
        x = np.eye(3)
        x[1:, 1:] = [[np.cos(about_x), -np.sin(about_x)], [np.sin(about_x), np.cos(about_x)]]
        z = np.eye(3)
        z[:2, :2] = [[np.cos(about_z), -np.sin(about_z)], [np.sin(about_z), np.cos(about_z)]]
        return z @ x


def ds(value: float, decimals: int, style: str) -> str:
    """A number as a DS (PS3.5 6.2): at most 16 characters, with a sign, an exponent or blanks;
    but for "long"."""
    value = round(value, decimals) + 0.0
    digits = decimals
    if style == "long":  # more than a DS may have, as many writers have it
        return f"{value:.16f}"
    if style == "exponent" and value:
        digits = max(0, decimals + int(np.floor(np.log10(abs(value)))))
    while True:
        plain = f"{value:.{digits}e}" if style == "exponent" else f"{value:.{digits}f}"
        written = {"plus": f"{value:+.{digits}f}", "trimmed": _trimmed(plain)}.get(style, plain)
        written = {"leading": f" {plain}", "trailing": f"{plain} "}.get(style, written)
        if len(written) <= MAX_DS_LENGTH:
            return written
        digits -= 1


def _trimmed(plain: str) -> str:
    return (plain.rstrip("0").rstrip(".") if "." in plain else plain) or "0"
