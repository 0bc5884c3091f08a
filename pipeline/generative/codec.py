"""Images as files of a few kilobytes, by a VQ-VAE and an entropy coder; and back.

Lossy: for previews and research, never in place of the original. A file can only be
expanded with the model that made it, whose digest is in the file. A model of several stages
writes one after the other, so that the first few can be read, or written, alone.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.core.errors import ConfigError, LdctError
from pipeline.generative import entropy_coder
from pipeline.generative.entropy_coder import Table
from pipeline.models.adapters.base import HUModel

#: Sign, first bytes of the model's digest, rows, columns, CRC-32 of the codes that follow.
HEADER = struct.Struct("<4s4sHHI")
SIGN = b"LVQ1"
#: Of models of several stages: sign, model, rows, columns, stages in the file; then each stage's
#: codes, behind their length and CRC-32.
STAGED_HEADER = struct.Struct("<4s4sHHB")
STAGED_SIGN = b"LVQ2"
_STAGE = struct.Struct("<II")
#: Shares are counted in 2^-20.
_FINE = 20
#: As how many counts the plain frequency weighs beside those of one neighbour.
_PLAIN_COUNTS = 20
#: Two neighbours are not independent: this part of the plain frequency is always added.
_DOUBT = 50
#: What three conditions make of a share is cut off here, so that sums stay within 64 bits.
_HIGHEST = 1 << 30
_DAMAGED = "the file is damaged or cut off"


@dataclass(frozen=True)
class _Opened:
    """What a file holds: the image's size, and each stage's bytes."""

    rows: int
    columns: int
    bodies: tuple[bytes, ...]


class Codec:
    """A trained model's images, compressed and expanded.

    Values are what the model takes: HU, or grey levels. What it was not trained on comes back
    badly. Encoding is exact from the codes on; the network's own arithmetic may differ in the
    last digit from machine to machine, so expanded images do too.
    """

    def __init__(self, model: HUModel) -> None:
        from pipeline.models.vqvae import VQVAE  # MONAI takes seconds to import

        if not isinstance(model.network, VQVAE):
            raise ConfigError("a codec needs a model of pipeline.models.vqvae")
        self.model, self.network = model.eval(), model.network
        self.digest = _digest(model)
        counts = [self.network.follows]
        if self.network.stages > 1:
            counts += self.network.later_follows.unbind()
        self.expected = [Expectation(one.cpu().numpy()) for one in counts]

    @property
    def stages(self) -> int:
        """How many stages the model has."""
        return len(self.expected)

    def compress(self, image: NDArray[np.float32], stages: int | None = None) -> bytes:
        """The file of one image [rows, columns] of up to 65535 pixels a side.

        stages: how many of the model's it holds; all by default. Raises ConfigError for others.
        """
        stages = self.stages if stages is None else stages
        if not 1 <= stages <= self.stages:
            raise ConfigError(f"stages: the model has 1 to {self.stages}, not {stages}")
        codes = self.codes(image)[:stages]
        bodies = [self._coded(codes, stage) for stage in range(stages)]
        if self.stages == 1:
            check = zlib.crc32(bodies[0])
            return HEADER.pack(SIGN, self.digest, *image.shape, check) + bodies[0]
        head = STAGED_HEADER.pack(STAGED_SIGN, self.digest, *image.shape, stages)
        return head + b"".join(_STAGE.pack(len(one), zlib.crc32(one)) + one for one in bodies)

    def _coded(self, codes: NDArray[np.int64], stage: int) -> bytes:
        symbols, wide = codes[stage].ravel().tolist(), codes.shape[2]
        before = codes[stage - 1].ravel().tolist() if stage else None
        expected = self.expected[stage]
        tables = [expected.table(symbols, at, wide, before) for at in range(len(symbols))]
        return entropy_coder.encode(symbols, tables)

    def expand(self, data: bytes, stages: int | None = None) -> NDArray[np.float32]:
        """The image of a file, or what its first stages give of it.

        Raises LdctError for a file that is damaged or another model's, or holds fewer stages.
        """
        opened = self._opened(data, stages)
        side = self.network.pixels_per_code
        tall, wide = -(-opened.rows // side), -(-opened.columns // side)
        found: list[list[int]] = []
        for expected, body in zip(self.expected, opened.bodies, strict=False):
            before = found[-1] if found else None
            table_of = partial(_next_table, expected, wide, before)
            found.append(entropy_coder.decode(body, tall * wide, table_of))
        codes = np.array(found).reshape(len(found), tall, wide)
        return self.image(codes, (opened.rows, opened.columns))

    def codes(self, image: NDArray[np.float32]) -> NDArray[np.int64]:
        """Indices into each stage's code book [stages, rows, columns] of an image."""
        batch = torch.from_numpy(np.array(image, dtype=np.float32))[None, None]
        with torch.inference_mode():
            values = self.model.normalised(batch)
            return self.network.codes(values.to(self._device))[0].cpu().numpy()

    def image(self, codes: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.float32]:
        """The image [*shape] of codes [stages, rows, columns], of the first stages or all."""
        with torch.inference_mode():
            values = self.network.image(torch.from_numpy(codes)[None].to(self._device), shape)
            return self.model.in_hu(values[0, 0]).float().cpu().numpy()

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _opened(self, data: bytes, stages: int | None) -> _Opened:
        """With the bytes of the first stages alone, or of all in the file."""
        header, sign = (HEADER, SIGN) if self.stages == 1 else (STAGED_HEADER, STAGED_SIGN)
        if len(data) < header.size or data[: len(sign)] not in (SIGN, STAGED_SIGN):
            raise LdctError("this is not a file of the VQ-VAE codec")
        _, digest, rows, columns, last = header.unpack_from(data)
        if digest != self.digest:
            raise LdctError(
                f"the file was made with model {digest.hex()}, this is {self.digest.hex()}"
            )
        if not (data.startswith(sign) and rows and columns):
            raise LdctError(_DAMAGED)
        body, held = data[header.size :], 1 if self.stages == 1 else last
        asked = held if stages is None else stages
        if not 1 <= asked <= min(held, self.stages):
            raise LdctError(f"the file holds {held} stages: {asked} cannot be read")
        if self.stages > 1:
            return _Opened(rows, columns, _staged(body, asked, whole=asked == held))
        if zlib.crc32(body) != last:
            raise LdctError(_DAMAGED)
        return _Opened(rows, columns, (body,))


