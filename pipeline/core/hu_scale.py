"""Are these values HU? By the air and the soft tissue that a CT image shows.

The Hounsfield scale puts air at -1000 HU (DICOM PS3.3 C.11.1.1.2). Two faults put it elsewhere
and say nothing of it: raw stored values in place of HU, 1024 too high, and signed values of 12
bits that were read as unsigned, where all that is negative is 4096 too high. A series cropped to
the inside of a body shows no air and is sound, so that a lack of air alone is no fault.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.core.refusals import count_of
from pipeline.core.units import HIGHEST_CT_HU, LOWEST_CT_HU

#: Above fat, noise included: what is lower is gas, or lung.
MAX_AIR_HU = -200.0
#: A series with so much gas is in HU. What surrounds a shifted image is one constant, which does
#: not count; but a constant that was resampled has a rim of all values.
MIN_AIR_SHARE = 0.02
#: Where 1024 too high shows soft tissue, and the ranges beside it: bone has no peak between them.
SHIFTED_TISSUE_HU = (964, 1144)
BESIDE_SHIFTED_HU = ((700, 880), (1228, 1408))
MIN_SHIFTED_SHARE, MIN_PEAK = 0.005, 1.5
#: Where wrapped values show air. Metal is seldom as much of an image, and fat lies below 0 HU.
WRAPPED_AIR_HU = 3000
MIN_WRAPPED_SHARE = 0.01
#: Of a real image more than this lies below water, by its fat or by its noise.
MIN_NEGATIVE_SHARE = 1e-4
#: So much of a picture with grey levels from 0 on is of one black, around the body.
MIN_BLACK_SHARE = 0.05
#: Fewer voxels say nothing.
MIN_VOXELS = 1000
_LOW, _HIGH = int(LOWEST_CT_HU), 4096


class ValueCounts:
    """How many measured voxels have each whole HU; slices are added one by one."""

    def __init__(self) -> None:
        self._counts = np.zeros(_HIGH - _LOW + 1, np.int64)

    def add(self, image_hu: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        """Count a slice [rows, columns], or a volume of a few."""
        whole = np.rint(image_hu[valid]).clip(_LOW, _HIGH).astype(np.int64) - _LOW
        self._counts += np.bincount(whole, minlength=len(self._counts))

    def fault(self) -> str:
        """Why the values are no HU, in words; "" where nothing says so."""
        total = int(self._counts.sum())
        if total < MIN_VOXELS or self.gas() >= MIN_AIR_SHARE * total:
            return ""
        tissue = self._between(*SHIFTED_TISSUE_HU)
        beside = sum(self._between(*ends) for ends in BESIDE_SHIFTED_HU)
        if tissue >= MIN_SHIFTED_SHARE * total and tissue >= MIN_PEAK * beside:
            return (
                f"no air, and {tissue / total:.0%} of the pixels at the soft tissue of raw stored "
                "values, 1024 above its HU: the rescale intercept was lost"
            )
        if self._between(_LOW, 0) >= MIN_NEGATIVE_SHARE * total:
            return ""
        wrapped = self._between(WRAPPED_AIR_HU, _HIGH + 1)
        if wrapped >= MIN_WRAPPED_SHARE * total:
            return (
                f"nothing below 0 HU, and {wrapped / total:.0%} of the pixels above "
                f"{WRAPPED_AIR_HU} HU: negative values were stored as unsigned, 4096 too high"
            )
        darkest = int(self._counts[np.flatnonzero(self._counts)[0]])
        if darkest >= MIN_BLACK_SHARE * total:
            return f"nothing below 0 HU, and {darkest / total:.0%} of the pixels of one black"
        return ""

    def remarks(self) -> list[str]:
        """What a user must know of a result that was made from these values."""
        if fault := self.fault():
            return [f"the values may be no HU: {fault}"]
        metal = int(self._counts[int(HIGHEST_CT_HU) + 1 - _LOW :].sum())
        if not metal:
            return []
        highest = f"{HIGHEST_CT_HU:g} HU"
        return [
            f"{count_of(metal, 'voxel')} above {highest}, as of metal, beyond what models learn "
            f"from: denoisers see {highest} there, and keep them as they are"
        ]

    def _between(self, low: int, high: int) -> int:
        """Voxels from `low` HU on to below `high`."""
        return int(self._counts[low - _LOW : high - _LOW].sum())

    def gas(self) -> int:
        """Voxels below MAX_AIR_HU, without the commonest value there, which may be a fill."""
        low = self._counts[: int(MAX_AIR_HU) - _LOW]
        return int(low.sum() - low.max())


def fault_of(image_hu: NDArray[np.float32], valid: NDArray[np.bool_]) -> str:
    """Why a volume's values [slices, rows, columns] are no HU, as the counts of all of it say it;
    read only as far as it takes to find enough gas, which most scans have in a few slices."""
    counts = ValueCounts()
    enough = MIN_AIR_SHARE * image_hu.size
    for plane_hu, measured in zip(image_hu, valid, strict=True):
        counts.add(plane_hu, measured)
        if counts.gas() >= enough:  # what other slices add makes it no less
            return ""
    return counts.fault()


def values_of(image_hu: NDArray[np.float32], valid: NDArray[np.bool_]) -> ValueCounts:
    """The counts of a volume [slices, rows, columns]."""
    counts = ValueCounts()
    for plane_hu, measured in zip(image_hu, valid, strict=True):
        counts.add(plane_hu, measured)
    return counts
