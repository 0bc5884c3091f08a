"""What a difference between two images is searched for: discs, vessels and edges, as spectra.

A disc is a lesion that was erased or invented; a line is a vessel or a fissure; an edge is the pair
of ridges of opposite sign that a border leaves when it was blurred or sharpened. Each is blurred
as a scanner would.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

Kind = Literal["disc", "line", "edge"]
Spacing = tuple[float, float]

#: Diameters of the discs.
DISCS_MM = (2.0, 3.0, 5.0, 7.0, 10.0)
#: Width of lines and of each ridge of an edge, and the length over which both are straight.
WIDTH_MM, LENGTH_MM = 2.0, 10.0
#: Directions of lines and edges, evenly over half a turn.
DIRECTIONS = 6
#: Standard deviation of the blur of a body kernel.
BLUR_MM = 0.5

_PER_FWHM = 1 / 2.355


@dataclass(frozen=True)
class Template:
    """A structure of height 1 about the origin.

    size_mm: a disc's diameter, the width of a line or an edge. spectrum: its discrete Fourier
    transform, [rows, columns // 2 + 1] as scipy.fft.rfft2 has it; real, or of an edge its
    imaginary part, since an edge is odd.
    """

    kind: Kind
    size_mm: float
    spectrum: NDArray[np.float32]

    @functools.cached_property
    def power(self) -> NDArray[np.float32]:
        """The square of the spectrum."""
        return self.spectrum**2


@functools.lru_cache(maxsize=4)
def templates(shape: tuple[int, int], spacing_mm: Spacing) -> tuple[Template, ...]:
    """All of them for images of `shape` with pixels of `spacing_mm` (row, column)."""
    rows, columns = frequencies(shape, spacing_mm)
    pixel_mm2 = spacing_mm[0] * spacing_mm[1]
    blur = np.exp(-2 * (np.pi * BLUR_MM) ** 2 * (rows**2 + columns**2)) / pixel_mm2
    radial = np.hypot(rows, columns)
    found = [Template("disc", size, _single(_disc(radial, size) * blur)) for size in DISCS_MM]
    for direction in range(DIRECTIONS):
        angle = np.pi * direction / DIRECTIONS
        along = rows * np.sin(angle) + columns * np.cos(angle)
        across = rows * np.cos(angle) - columns * np.sin(angle)
        line = _gaussian(along, LENGTH_MM) * _gaussian(across, WIDTH_MM)
        found.append(Template("line", WIDTH_MM, _single(line * blur)))
        # x exp((1 - x^2) / 2): of height 1 at one standard deviation.
        sigma_mm = WIDTH_MM * _PER_FWHM
        slope = -2 * np.pi * sigma_mm * across * np.exp(0.5)
        found.append(Template("edge", WIDTH_MM, _single(slope * line * blur)))
    return tuple(found)


def frequencies(
    shape: tuple[int, int], spacing_mm: Spacing
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Frequencies per mm along rows [rows, 1] and columns [1, columns // 2 + 1]."""
    rows = np.fft.fftfreq(shape[0], spacing_mm[0])
    columns = np.fft.rfftfreq(shape[1], spacing_mm[1])
    return rows[:, None], columns[None, :]


def _disc(radial: NDArray[np.floating], diameter_mm: float) -> NDArray[np.floating]:
    """The transform of a disc of height 1: diameter / (2 f) J1(pi diameter f)."""
    there = np.maximum(radial, 1e-9)
    return diameter_mm / (2 * there) * special.j1(np.pi * diameter_mm * there)


def _gaussian(frequency: NDArray[np.floating], fwhm_mm: float) -> NDArray[np.floating]:
    sigma_mm = fwhm_mm * _PER_FWHM
    return np.sqrt(2 * np.pi) * sigma_mm * np.exp(-2 * (np.pi * sigma_mm * frequency) ** 2)


def _single(spectrum: NDArray[np.floating]) -> NDArray[np.float32]:
    return spectrum.astype(np.float32)