def _staged(data: bytes, stages: int, *, whole: bool) -> tuple[bytes, ...]:
    """The bytes of the first stages; LdctError where one is damaged or cut off, or where more
    follows the whole."""
    bodies, place = [], 0
    for _ in range(stages):
        if len(data) < place + _STAGE.size:
            raise LdctError(_DAMAGED)
        length, check = _STAGE.unpack_from(data, place)
        place += _STAGE.size + length
        bodies.append(data[place - length : place])
        if len(bodies[-1]) != length or zlib.crc32(bodies[-1]) != check:
            raise LdctError(_DAMAGED)
    if whole and place != len(data):
        raise LdctError(_DAMAGED)
    return tuple(bodies)


def _next_table(
    expected: Expectation, columns: int, before: list[int] | None, codes: list[int]
) -> Table:
    return expected.table(codes, len(codes), columns, before)


class Expectation:
    """How likely each code is after the codes to its left and above, as counted in training; in a
    later stage also after the code of the stage before at the same place.

    follows [2 or 3, codes + 1, codes]: how often each code stood right of, below, and in the stage
    after each other; the last row is for the image's rim. These are taken as independent given
    the code, and where little was counted the plain frequency stands in. In integers alone: a
    frequency that differed in one digit between two machines would garble every code after it.
    """

    def __init__(self, follows: NDArray[np.integer]) -> None:
        follows = follows.astype(np.int64)
        self.rim = follows.shape[2]
        plain = follows.sum(axis=(0, 1)) + 1
        self.plain = (plain << _FINE) // plain.sum() + 1
        self.likely = [self._likely(counts) for counts in follows]
        self._table = lru_cache(maxsize=4096)(self._make_table)

    def _likely(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Shares [codes + 1, codes] of 2^_FINE."""
        seen = counts.sum(axis=1, keepdims=True) + _PLAIN_COUNTS
        return ((counts << _FINE) + _PLAIN_COUNTS * self.plain) // seen

    def table(
        self, codes: list[int], at: int, columns: int, before: list[int] | None = None
    ) -> Table:
        """For the code at place `at` of an image, row by row; those before it are known, and
        all of the stage `before`."""
        beside = codes[at - 1] if at % columns else self.rim
        above = codes[at - columns] if at >= columns else self.rim
        return self._table(beside, above, *(() if before is None else (before[at],)))

    def _make_table(self, *conditions: int) -> Table:
        shares = [likely[code] for likely, code in zip(self.likely, conditions, strict=True)]
        found = shares[0] * shares[1] // self.plain
        for share in shares[2:]:
            found = np.minimum(found * share // self.plain, _HIGHEST)
        return entropy_coder.table(found + self.plain // _DOUBT)


def _digest(model: HUModel) -> bytes:
    """Of all weights and of the counts, so that equal digests decode alike."""
    found = hashlib.sha256(f"{model.centre} {model.scale}".encode())
    for name, values in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(values.cpu().contiguous().numpy().tobytes())
    return found.digest()[:4]
