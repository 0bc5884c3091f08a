"""How much a deflated data set (PS3.5 A.5) may inflate to: pydicom inflates it whole, of any size.

A file of 1.6 MB can inflate to 1.6 GB (RFC 1951 allows 1,032 times), before any of its attributes
is looked at.
"""

from __future__ import annotations

import zlib
from io import SEEK_END
from typing import BinaryIO

from pydicom.filereader import read_dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from pipeline.core.refusals import Unreadable

PREAMBLE = 132
#: A data set that inflates to more bytes than this, and to more than so many times what it is
#: stored in, is a decompression bomb: CT deflates to a half, and an empty slice is small.
MAX_INFLATED_BYTES, MAX_INFLATION_RATIO = 64 * 1024**2, 100
#: No data set of CT is larger, whatever it is stored in.
MAX_DATASET_BYTES = 2 * 1024**3
_PIECE = 64 * 1024


def require_bounded(stream: BinaryIO) -> None:
    """Raise Unreadable for a DICOM file whose data set is a decompression bomb.

    stream: at its first byte, where it stands afterwards. The data set is inflated in pieces that
    are not kept, and not beyond the limit. A damaged one is left to the reader to refuse.
    """
    try:
        if _is_deflated(stream):
            _require_bounded(stream)
    finally:
        stream.seek(0)


def _is_deflated(stream: BinaryIO) -> bool:
    """Leaves the stream where the deflated bytes begin."""
    if stream.read(PREAMBLE)[128:] != b"DICM":
        stream.seek(0)
    try:
        meta = read_dataset(stream, False, True, stop_when=lambda tag, *_: tag >> 16 != 0x0002)
        return str(meta.get("TransferSyntaxUID", "")) == DeflatedExplicitVRLittleEndian
    except Exception:  # damage raises many kinds; the reader meets it again, and names it
        return False


def _require_bounded(stream: BinaryIO) -> None:
    begin = stream.tell()
    packed = stream.seek(0, SEEK_END) - begin
    stream.seek(begin)
    limit = min(max(MAX_INFLATED_BYTES, MAX_INFLATION_RATIO * packed), MAX_DATASET_BYTES)
    unpacker, inflated = zlib.decompressobj(wbits=-zlib.MAX_WBITS), 0
    while piece := unpacker.unconsumed_tail or stream.read(_PIECE):
        try:
            inflated += len(unpacker.decompress(piece, _PIECE))
        except zlib.error:
            return
        if unpacker.eof:
            return
        if inflated > limit:
            raise Unreadable(
                f"a deflated data set of {packed} bytes that inflates to more than {limit}, which "
                "no CT does: have it sent again, not deflated",
                "TransferSyntaxUID",
                DeflatedExplicitVRLittleEndian,
            )
