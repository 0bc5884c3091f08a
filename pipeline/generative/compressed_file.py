"""A file of compressed images: a picture, or the slices of a CT volume.

Sign, length of the header, header (JSON), the images' files one after the other, each behind its
length, and a CRC-32 of all that comes before it. Numbers are little-endian. The sign's digit is the
version: 2 for images of several stages, whose header says how many, 1 for all others.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from pipeline.config.sections import Strict
from pipeline.core.errors import LdctError

#: What each version's files begin with.
SIGNS = {1: b"LDCTVQ1\n", 2: b"LDCTVQ2\n"}
_SIGN = re.compile(rb"LDCTVQ(\d)\n")
SUFFIX = ".ldctvq"
_LENGTH = struct.Struct("<I")

Row = tuple[float, float, float, float]


class Header(Strict):
    """What a file says of itself beside its images."""

    #: By which the registry knows the model that made it, and alone can expand it.
    model: str
    weights_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    kind: Literal["picture", "ct"]
    #: Of CT: axes and origin as in pipeline.core.volume.Volume.
    affine_lps: tuple[Row, Row, Row, Row] | None = None
    #: How many stages each image holds; None: of a model that has one.
    stages: Annotated[int, Field(ge=1)] | None = None


@dataclass(frozen=True)
class CompressedFile:
    """A header, and each image as pipeline.generative.codec compresses it."""

    header: Header
    images: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        """The content of the file."""
        about = self.header.model_dump_json(exclude_none=True).encode()
        sign = SIGNS[1 if self.header.stages is None else 2]
        parts = [sign, *(part for each in (about, *self.images) for part in _behind_length(each))]
        content = b"".join(parts)
        return content + _LENGTH.pack(zlib.crc32(content))

    @classmethod
    def from_bytes(cls, content: bytes) -> CompressedFile:
        """Raises LdctError for what is no such file, of a later version, damaged or cut off."""
        found = _SIGN.match(content)
        if not found:
            raise LdctError("this is no file of `ldct compress`")
        if int(found[1]) not in SIGNS:
            raise LdctError(f"a file of version {int(found[1])}: a later version of ldct reads it")
        body, check = content[: -_LENGTH.size], content[-_LENGTH.size :]
        if len(content) < found.end() + _LENGTH.size or check != _LENGTH.pack(zlib.crc32(body)):
            raise LdctError("the file is damaged or cut off: its checksum is another one")
        parts, place = [], found.end()
        while place < len(body):
            (length,) = _LENGTH.unpack_from(body, place)
            place += _LENGTH.size + length
            parts.append(body[place - length : place])
        try:
            return cls(Header.model_validate_json(parts[0]), tuple(parts[1:]))
        except (ValidationError, IndexError) as error:
            raise LdctError(
                "the file's header is not understood: it is of another version of ldct"
            ) from error


def _behind_length(part: bytes) -> tuple[bytes, bytes]:
    return _LENGTH.pack(len(part)), part
