"""Whole numbers as few bytes: an entropy coder of the kind rANS (Duda 2013).

The library `constriction` (0.5.0) was measured instead: files of the same size to within 1 %, in
two thirds of the time; yet it has neither a wheel nor a source distribution for Linux on ARM.

Given how often each symbol is to be expected, its output is within about 0.01 bits a symbol of
the entropy. Only integers take part, so every machine decodes the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import LdctError

#: The frequencies of a table sum to 2^16.
BITS = 16
_MASK = (1 << BITS) - 1
#: The coder's state stays in [_LOWEST, 256 * _LOWEST).
_LOWEST = 1 << 24

#: Cumulated frequencies [symbols + 1], from 0 to 2^BITS, each symbol's 1 or more.
Table = NDArray[np.int64]


def table(counts: NDArray[np.integer]) -> Table:
    """The table of counts [symbols], none negative; in integers, so the same everywhere.

    A symbol that was never counted keeps the smallest frequency: it stays possible.
    """
    symbols = len(counts)
    if not 1 <= symbols <= 1 << (BITS - 1):
        raise LdctError(f"expected 1 to {1 << (BITS - 1)} symbols, got {symbols}")
    whole = np.asarray(counts, dtype=np.int64)
    spare = (1 << BITS) - symbols
    cumulated = np.concatenate([[0], np.cumsum(whole)])
    # Rounding the cumulated counts, and not each, makes the sum exact.
    shared = cumulated * spare // max(int(cumulated[-1]), 1)
    if cumulated[-1] == 0:
        shared = np.arange(symbols + 1) * spare // symbols
    return shared + np.arange(symbols + 1)


def encode(symbols: Sequence[int], tables: Sequence[Table]) -> bytes:
    """The bytes of symbols, each by its own table."""
    state, output = _LOWEST, bytearray()
    for symbol, cumulated in zip(reversed(symbols), reversed(tables), strict=True):
        start, end = int(cumulated[symbol]), int(cumulated[symbol + 1])
        frequency = end - start
        while state >= (_LOWEST >> BITS << 8) * frequency:
            output.append(state & 0xFF)
            state >>= 8
        state = (state // frequency << BITS) + state % frequency + start
    output += state.to_bytes(4, "little")
    return bytes(reversed(output))


def decode(data: bytes, count: int, table_of: Callable[[list[int]], Table]) -> list[int]:
    """The `count` symbols of encode's bytes; table_of gives the next table, of all before.

    Raises LdctError where the bytes are not what encode gave.
    """
    state, place = int.from_bytes(data[:4], "big"), 4
    symbols: list[int] = []
    for _ in range(count):
        cumulated = table_of(symbols)
        slot = state & _MASK
        symbol = int(np.searchsorted(cumulated, slot, side="right")) - 1
        start, end = int(cumulated[symbol]), int(cumulated[symbol + 1])
        state = (end - start) * (state >> BITS) + slot - start
        while state < _LOWEST and place < len(data):
            state = state << 8 | data[place]
            place += 1
        symbols.append(symbol)
    if state != _LOWEST or place != len(data):
        raise LdctError("the compressed codes are damaged or cut off")
    return symbols
