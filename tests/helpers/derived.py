"""A derived series of a whole volume, written as an export does but without the check."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core.atomic_files import replacing_folder
from pipeline.dicom.derived.encode import UNCOMPRESSED
from pipeline.dicom.derived.quantise import ClippedPixels, total_clipped
from pipeline.dicom.derived.write import Operation, SeriesTarget, write_slice
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
) -> ClippedPixels:
    """Write [slices, rows, columns] in the order of series.instances; what was clipped."""
    with replacing_folder(folder) as partial:
        to = SeriesTarget(partial, operation, syntax, series.part, series.exact_part)
        pairs = enumerate(zip(series.instances, image_hu, strict=True), start=1)
        return total_clipped(
            [write_slice(Slice(one, read_slice(one), hu), to, n) for n, (one, hu) in pairs]
        )
