"""A derived series of a whole volume, as it is handed over, without the check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.atomic_files import replacing_folder
from pipeline.dicom.derived.encode import UNCOMPRESSED
from pipeline.dicom.derived.quantise import summed
from pipeline.dicom.derived.write import Operation, Target, write_slice
from pipeline.dicom.read.pixels import read_slice
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import Slice


def write_derived(
    image_hu: NDArray[np.float32],
    series: Series,
    operation: Operation,
    folder: Path,
    *,
    syntax: str = UNCOMPRESSED,
) -> dict[str, Any]:
    """Write [slices, rows, columns] in the order of series.instances; what did not fit."""
    with replacing_folder(folder) as partial:
        to = Target(partial, operation, syntax, series.part)
        pairs = enumerate(zip(series.instances, image_hu, strict=True), start=1)
        return summed(
            [write_slice(Slice(one, read_slice(one), hu), to, n) for n, (one, hu) in pairs]
        )
