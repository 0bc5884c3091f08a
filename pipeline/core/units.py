"""The only constants: Hounsfield units, attenuation and display windows.

The Hounsfield scale (Hounsfield 1973, DICOM PS3.3 C.11.1.1.2) puts water at 0 HU and
air at -1000 HU. Attenuation is per millimetre, because spacing is in millimetres.
"""

from __future__ import annotations

from typing import NamedTuple

from numpy.typing import NDArray

#: Water at 70 keV, about the effective energy of a 120 kVp beam (NIST XCOM: 0.1929 / cm).
MU_WATER_PER_MM = 0.01929

AIR_HU = -1000.0
WATER_HU = 0.0

#: Twelve stored bits from -1024: anything lower in a CT image is not a measurement.
LOWEST_CT_HU = -1024.0

#: Twelve stored bits from -1024, the usual CT scale: what models learn from. Metal that scanners
#: write on the extended scale lies above.
HIGHEST_CT_HU = 3071.0

#: The extended CT scale of scanners with 16 bits (12 bits times 10): what lies beyond its ends is
#: no CT number but drawn, or a fill.
EXTENDED_CT_HU = (-10240.0, 30710.0)


class Window(NamedTuple):
    """A display window in HU, as DICOM's window centre and width."""

    centre: float
    width: float

    @property
    def low_hu(self) -> float:
        """The HU that is shown black, as everything below it."""
        return self.centre - self.width / 2

    @property
    def high_hu(self) -> float:
        """The HU that is shown white, as everything above it."""
        return self.centre + self.width / 2


SOFT_TISSUE = Window(40, 400)

#: HU limits per tissue class, for the bias table. Gaps are left on purpose: a voxel between
#: two classes is a border or noise, and would only blur both figures.
TISSUE_RANGES_HU: dict[str, tuple[float, float]] = {
    "lung": (-950.0, -700.0),
    "fat": (-140.0, -60.0),
    "soft_tissue": (0.0, 120.0),
    "bone": (250.0, 1500.0),
}


def hu_to_mu_per_mm(image_hu: NDArray) -> NDArray:
    """Attenuation per mm of an image in HU; never negative, as no matter amplifies X-rays."""
    return (image_hu / 1000.0 + 1.0).clip(min=0.0) * MU_WATER_PER_MM


def mu_per_mm_to_hu_difference(mu_per_mm: NDArray) -> NDArray:
    """An attenuation *difference* per mm as a difference in HU (no offset)."""
    return mu_per_mm * (1000.0 / MU_WATER_PER_MM)
