"""Read a slice's pixels as they are stored, with how to read them (stored_pixels.py) and where
nothing was measured (unmeasured_pixels.py)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array

from pipeline.core.library_warnings import library_remarks
from pipeline.core.refusals import Refusal, Unreadable
from pipeline.dicom.read.codestream import require_matching_size, undecodable
from pipeline.dicom.read.fast_header import PIXEL_DATA, PixelSpan, one_fragment
from pipeline.dicom.read.files import opened, size_of
from pipeline.dicom.read.headers import Instance, may_be_lossy
from pipeline.dicom.read.lossless_decoders import containers_of
from pipeline.dicom.read.slice_requirements import rescale_of
from pipeline.dicom.read.stored_pixels import Coding, StoredPixels
from pipeline.dicom.read.unmeasured_pixels import declared_padding, without_unmeasured

NO_DECODER = (
    "no decoder for this transfer syntax: neither GDCM, pylibjpeg-openjpeg nor pyjpegls has one; "
    "have the archive send it uncompressed (of JPEG with 12 bits and loss, `pip install "
    "pylibjpeg-libjpeg` has one, under the GPL-3.0)"
)


def read_slice(instance: Instance) -> StoredPixels:
    """A slice's pixels; raises Unreadable where they are missing, short or undecodable.

    Pixels are read from where the header's scan found them, without parsing it again, unless they
    are of several fragments.
    """
    header, span = instance.header, instance.pixels
    if span is None:
        return read_pixels(instance.load())
    if span.length is None:
        return read_pixels(_of_one_fragment(instance, span) or instance.load())
    expected = header.Rows * header.Columns * header.BitsAllocated // 8
    if span.offset + span.length > size_of(instance.path):
        raise Unreadable("the file ends before its pixels do", "PixelData", span.length)
    if span.length not in (expected, expected + expected % 2):
        return read_pixels(instance.load())
    with opened(instance.path) as stream:
        stream.seek(span.offset)
        content = stream.read(expected)
    coding = coding_of(header)
    containers = np.frombuffer(content, coding.dtype).reshape(header.Rows, header.Columns)
    return _interpreted(header, coding, containers)


def _of_one_fragment(instance: Instance, span: PixelSpan) -> Dataset | None:
    """The header's attributes with the compressed frame; None where it is not of one fragment."""
    with opened(instance.path) as stream:
        stream.seek(span.offset)
        frame = one_fragment(stream.read())
    if frame is None:
        return None
    dataset = Dataset(dict(instance.header.items()))
    dataset.file_meta = instance.header.file_meta
    dataset.add_new(PIXEL_DATA, "OB", encapsulate([frame], has_bot=False))
    dataset["PixelData"].is_undefined_length = True
    return dataset


def try_slice(instance: Instance) -> StoredPixels | Refusal:
    """A slice's pixels, with what libraries warn of among their warnings; a Refusal for a slice
    that cannot be read."""
    try:
        with library_remarks() as heard:
            pixels = read_slice(instance)
    except Unreadable as fault:
        return fault.refusal(instance.path)
    except Exception as error:  # decoders raise many kinds on damaged streams
        return Unreadable(f"cannot be read ({type(error).__name__})").refusal(instance.path)
    return replace(pixels, warnings=(*pixels.warnings, *heard)) if heard else pixels


def read_pixels(dataset: Dataset) -> StoredPixels:
    """Decode one slice; raises Unreadable for pixels that are missing, short or undecodable."""
    if "PixelData" not in dataset:
        raise Unreadable("no pixel data", "PixelData")
    coding, syntax = coding_of(dataset), dataset.file_meta.TransferSyntaxUID
    try:
        if syntax.is_encapsulated:
            require_matching_size(dataset)
            containers = containers_of(dataset)
        else:
            containers = pixel_array(dataset, correct_unused_bits=False)
    except Unreadable:
        raise
    except NotImplementedError as error:
        raise Unreadable(NO_DECODER, "PixelData", syntax.name) from error
    except Exception as error:  # decoders raise many kinds on damaged streams
        raise undecodable(error, syntax) from error
    if containers.shape != (dataset.Rows, dataset.Columns):
        raise Unreadable("expected one grey frame of Rows x Columns", "PixelData", containers.shape)
    return _interpreted(dataset, coding, containers.astype(coding.dtype, copy=False))


def coding_of(header: Dataset) -> Coding:
    """How the header says to read containers; raises Unreadable for a rescale without an inverse
    and for values that are no numbers."""
    slope, intercept = rescale_of(header)
    if slope == 0:
        raise Unreadable("the rescale is not invertible", "RescaleSlope", slope)
    signed = header.PixelRepresentation == 1
    coding = Coding(int(header.BitsAllocated), int(header.BitsStored), signed, slope, intercept)
    return replace(coding, padding=declared_padding(header, coding))


def _interpreted(header: Dataset, coding: Coding, containers: NDArray) -> StoredPixels:
    if containers.min() == containers.max():
        raise Unreadable("every pixel has the same value: a blank frame", "PixelData")
    high_bit = header.get("HighBit")
    unused_below = (coding.bits - 1 if high_bit is None else high_bit) + 1 - coding.bits
    if not 0 <= unused_below <= coding.allocated - coding.bits:
        raise Unreadable("beyond the bits allocated and stored", "HighBit", header.HighBit)
    pixels = StoredPixels(containers >> unused_below if unused_below else containers, coding)
    return without_unmeasured(pixels, header, unused_below, lossy=may_be_lossy(header))
