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
from pipeline.dicom.derived.quantise import Clipped, to_stored
from pipeline.dicom.derived.write import (
    SUBTRACTED,
    Operation,
    Target,
    derive_header,
    derived_uid,
    image_reference,
)
from pipeline.dicom.read.pixels import StoredPixels
from pipeline.dicom.read.volume import Slice

PADDING = -32768
LARGEST = 32767
#: What is still noise and what is structure shows within this width around no change.
WINDOW_HU = ("0", "100")

#: Of the source's values, and untrue or useless for differences.
OF_SOURCE_VALUES = (
    "PixelPaddingRangeLimit",
    "VOILUTSequence",
    "VOILUTFunction",
    "RealWorldValueMappingSequence",
)


def difference_of(operation: Operation) -> Operation:
    """The operation whose result is what `operation` changed."""
    return replace(
        operation,
        label=f"AI DIFFERENCE {operation.label.removeprefix('AI DENOISED ')}",
        description=f"Derived minus source image, in HU, of: {operation.description}",
        code=SUBTRACTED,
        product="difference",
    )


def write_slice_difference(made: Slice, to: Target, number: int) -> Clipped:
    """Write what `to.operation` changed in a slice; returns how the derived image itself fits."""
    source = made.source.dataset
    fitted = to_stored(made.image_hu, made.pixels, source)
    stored, step = _subtracted(fitted.stored, made.pixels)
    header = derive_header(made.source, difference_of(to.operation), made.instance, part=to.part)
    header.SourceImageSequence.append(
        image_reference(derived_uid(source.SOPInstanceUID, to.operation))
    )
    _describe_values(header, step)
    save_image(header, stored, to.path(number), syntax=to.syntax)
    return fitted.clipped


def _subtracted(derived: NDArray, source: StoredPixels) -> tuple[NDArray, int]:
    """Differences in steps of so many stored units: more than one only where they need it."""
    difference = derived.astype(np.int32) - source.stored.astype(np.int32)
    largest = int(np.abs(difference[source.valid]).max(initial=0))
    step = -(-largest // LARGEST) or 1
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
