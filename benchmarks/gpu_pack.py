"""The training CT in one file of int16, for a machine that is sent a few tens of MiB and no more.

HU of the slices within the box of the body, each pixel less its left neighbour, low and high bytes
each by itself, through LZMA: lossless, and numpy reads it. What lies outside of the box is gone: it
comes back as air that no scanner measured (Volume.valid). Series whose HU are no whole numbers are
left out.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core.masks import body_mask, bounding_box
from pipeline.core.units import AIR_HU
from pipeline.core.volume import Volume
from pipeline.store.store import Store

MIB = 2**20
#: Rows and columns of a box at least, and around the body: patches and their filters reach out.
LEAST_SIDE, MARGIN = 192, 24
#: Of a series' provenance: what says which scanner and kernel it is of.
KEPT = ("Manufacturer", "ConvolutionKernel", "SliceThickness", "KVP", "XRayTubeCurrent")
#: Of the file beside slices and facts: its frame, and for each slice its place and its end.
FRAME_BYTES, PLACE_BYTES = 4096, 56
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 3, "pb": 0}]

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Taken:
    """A slice as it is packed: of which series, which of its slices, where its box lies (first row,
    end of rows, first column, end of columns), and its bytes."""

    series: str
    number: int
    box: Box
    data: bytes


@dataclass(frozen=True)
class Packed:
    """What `pack` wrote. left_out: series whose values are no whole HU, or that show no body."""

    series: int
    patients: int
    slices: int
    slices_there: int
    mib: float
    left_out: int


def pack(store: Store, keys: list[str], path: Path, *, most_mib: float) -> Packed:
    """Slices of the series `keys` into `path`, as many as go into most_mib, evenly of every series.

    Raises SystemExit where not one slice of each usable series goes in.
    """
    taken: list[Taken] = []
    facts_bytes = len(json.dumps([_facts(store, key) for key in keys]))
    total, room = 0, most_mib * MIB - facts_bytes - FRAME_BYTES
    volumes = {key: store.load(key) for key in keys}
    queues = {key: _in_turn(one) for key, one in volumes.items() if _is_whole_hu(one)}
    for key, number in _round_robin(queues):
        found = _slice(volumes[key], key, number)
        if found is None:
            continue
        if total + len(found.data) + PLACE_BYTES > room:
            break
        taken.append(found)
        total += len(found.data) + PLACE_BYTES
    taken.sort(key=lambda one: (one.series, one.number))
    packed = dict.fromkeys(one.series for one in taken)
    if not packed:
        raise SystemExit(f"nothing fits into {most_mib:g} MiB, or no series shows a body")
    facts = [_facts(store, key) for key in packed]
    _write(path, taken, facts, list(packed))
    return Packed(
        series=len(packed),
        patients=len({one["patient"] for one in facts}),
        slices=len(taken),
        slices_there=sum(len(one.image_hu) for one in volumes.values()),
        mib=path.stat().st_size / MIB,
        left_out=len(keys) - len(packed),
    )


def unpack(path: Path, store: Store) -> list[str]:
    """The packed series into a store; returns their keys."""
    with np.load(path, allow_pickle=False) as held:
        data, ends, places = held["data"].tobytes(), held["ends"], held["places"]
        facts = json.loads(held["facts"].tobytes())
    starts = np.concatenate([[0], ends[:-1]])
    for index, series in enumerate(facts):
        rows = np.flatnonzero(places[:, 0] == index)
        shape = (len(rows), *series["shape"])
        image_hu, valid = np.full(shape, AIR_HU, np.float32), np.zeros(shape, dtype=bool)
        for at, row in enumerate(rows):
            top, bottom, left, right = places[row, 2:]
            inside = (at, slice(top, bottom), slice(left, right))
            box = (bottom - top, right - left)
            image_hu[inside] = decoded(data[starts[row] : ends[row]], box)
            valid[inside] = True
        origins_mm = np.array(series["origins_mm"])[places[rows, 1]]
        affine = np.array(series["affine_lps"])
        provenance = {**series["provenance"], "warnings": []}
        volume = Volume(image_hu, valid, affine, origins_mm, provenance)
        store.add(volume, key=series["key"], patient=series["patient"])
    return [series["key"] for series in facts]


def encoded(image: NDArray[np.int16]) -> bytes:
    """An image [rows, columns] as bytes."""
    difference = np.diff(image, axis=1, prepend=np.int16(0))  # modulo 65,536, and so lossless
    # Small negative numbers become small ones: one byte plane is then nearly all zeros.
    folded = ((difference << 1) ^ (difference >> 15)).astype("<u2")
    planes = np.ascontiguousarray(folded.view(np.uint8).reshape(*image.shape, 2).transpose(2, 0, 1))
    return lzma.compress(planes.tobytes(), format=lzma.FORMAT_RAW, filters=FILTERS)


def decoded(data: bytes, shape: tuple[int, int]) -> NDArray[np.int16]:
    """The image [rows, columns] that `encoded` was given."""
    raw = lzma.decompress(data, format=lzma.FORMAT_RAW, filters=FILTERS)
    planes = np.frombuffer(raw, np.uint8).reshape(2, *shape).astype(np.uint16)
    folded = planes[0] | planes[1] << 8
    difference = (folded >> 1) ^ (np.uint16(0) - (folded & 1))
    return np.cumsum(difference, axis=1, dtype=np.uint16).view(np.int16)


def _in_turn(volume: Volume) -> Iterator[int]:
    """The numbers of a volume's slices so that any beginning is spread evenly over it: bits of a
    counter in reverse order."""
    count = len(volume.image_hu)
    bits = max(1, (count - 1).bit_length())
    order = (int(f"{number:0{bits}b}"[::-1], 2) for number in range(2**bits))
    return (number for number in order if number < count)


def _round_robin(queues: dict[str, Iterator[int]]) -> Iterator[tuple[str, int]]:
    """A slice of each series, then the next of each."""
    rows = ([(key, number) for number in queue] for key, queue in queues.items())
    return (one for one in chain.from_iterable(zip_longest(*rows)) if one is not None)


def _is_whole_hu(volume: Volume) -> bool:
    middle = volume.image_hu[len(volume.image_hu) // 2]
    return bool((middle == np.round(middle)).all() and np.abs(middle).max() < 2**15)


def _slice(volume: Volume, key: str, number: int) -> Taken | None:
    """None where a slice shows no body, or holds other than whole HU."""
    image_hu = np.asarray(volume.image_hu[number])
    least = (min(LEAST_SIDE, image_hu.shape[0]), min(LEAST_SIDE, image_hu.shape[1]))
    found = bounding_box(body_mask(image_hu) & volume.valid[number], least)
    whole = image_hu.astype(np.int16)
    if found is None or not (whole == image_hu).all():
        return None
    rows, columns = (
        (max(0, side.start - MARGIN), min(length, side.stop + MARGIN))
        for side, length in zip(found, image_hu.shape, strict=True)
    )
    return Taken(key, number, (*rows, *columns), encoded(whole[slice(*rows), slice(*columns)]))


def _facts(store: Store, key: str) -> dict[str, object]:
    record = store.record(key)
    known = {name: record.provenance[name] for name in KEPT if name in record.provenance}
    return {
        "key": key,
        "patient": record.patient,
        "shape": record.shape[1:],
        "affine_lps": record.affine_lps,
        "origins_mm": record.slice_origins_mm.to_lists(),
        "provenance": known,
    }


def _write(
    path: Path, taken: list[Taken], facts: list[dict[str, object]], series: list[str]
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    index = {key: n for n, key in enumerate(series)}
    with path.open("wb") as stream:
        np.savez(
            stream,
            data=np.frombuffer(b"".join(one.data for one in taken), np.uint8),
            ends=np.cumsum([len(one.data) for one in taken]),
            places=np.array([(index[one.series], one.number, *one.box) for one in taken]),
            facts=np.frombuffer(json.dumps(facts).encode(), np.uint8),
        )


def said(packed: Packed, path: Path) -> str:
    """One line for the one who packed."""
    found = asdict(packed)
    return (
        "{slices} of {slices_there} slices, {series} series, {patients} patients; "
        "{left_out} series left out (no whole HU, or no body)".format(**found)
        + f": {path}, {packed.mib:.1f} MiB"
    )
