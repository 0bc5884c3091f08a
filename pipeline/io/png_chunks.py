"""What a PNG file says of itself beside its pixels, kept byte for byte (ISO/IEC 15948, clause 11).

Neither Pillow nor ITK writes all of it: Pillow drops gAMA and cHRM, ITK everything.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

#: A chunk's type and its data.
Chunk: TypeAlias = tuple[bytes, bytes]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: How the levels are to be seen, how large, and which way up. All may stand before the palette.
KEPT = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"iCCP", b"pHYs", b"eXIf")
#: Offsets in the file of the bits a channel and the colour type, and that one's bits.
DEPTH, KIND, COLOUR, ALPHA = 24, 25, 2, 4


def kept_chunks(path: Path) -> list[Chunk]:
    """The chunks of a PNG file that are to be kept; none of a file that is no PNG."""
    content = path.read_bytes()
    return [chunk for chunk in _chunks(content) if chunk[0] in KEPT]


def put_chunks(path: Path, chunks: list[Chunk]) -> None:
    """Write these chunks into a PNG file, in place of those that it has of these types."""
    content = path.read_bytes()
    header, *rest = _chunks(content)
    others = [chunk for chunk in rest if chunk[0] not in KEPT]
    path.write_bytes(SIGNATURE + b"".join(map(_packed, (header, *chunks, *others))))


def depth_of(path: Path) -> tuple[int, int] | None:
    """Bits a channel and colour type of a PNG file; None of a file that is no PNG."""
    with path.open("rb") as stream:
        head = stream.read(KIND + 1)
    return (head[DEPTH], head[KIND]) if head.startswith(SIGNATURE) and len(head) > KIND else None


def _chunks(content: bytes) -> Iterator[Chunk]:
    at = len(SIGNATURE)
    while content.startswith(SIGNATURE) and at + 8 <= len(content):
        length, kind = struct.unpack_from(">L4s", content, at)
        yield kind, content[at + 8 : at + 8 + length]
        at += length + 12


def _packed(chunk: Chunk) -> bytes:
    kind, data = chunk
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))
