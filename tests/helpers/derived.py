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
from pipeline.export.audit import SeriesAudit


def write_derived(
    image_hu: NDArray[np.float32],
    series: Series,
    operation: Operation,
    folder: Path,
    *,
    syntax: str = UNCOMPRESSED,
    audit: SeriesAudit | None = None,
) -> ClippedPixels:
    """Write [slices, rows, columns] in the order of series.instances; what was clipped.

    audit: asked of each slice, as for a denoiser's.
    """
    with replacing_folder(folder) as partial:
        to = SeriesTarget(partial, operation, syntax, series.part, series.exact_part)
        pairs = zip(series.instances, image_hu, strict=True)
        slices = [Slice(one, read_slice(one), hu) for one, hu in pairs]
        if audit is not None:
            slices = [audit.audited(one) for one in slices]
        return total_clipped([write_slice(one, to, n) for n, one in enumerate(slices, start=1)])
