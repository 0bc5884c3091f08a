"""What an operation changed, as a series of its own: derived minus source, in HU.

Differences are taken between the stored values of both, so that they are what a subtraction
of the two exported series gives. They are signed 16-bit in steps of the source's slope, with
no intercept, and padding has a value of its own, which no difference takes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.valuerep import DSfloat

from pipeline.dicom.derived.encode import save_image
from pipeline.dicom.derived.quantise import ClippedPixels, to_stored
from pipeline.dicom.derived.write import (
    SUBTRACTED,
    Operation,
    SeriesTarget,
    derive_header,
    image_reference,
    image_uid,
    say_remark,
)
from pipeline.dicom.read.stored_pixels import StoredPixels
from pipeline.dicom.read.volume import Slice

PADDING = -32768
MAX_STEPS = 32767
#: A window this wide around 0 shows whether noise or structure was removed.
WINDOW_HU = ("0", "100")

#: Attributes of the source's values, wrong or useless for differences.
OF_SOURCE_VALUES = (
    "PixelPaddingRangeLimit",
    "VOILUTSequence",
    "VOILUTFunction",
    "RealWorldValueMappingSequence",
)


def difference_of(operation: Operation) -> Operation:
    """The operation that subtracts the source from what `operation` made."""
    return replace(
        operation,
        label=f"AI DIFFERENCE {operation.label.removeprefix('AI DENOISED ')}",
        description=f"Derived minus source image, in HU, of: {operation.description}",
        code=SUBTRACTED,
        product="difference",
    )


def write_slice_difference(processed: Slice, to: SeriesTarget, number: int) -> ClippedPixels:
    """Write what `to.operation` changed in a slice, in HU, as the `number`th image.

    Returns what of the processed image was clipped. Raises LdctError for values that are not
    finite.
    """
    source = processed.source.dataset
    quantised = to_stored(processed.image_hu, processed.pixels, source)
    stored, step = _subtracted(quantised.stored, processed.pixels)
    difference = replace(to, operation=difference_of(to.operation))
    header = derive_header(processed.source, difference, processed.instance)
    subtracted_from = image_uid(source, to.operation, to.exact_part)
    header.SourceImageSequence.append(image_reference(subtracted_from))
    say_remark(header, processed.remark)
    _describe_values(header, step)
    save_image(header, stored, to.path(number), syntax=to.syntax)
    return quantised.clipped


def _subtracted(derived: NDArray, source: StoredPixels) -> tuple[NDArray, int]:
    """Differences in steps of the returned number of stored units, 1 where they fit in 16 bits."""
    difference = derived.astype(np.int32) - source.stored.astype(np.int32)
    largest = int(np.abs(difference[source.valid]).max(initial=0))
    step = -(-largest // MAX_STEPS) or 1
    whole = np.rint(difference / step)
    return np.where(source.valid, whole, PADDING).astype("<i2"), step


def _describe_values(header: Dataset, step: int) -> None:
    """Attributes of the Image Pixel, CT Image and VOI LUT modules that say what values mean."""
    for name in OF_SOURCE_VALUES:
        if name in header:
            delattr(header, name)
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit = 15
    header.PixelRepresentation = 1
    header.add_new("PixelPaddingValue", "SS", PADDING)
    header.RescaleIntercept = "0"
    if step > 1:
        header.RescaleSlope = DSfloat(float(header.RescaleSlope) * step, auto_format=True)
    header.RescaleType = "HU"
    header.WindowCenter, header.WindowWidth = WINDOW_HU
    header.WindowCenterWidthExplanation = "DIFFERENCE"
