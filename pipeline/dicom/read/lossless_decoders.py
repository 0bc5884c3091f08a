"""Lossless JPEG-LS and JPEG, decoded by threads side by side.

pydicom's ways to its decoders, GDCM and pyjpegls, hold Python's lock while they decode, and GDCM's
takes the pixels through a text. Here the same libraries are called with the lock free: CharLS,
which pyjpegls brings along, by its C interface, and GDCM by SimpleITK. All else of a frame (sign,
unused bits, shape) stays with pydicom, to which this module is one more plug-in. What it raises
for, pydicom decodes as it would without it.
"""

from __future__ import annotations

import ctypes
import functools
import os
from importlib.util import find_spec
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder, pixel_array
from pydicom.pixels.decoders.base import DecodeRunner
from pydicom.uid import (
    UID,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    SecondaryCaptureImageStorage,
)

from pipeline.dicom.read.fast_header import PIXEL_DATA, UNDEFINED, explicit_head

PLUGIN = "ldct"
#: What pydicom says that a plug-in of a transfer syntax needs: of this one, nothing more.
DECODER_DEPENDENCIES: dict[UID, tuple[str, ...]] = dict.fromkeys(
    (JPEGLSLossless, JPEGLossless, JPEGLosslessSV1), ()
)
#: Behind the last fragment of encapsulated pixels (PS3.5 A.4).
_SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"


class CannotDecodeError(Exception):
    """A stream that CharLS refuses, or that this module leaves to pydicom."""


def containers_of(dataset: Dataset) -> NDArray:
    """The pixels [rows, columns] of a compressed slice, as pydicom's pixel_array has them; raises
    what that raises."""
    if is_available(dataset.file_meta.TransferSyntaxUID):
        try:
            return pixel_array(dataset, decoding_plugin=PLUGIN)
        except Exception:  # of many kinds, on damaged streams: below, pydicom says what is wrong
            pass
    return pixel_array(dataset)


def is_available(syntax: str) -> bool:
    """Whether frames of this transfer syntax are decoded here."""
    return syntax in DECODER_DEPENDENCIES and hasattr(os, "memfd_create")


def decode_frame(frame: bytes, runner: DecodeRunner) -> bytes:
    """The pixels of an encoded frame, little-endian, as pydicom asks a plug-in for them.

    Raises CannotDecodeError, and RuntimeError from ITK.
    """
    if runner.samples_per_pixel != 1:
        raise CannotDecodeError("a frame of several components")
    if runner.transfer_syntax != JPEGLSLossless:
        return _by_gdcm(frame, runner).tobytes()
    pixels = _by_charls(frame)
    runner.set_option("bits_allocated", 8 * pixels.itemsize)
    return pixels.tobytes()


class _FrameInfo(ctypes.Structure):
    """CharLS's charls_frame_info."""

    _fields_ = (
        ("columns", ctypes.c_uint32),
        ("rows", ctypes.c_uint32),
        ("bits", ctypes.c_int32),
        ("components", ctypes.c_int32),
    )


def _by_charls(frame: bytes) -> NDArray[np.unsignedinteger]:
    """[rows, columns] as the stream holds them; raises CannotDecodeError."""
    library = _charls()
    decoder = library.charls_jpegls_decoder_create()
    try:
        _check(library.charls_jpegls_decoder_set_source_buffer(decoder, frame, len(frame)))
        _check(library.charls_jpegls_decoder_read_header(decoder))
        info = _FrameInfo()
        _check(library.charls_jpegls_decoder_get_frame_info(decoder, ctypes.byref(info)))
        if info.components != 1:
            raise CannotDecodeError("a stream of several components")
        pixels = np.empty((info.rows, info.columns), np.uint8 if info.bits <= 8 else np.uint16)
        into = pixels.ctypes.data_as(ctypes.c_void_p)
        _check(library.charls_jpegls_decoder_decode_to_buffer(decoder, into, pixels.nbytes, 0))
        return pixels
    finally:
        library.charls_jpegls_decoder_destroy(decoder)


def _check(code: int) -> None:
    if code:
        raise CannotDecodeError(_charls().charls_get_error_message(code).decode())


@functools.cache
def _charls() -> Any:
    """CharLS's functions, which pyjpegls's module has beside Python's. Raises CannotDecodeError
    where it is not there, AttributeError where it was built without them."""
    module = find_spec("_CharLS")
    if module is None or module.origin is None:
        raise CannotDecodeError("pyjpegls is not installed")
    library = ctypes.CDLL(module.origin)
    pointer, size, error = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int32
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "jpegls_decoder_create": (pointer, []),
        "jpegls_decoder_destroy": (None, [pointer]),
        "jpegls_decoder_set_source_buffer": (error, [pointer, ctypes.c_char_p, size]),
        "jpegls_decoder_read_header": (error, [pointer]),
        "jpegls_decoder_get_frame_info": (error, [pointer, ctypes.POINTER(_FrameInfo)]),
        "jpegls_decoder_decode_to_buffer": (error, [pointer, pointer, size, ctypes.c_uint32]),
        "get_error_message": (ctypes.c_char_p, [error]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, f"charls_{name}")
        function.restype, function.argtypes = result, arguments
    return library


def _by_gdcm(frame: bytes, runner: DecodeRunner) -> NDArray[np.integer]:
    """[rows, columns], read from a file in memory that holds the frame and what says how to read
    it. Raises RuntimeError for what GDCM cannot read."""
    import SimpleITK

    sizes = runner.rows, runner.columns, runner.bits_allocated, runner.bits_stored
    head = _head(str(runner.transfer_syntax), *sizes, runner.pixel_representation)
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    descriptor = os.memfd_create("frame")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.writelines((head, encapsulate([frame], has_bot=False), _SEQUENCE_END))
        reader.SetFileName(f"/proc/self/fd/{descriptor}")
        return SimpleITK.GetArrayFromImage(reader.Execute())
    finally:
        os.close(descriptor)


@functools.lru_cache(maxsize=64)
def _head(syntax: str, rows: int, columns: int, allocated: int, stored: int, sign: int) -> bytes:
    """A file of one frame up to its pixels, without a rescale."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, UID("2.25.1")
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = allocated, stored, stored - 1
    dataset.PixelRepresentation, dataset.SamplesPerPixel = sign, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    written = BytesIO()
    dataset.save_as(written, enforce_file_format=True)
    return written.getvalue() + explicit_head(PIXEL_DATA, "OB", UNDEFINED)


for _syntax in filter(is_available, DECODER_DEPENDENCIES):
    get_decoder(_syntax).add_plugin(PLUGIN, (__name__, "decode_frame"))
