"""Noise power spectrum: how strong the noise is, and how coarse.

ICRU Report 87 (2012); AAPM TG-233 (2019). In HU^2 mm^2, so that its
integral over both frequencies (per mm) is the variance of the noise in HU^2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import LdctError
from pipeline.core.json_numbers import Figure, JsonRecord
from pipeline.quality.rois import Regions, detrend

#: The mean removes no noise that matters; a bowl removes cupping as well.
DETREND_ORDER = 2


class NoiseFigures(JsonRecord):
    """Strength and texture of noise: its deviation, and the radial curve of its spectrum.

    region_mm: (rows, columns) of the regions it was measured in; peak and mean frequency: of the
    curve.
    """

    unit: str
    frequency_per_mm: list[Figure]
    power_hu2_mm2: list[Figure]
    peak_frequency_per_mm: Figure
    mean_frequency_per_mm: Figure
    noise_hu: Figure
    regions: int
    region_pixels: tuple[int, int]
    region_mm: tuple[float, float]
    detrending: str


@dataclass(frozen=True)
class NoisePower:
    """power_hu2_mm2 [rows, columns] in the order of the discrete Fourier transform.

    frequency_*_per_mm are its axes. radial_hu2_mm2 [bins] is the mean over rings about the
    origin, up to the Nyquist frequency, at radial_per_mm [bins].
    """

    power_hu2_mm2: NDArray[np.float64]
    frequency_rows_per_mm: NDArray[np.floating]
    frequency_columns_per_mm: NDArray[np.floating]
    radial_hu2_mm2: NDArray[np.float64]
    radial_per_mm: NDArray[np.float64]
    regions: int
    detrend_order: int

    @property
    def variance_hu2(self) -> float:
        """The integral of the spectrum."""
        step_rows = self.frequency_rows_per_mm[1] - self.frequency_rows_per_mm[0]
        step_columns = self.frequency_columns_per_mm[1] - self.frequency_columns_per_mm[0]
        return float(self.power_hu2_mm2.sum() * step_rows * step_columns)

    @property
    def mean_frequency_per_mm(self) -> float:
        """Sum of f NPS(f) over sum of NPS(f), of the radial curve (as TG-233 defines it)."""
        total = self.radial_hu2_mm2.sum()
        return float((self.radial_per_mm * self.radial_hu2_mm2).sum() / total)

    @property
    def peak_frequency_per_mm(self) -> float:
        """Where the radial curve, smoothed over three rings, is highest; between rings."""
        padded = np.pad(self.radial_hu2_mm2, 1, mode="edge")
        smooth = padded[:-2] / 4 + padded[1:-1] / 2 + padded[2:] / 4
        top = int(np.argmax(smooth))
        if not 0 < top < smooth.size - 1:
            return float(self.radial_per_mm[top])
        before, peak, after = smooth[top - 1 : top + 2]
        shift = 0.5 * (before - after) / (before - 2 * peak + after)
        step = self.radial_per_mm[top + 1] - self.radial_per_mm[top]
        return float(self.radial_per_mm[top] + shift * step)

    def figures(self) -> NoiseFigures:
        """The radial curve and its figures; the 2-D spectrum is left to the caller."""
        rows, columns = self.power_hu2_mm2.shape
        region_mm = (
            1 / float(self.frequency_rows_per_mm[1]),
            1 / float(self.frequency_columns_per_mm[1]),
        )
        return NoiseFigures(
            unit="HU^2 mm^2, against 1/mm",
            frequency_per_mm=self.radial_per_mm.tolist(),
            power_hu2_mm2=self.radial_hu2_mm2.tolist(),
            peak_frequency_per_mm=self.peak_frequency_per_mm,
            mean_frequency_per_mm=self.mean_frequency_per_mm,
            noise_hu=float(np.sqrt(self.variance_hu2)),
            regions=self.regions,
            region_pixels=(rows, columns),
            region_mm=region_mm,
            detrending=f"polynomial of order {self.detrend_order} in each region",
        )


def noise_power(
    regions: Regions, *, pixel_mm: tuple[float, float], detrend_order: int = DETREND_ORDER
) -> NoisePower:
    """The spectrum of regions [n, rows, columns] in HU, pixel_mm being (row, column).

    NPS = (dx dy / (Nx Ny)) mean |DFT(region - trend)|^2 (ICRU 87). The few degrees of
    freedom that the trend took are given back, so that its integral is the noise's variance.
    """
    if regions.ndim != 3 or min(regions.shape) < 1 or min(regions.shape[1:]) < 8:
        raise LdctError(f"a noise spectrum needs regions of 8 pixels or more, got {regions.shape}")
    rows, columns = regions.shape[1:]
    terms = (detrend_order + 1) * (detrend_order + 2) // 2
    scale = pixel_mm[0] * pixel_mm[1] / (rows * columns - terms)
    spectrum = np.fft.fft2(detrend(regions, detrend_order))
    power = scale * np.mean(np.abs(spectrum) ** 2, axis=0)
    frequency_rows = np.fft.fftfreq(rows, pixel_mm[0])
    frequency_columns = np.fft.fftfreq(columns, pixel_mm[1])
    radial_per_mm, radial = _radial_mean(power, frequency_rows, frequency_columns)
    return NoisePower(
        power, frequency_rows, frequency_columns, radial, radial_per_mm, len(regions), detrend_order
    )


def less_mean_of_repeats(repeats_hu: NDArray) -> NDArray[np.float64]:
    """Noise of repeated images [repeats, ...]: each less their mean, at its own variance.

    Removes every fixed structure; n/(n-1) makes up for the noise that
    the mean shares with each image.
    """
    count = len(repeats_hu)
    if count < 2:
        raise LdctError("noise from repeated images needs at least 2 of them")
    repeats = np.asarray(repeats_hu, dtype=np.float64)
    return (repeats - repeats.mean(axis=0)) * np.sqrt(count / (count - 1))


def _radial_mean(
    power: NDArray[np.float64], rows_per_mm: NDArray, columns_per_mm: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(frequency, power) over rings as wide as the coarser frequency step, up to Nyquist."""
    frequency = np.hypot(rows_per_mm[:, None], columns_per_mm[None, :])
    step = max(rows_per_mm[1], columns_per_mm[1])
    nyquist = min(np.abs(rows_per_mm).max(), np.abs(columns_per_mm).max())
    ring = np.round(frequency / step).astype(int).ravel()
    held = (frequency.ravel() <= nyquist + step / 2) & (ring > 0)
    counts = np.bincount(ring[held])[1:]
    sums = np.bincount(ring[held], power.ravel()[held])[1:]
    places = np.bincount(ring[held], frequency.ravel()[held])[1:]
    return places / counts, sums / counts
