"""Lossless compression of one slice."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import reject
from numpy.typing import NDArray
from pydicom.pixels import get_encoder
from pydicom.uid import (
    JPEG2000,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

#: The encoder's transfer syntax by that of the file: 91 and JPEG-LS near-lossless can be lossless.
ENCODED_AS = {
    RLELossless: RLELossless,
    JPEGLSLossless: JPEGLSLossless,
    JPEGLSNearLossless: JPEGLSLossless,
    JPEG2000Lossless: JPEG2000Lossless,
    JPEG2000: JPEG2000Lossless,
}
PLUGINS = {RLELossless: "pydicom", JPEGLSLossless: "pyjpegls", JPEG2000Lossless: "pylibjpeg"}
#: The predictor of lossless JPEG: the left neighbour in selection value 1, any in process 14.
PREDICTORS = {JPEGLosslessSV1: 1, JPEGLossless: 4}
COMPRESSED_SYNTAXES = (*ENCODED_AS, *PREDICTORS)
#: OpenJPEG wants at least so many rows and columns for its resolutions.
SMALLEST_JPEG_2000 = 32


def compressed(stored: NDArray, bits: int, syntax: str) -> bytes:
    """The stream of an image [rows, columns] of 16-bit cells."""
    if syntax in PREDICTORS:
        return lossless_jpeg(stored, bits, PREDICTORS[syntax])
    encoder = ENCODED_AS[syntax]
    try:
        return get_encoder(encoder).encode(
            stored,
            encoding_plugin=PLUGINS[encoder],
            rows=stored.shape[0],
            columns=stored.shape[1],
            samples_per_pixel=1,
            number_of_frames=1,
            bits_allocated=16,
            bits_stored=bits,
            pixel_representation=int(np.issubdtype(stored.dtype, np.signedinteger)),
            photometric_interpretation="MONOCHROME2",
        )
    except RuntimeError:
        # The library's encoder gives up now and then, on images that it takes the next time: then
        # there is no file to be read, and no case.
        reject()


def lossless_jpeg(stored: NDArray, bits: int, predictor: int) -> bytes:
    """ISO/IEC 10918-1 annex H with one table of codes of five bits for all 17 categories; signed
    values as their `bits` bits. predictor: 1 (left) or 4 (left + above - above left)."""
    samples = (stored.astype(np.int64) & ((1 << bits) - 1)).tolist()
    written: list[str] = []
    for row, values in enumerate(samples):
        above = samples[row - 1]
        for column, value in enumerate(values):
            if row == 0:
                predicted = values[column - 1] if column else 1 << bits - 1
            elif column == 0:
                predicted = above[0]
            else:
                predicted = values[column - 1]
                predicted += above[column] - above[column - 1] if predictor == 4 else 0
            written.append(_code(value - predicted))
    scan = "".join(written)
    scan += "1" * (-len(scan) % 8)
    content = int(scan, 2).to_bytes(len(scan) // 8, "big").replace(b"\xff", b"\xff\0")
    frame = struct.pack(">BHHB3B", bits, *stored.shape, 1, 1, 0x11, 0)
    table = bytes(1) + bytes(4) + bytes([17]) + bytes(11) + bytes(range(17))
    parts = ((0xC3, frame), (0xC4, table), (0xDA, bytes([1, 1, 0, predictor, 0, 0])))
    heads = b"".join(
        struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body for marker, body in parts
    )
    return b"\xff\xd8" + heads + content + b"\xff\xd9"


def _code(difference: int) -> str:
    """Its category, and which of the category's differences it is, modulo 65536 (H.1.2.2)."""
    difference = (difference + 32767) % 65536 - 32767
    category = abs(difference).bit_length()
    if category in (0, 16):
        return f"{category:05b}"
    rest = difference if difference > 0 else difference + (1 << category) - 1
    return f"{category:05b}{rest:0{category}b}"
