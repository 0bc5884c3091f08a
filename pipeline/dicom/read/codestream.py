"""What a compressed frame says itself: its size, read before it is decoded, and its faults.

A damaged or hostile stream may state another size than the header, and decoders allocate what
the stream states.
"""

from __future__ import annotations

from struct import Struct

from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.uid import UID, JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

from pipeline.core.refusals import Unreadable

_SIZ = Struct(">LLLL")  # reach and offset of the reference grid (ISO/IEC 15444-1 A.5.1)
_SOF = Struct(">HH")  # lines, samples per line (ISO/IEC 10918-1 B.2.2, 14495-1 C.2.2)
#: Start-of-frame markers: of JPEG without DHT, JPG and DAC, and of JPEG-LS.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_STANDALONE = frozenset(range(0xD0, 0xD9)) | {0x01}


def require_matching_size(dataset: Dataset) -> None:
    """Raises Unreadable where the stream's own rows and columns are not the header's Rows and
    Columns; does nothing for other encodings than JPEG, JPEG-LS and JPEG 2000."""
    syntax = dataset.file_meta.TransferSyntaxUID
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    if syntax in JPEG2000TransferSyntaxes:
        size = _jpeg_2000_size(frame)
    elif syntax in JPEGTransferSyntaxes or syntax in JPEGLSTransferSyntaxes:
        size = _jpeg_size(frame)
    else:
        return
    if size != (dataset.Rows, dataset.Columns):
        stated = f"{size[0]} x {size[1]}" if size else "no readable size"
        raise Unreadable(
            f"the compressed stream has {stated}, the header {dataset.Rows} x {dataset.Columns}",
            "PixelData",
            syntax.name,
        )


def undecodable(error: Exception, syntax: UID) -> Unreadable:
    """What a decoder's error is to the user: its message in one line, and the transfer syntax."""
    reason = " ".join(str(error).split())
    return Unreadable(f"pixels cannot be decoded: {reason}", "PixelData", syntax.name)


def _jpeg_2000_size(frame: bytes) -> tuple[int, int] | None:
    start = frame.find(b"\xff\x4f\xff\x51", 0, 1024)  # SOC, SIZ; a JP2 box may lie before them
    if start < 0 or len(frame) < start + 24:
        return None
    columns, rows, column_offset, row_offset = _SIZ.unpack_from(frame, start + 8)
    return rows - row_offset, columns - column_offset


def _jpeg_size(frame: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker in _START_OF_FRAME:
            return _SOF.unpack_from(frame, at + 5)
        if marker == 0xFF:
            at += 1
        elif marker in _STANDALONE:
            at += 2
        else:
            at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None
