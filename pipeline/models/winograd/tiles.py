"""Tiles of images, lifted to where a convolution is a product at each place, and collected again.

The arithmetic of pipeline.models.winograd.conv: the matrices, and the loops that numba compiles. An
image's channels lie beside each other (channels_last), so that every inner loop runs over them.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache, reduce
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray

#: The side of a tile, of which kernel - 1 is shared with the next.
TILE = 8
#: Where the polynomials are evaluated, beside infinity: small, of both signs, exact in binary.
#: With more of them the tiles could be larger, and the error of float32 15 times as large.
POINTS = [Fraction(at) for at in ("0", "1", "-1", "2", "-2", "1/2", "-1/2")]
#: For each thread: what is lifted stays in the cache until it has been multiplied.
TILES_AT_ONCE = 32


#: numba's own threads serve one caller at a time, where the system has no OpenMP for it.
_ONE_CALLER = threading.Lock()


def threads() -> int:
    """For the tiles: as many as PyTorch has here for the products."""
    return min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)


class Transforms(NamedTuple):
    """Of a kernel of one size, float32: the matrices of Lavin & Gray's eq. 5.

    input: B^T [8, 8]; weight: G [8, kernel]; output: A^T [step, 8]; gradient: A, its columns
    filled up with zeros [8, 8]. step: from one tile to the next.
    """

    input: NDArray[np.float32]
    weight: NDArray[np.float32]
    output: NDArray[np.float32]
    gradient: NDArray[np.float32]
    step: int


@cache
def transforms(kernel: int) -> Transforms:
    """By Toom's and Cook's interpolation at POINTS and at infinity, in exact fractions."""
    step = TILE - kernel + 1
    output = np.zeros((step, TILE))
    weight = np.zeros((TILE, kernel))
    image = np.zeros((TILE, TILE))
    for row, at in enumerate(POINTS):
        others = [other for other in POINTS if other != at]
        apart = reduce(lambda product, other: product * (at - other), others, Fraction(1))
        output[:, row] = [at**power for power in range(step)]
        weight[row] = [at**power / apart for power in range(kernel)]
        image[row, :-1] = _with_roots(others)
    output[-1, -1] = weight[-1, -1] = 1
    image[-1] = _with_roots(POINTS)
    gradient = np.zeros((TILE, TILE))
    gradient[:, :step] = output.T
    single = [matrix.astype(np.float32) for matrix in (image, weight, output, gradient)]
    return Transforms._make([*single, step])


def _with_roots(roots: list[Fraction]) -> list[Fraction]:
    """The coefficients of the polynomial with these roots, lowest first."""
    found = [Fraction(1)]
    for root in roots:
        found = [
            low - root * same
            for low, same in zip([Fraction(), *found], [*found, Fraction()], strict=True)
        ]
    return found


class Chunk(NamedTuple):
    """Some tiles of some lines, which are counted through all images."""

    first: int
    lines: int
    left: int
    across: int

    @property
    def tiles(self) -> int:
        """How many tiles the chunk has."""
        return self.lines * self.across


class Tiles(NamedTuple):
    """How an output [batch, rows, columns] is tiled; a line is a row of tiles."""

    batch: int
    rows: int
    columns: int
    step: int

    @classmethod
    def of(cls, input: torch.Tensor, kernel: int, padding: int) -> Tiles:
        """The tiling of a convolution's output; input [batch, channels, rows, columns]."""
        rows, columns = (side + 2 * padding - kernel + 1 for side in input.shape[2:])
        return cls(len(input), rows, columns, TILE - kernel + 1)

    @property
    def lines(self) -> int:
        """Of one image."""
        return -(-self.rows // self.step)

    @property
    def across(self) -> int:
        """How many tiles one line has."""
        return -(-self.columns // self.step)

    def chunks(self) -> Iterator[Chunk]:
        """All tiles, so many at once that every thread has its lines and they stay in the cache."""
        across = min(self.across, TILES_AT_ONCE)
        lines, at_once = self.batch * self.lines, threads() * (TILES_AT_ONCE // across)
        for first in range(0, lines, at_once):
            for left in range(0, self.across, across):
                yield Chunk(
                    first,
                    min(at_once, lines - first),
                    left,
                    min(across, self.across - left),
                )


class Room:
    """Memory that is asked for once: fresh pages for each chunk cost as much as the sums."""

    def __init__(self) -> None:
        self.memory = torch.empty(0)

    def of(self, *shape: int) -> torch.Tensor:
        """A tensor of this shape; the next call uses the same memory."""
        size = math.prod(shape)
        if self.memory.numel() < size:
            self.memory = torch.empty(size)
        return self.memory[:size].view(shape)


class Lifting:
    """The tiles of [batch, channels, rows, columns] by one matrix, with zeros around the image."""

    def __init__(
        self, tiles: Tiles, image: torch.Tensor, padding: int, matrix: NDArray[np.float32]
    ) -> None:
        self.tiles, self.padding, self.matrix = tiles, padding, matrix
        self.image = image.detach().permute(0, 2, 3, 1).contiguous().numpy()
        self.room, self.between = Room(), Room()

    def of(self, chunk: Chunk) -> torch.Tensor:
        """[64, tiles, channels]; the next call writes over it."""
        tiles, channels = self.tiles, self.image.shape[3]
        lifted = self.room.of(TILE * TILE, chunk.tiles, channels)
        wide = chunk.across * tiles.step + TILE - tiles.step
        between = self.between.of(chunk.lines, TILE, wide * channels).numpy()
        at = tiles.lines, tiles.step, self.padding
        _each_line(
            _lift_line, _lift_lines, chunk, self.image, at, self.matrix, between, lifted.numpy()
        )
        return lifted


def collect(
    found: NDArray[np.float32],
    chunk: Chunk,
    matrix: NDArray[np.float32],
    bias: NDArray[np.float32],
    output: NDArray[np.float32],
) -> None:
    """The products [64, tiles, channels] of a chunk, with the bias, into their places in an
    output [batch, rows, columns, channels]."""
    _each_line(_collect_line, _collect_lines, chunk, found, matrix, bias, output)


def _each_line(
    one: Callable[..., None], together: Callable[..., None], chunk: Chunk, *arguments: Any
) -> None:
    if threads() == 1:
        for line in range(chunk.lines):
            one(line, chunk, *arguments)
    else:
        with _ONE_CALLER:
            numba.set_num_threads(threads())
            together(chunk, *arguments)


@njit(fastmath=True, cache=True, inline="always")
def _sum_of_eight(weights, rows, at, apart, out):  # pragma: no cover - compiled
    """out = the sum of weights[k] * rows[at + k * apart], a piece of rows as long as out each."""
    size = out.size
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    w4, w5, w6, w7 = weights[4], weights[5], weights[6], weights[7]
    r0, r1 = rows[at : at + size], rows[at + apart : at + apart + size]
    at += 2 * apart
    r2, r3 = rows[at : at + size], rows[at + apart : at + apart + size]
    at += 2 * apart
    r4, r5 = rows[at : at + size], rows[at + apart : at + apart + size]
    at += 2 * apart
    r6, r7 = rows[at : at + size], rows[at + apart : at + apart + size]
    for i in range(size):
        out[i] = (
            w0 * r0[i]
            + w1 * r1[i]
            + w2 * r2[i]
            + w3 * r3[i]
            + w4 * r4[i]
            + w5 * r5[i]
            + w6 * r6[i]
            + w7 * r7[i]
        )


@njit(fastmath=True, cache=True, nogil=True)
def _lift_line(line, chunk, image, at, matrix, between, lifted):  # pragma: no cover - compiled
    """matrix @ tile @ matrix^T of each tile of a chunk's line, every channel by itself."""
    first, _, left, across = chunk
    lines, step, padding = at
    channels = image.shape[3]
    number, down = divmod(first + line, lines)
    own = between[line]
    _lift_rows(image[number], down * step - padding, left * step - padding, matrix, own)
    for tile in range(across):
        for row in range(TILE):
            for column in range(TILE):
                out = lifted[row * TILE + column, line * across + tile]
                _sum_of_eight(matrix[column], own[row], tile * step * channels, channels, out)


@njit(parallel=True, cache=True)
def _lift_lines(chunk, image, at, matrix, between, lifted):  # pragma: no cover - compiled
    for line in prange(chunk.lines):
        _lift_line(line, chunk, image, at, matrix, between, lifted)


@njit(fastmath=True, cache=True)
def _lift_rows(image, top, left, matrix, lifted):  # pragma: no cover - compiled
    """matrix @ eight rows from `top`, from the column `left` on; zeros beyond the image."""
    _, columns, channels = image.shape
    begin = max(0, left)
    end = max(begin, min(columns, left + lifted.shape[1] // channels))
    window = image[max(0, top) : max(0, top + TILE)]
    if len(window) < TILE:
        whole = np.zeros((TILE, columns, channels), np.float32)
        whole[max(0, -top) : max(0, -top) + len(window)] = window
        window = whole
    flat = window.reshape(-1)
    for row in range(TILE):
        lifted[row, : (begin - left) * channels] = 0
        lifted[row, (end - left) * channels :] = 0
        out = lifted[row, (begin - left) * channels : (end - left) * channels]
        _sum_of_eight(matrix[row], flat, begin * channels, columns * channels, out)


@njit(fastmath=True, cache=True, nogil=True)
def _collect_line(line, chunk, found, matrix, bias, output):  # pragma: no cover - compiled
    """matrix @ tile @ matrix^T + bias of a line's products, where the output reaches."""
    first, _, left, across = chunk
    _, rows, columns, channels = output.shape
    step = len(matrix)
    flat = found.reshape(-1)
    place = found.shape[1] * channels
    image, down = divmod(first + line, -(-rows // step))
    half = np.empty((step, TILE * channels), np.float32)
    for tile in range(across):
        at = (line * across + tile) * channels
        for row in range(step):
            for column in range(TILE):
                out = half[row, column * channels : (column + 1) * channels]
                _sum_of_eight(matrix[row], flat, at + column * place, TILE * place, out)
        for row in range(min(step, rows - down * step)):
            for column in range(min(step, columns - (left + tile) * step)):
                out = output[image, down * step + row, (left + tile) * step + column]
                _sum_of_eight(matrix[column], half[row], 0, channels, out)
                out += bias


@njit(parallel=True, cache=True)
def _collect_lines(chunk, found, matrix, bias, output):  # pragma: no cover - compiled
    for line in prange(chunk.lines):
        _collect_line(line, chunk, found, matrix, bias, output)
