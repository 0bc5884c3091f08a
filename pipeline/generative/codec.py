"""Images as files of a few kilobytes, by a VQ-VAE and an entropy coder; and back.

Lossy: for previews and research, never in place of the original. A file can only be
expanded with the model that made it, whose digest is in the file.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from functools import lru_cache

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
#: Shares are counted in 2^-20.
_FINE = 20
#: As how many counts the plain frequency weighs beside those of one neighbour.
_PLAIN_COUNTS = 20
#: Two neighbours are not independent: this part of the plain frequency is always added.
_DOUBT = 50


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
        self.expected = Expectation(self.network.follows.cpu().numpy())

    def compress(self, image: NDArray[np.float32]) -> bytes:
        """The file of one image [rows, columns] of up to 65535 pixels a side."""
        rows, columns = image.shape
        codes = self.codes(image)
        symbols = codes.ravel().tolist()
        wide = codes.shape[1]
        tables = [self.expected.table(symbols, at, wide) for at in range(len(symbols))]
        body = entropy_coder.encode(symbols, tables)
        return HEADER.pack(SIGN, self.digest, rows, columns, zlib.crc32(body)) + body

    def expand(self, data: bytes) -> NDArray[np.float32]:
        """The image of a file; LdctError where it is damaged, or another model's."""
        rows, columns, body = self._opened(data)
        side = self.network.pixels_per_code
        tall, wide = -(-rows // side), -(-columns // side)
        symbols = entropy_coder.decode(
            body, tall * wide, lambda before: self.expected.table(before, len(before), wide)
        )
        return self.image(np.array(symbols).reshape(tall, wide), (rows, columns))

    def codes(self, image: NDArray[np.float32]) -> NDArray[np.int64]:
        """Indices into the code book [rows, columns] of an image."""
        batch = torch.from_numpy(np.array(image, dtype=np.float32))[None, None]
        with torch.inference_mode():
            values = self.model.normalised(batch)
            return self.network.codes(values.to(self._device))[0].cpu().numpy()

    def image(self, codes: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.float32]:
        """The image [*shape] of codes."""
        with torch.inference_mode():
            values = self.network.image(torch.from_numpy(codes)[None].to(self._device), shape)
            return self.model.in_hu(values[0, 0]).float().cpu().numpy()

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _opened(self, data: bytes) -> tuple[int, int, bytes]:
        if len(data) < HEADER.size or not data.startswith(SIGN):
            raise LdctError("this is not a file of the VQ-VAE codec")
        _, digest, rows, columns, check = HEADER.unpack_from(data)
        body = data[HEADER.size :]
        if digest != self.digest:
            raise LdctError(
                f"the file was made with model {digest.hex()}, this is {self.digest.hex()}"
            )
        if zlib.crc32(body) != check or not (rows and columns):
            raise LdctError("the file is damaged or cut off")
        return rows, columns, body


class Expectation:
    """How likely each code is after the codes to its left and above, as counted in training.

    follows [2, codes + 1, codes]: how often each code stood right of, and below, each other;
    the last row is for the image's rim. The two are taken as independent given the code, and
    where little was counted the plain frequency stands in. In integers alone: a frequency that
    differed in one digit between two machines would garble every code after it.
    """

    def __init__(self, follows: NDArray[np.int64]) -> None:
        self.rim = follows.shape[2]
        plain = follows.sum(axis=(0, 1)) + 1
        self.plain = (plain << _FINE) // plain.sum() + 1
        self.beside, self.below = (self._likely(counts) for counts in follows)
        self._table = lru_cache(maxsize=4096)(self._make_table)

    def _likely(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Shares [codes + 1, codes] of 2^_FINE."""
        seen = counts.sum(axis=1, keepdims=True) + _PLAIN_COUNTS
        return ((counts << _FINE) + _PLAIN_COUNTS * self.plain) // seen

    def table(self, codes: list[int], at: int, columns: int) -> Table:
        """For the code at place `at` of an image, row by row; those before it are known."""
        beside = codes[at - 1] if at % columns else self.rim
        below = codes[at - columns] if at >= columns else self.rim
        return self._table(beside, below)

    def _make_table(self, beside: int, below: int) -> Table:
        both = self.beside[beside] * self.below[below] // self.plain
        return entropy_coder.table(both + self.plain // _DOUBT)


def _digest(model: HUModel) -> bytes:
    """Of all weights and of the counts, so that equal digests decode alike."""
    found = hashlib.sha256(f"{model.centre} {model.scale}".encode())
    for name, values in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(values.cpu().contiguous().numpy().tobytes())
    return found.digest()[:4]
