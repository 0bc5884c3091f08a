"""The files of a case, and the volumes that a reader must find in them."""

from __future__ import annotations

import random
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import CTImageStorage, EnhancedSRStorage

from helpers.odd_series.attributes import ROOTS, header_elements
from helpers.odd_series.case import OddSeries, Storage
from helpers.odd_series.encoding import TRAILING_PADDING, Element, Encoding, file_bytes
from helpers.odd_series.multi_frame import multi_frame
from helpers.odd_series.slices import identity, pixels_of, slice_elements, sop_uid

PRIVATE_CLASS = "1.3.12.2.1107.5.9.1"  # Siemens' CSA non-image storage


@dataclass(frozen=True)
class Known:
    """A volume that must be found: HU, where they are valid [slices, rows, columns], and the
    affine."""

    image_hu: NDArray[np.float32]
    valid: NDArray[np.bool_]
    affine_lps: NDArray[np.float64]


@dataclass(frozen=True)
class Written:
    """What a reader must find in a case's files: its volumes, and how many files are no slices or
    copies of one."""

    volumes: list[Known]
    excluded: int


def write_series(case: OddSeries, folder: Path) -> Written:
    """Write the case's files below `folder`."""
    phases = range(case.phase_count)
    if case.storage.multi_frame:
        elements, *sop = multi_frame(case)
        contents = [_file(elements, case.storage, (sop[0], sop[1]))]
    else:
        contents = [
            _slice_file(case, index, phase)
            for phase in phases
            for index in range(case.geometry.slices)
        ]
    files = _named(contents, case.storage)
    if case.storage.copy:
        files["copy of a slice"] = contents[0]
    files |= dict(_beside(case, kind) for kind in case.storage.beside)
    _write(files, folder, zipped=case.storage.zipped)
    return Written(
        [_known(case, phase) for phase in phases],
        excluded=len(case.storage.beside) + case.storage.copy,
    )


def _known(case: OddSeries, phase: int) -> Known:
    slices = [pixels_of(case, index, phase) for index in case.geometry.order]
    return Known(
        np.stack([one.image_hu for one in slices]),
        np.stack([one.valid for one in slices]),
        case.geometry.affine_lps,
    )


def _slice_file(case: OddSeries, index: int, phase: int) -> bytes:
    elements = slice_elements(case, index, phase)
    return _file(elements, case.storage, (CTImageStorage, sop_uid(case, index, phase)))


def _file(elements: list[Element], storage: Storage, sop: tuple[str, str]) -> bytes:
    how = Encoding(storage.syntax, storage.undefined, storage.group_lengths)
    if storage.trailing_padding:
        elements = [*elements, Element(TRAILING_PADDING, "OB", bytes(storage.trailing_padding))]
    return file_bytes(elements, how, sop=sop, start=storage.start)


def _named(contents: list[bytes], storage: Storage) -> dict[str, bytes]:
    """Files by names in an order of their own."""
    numbers = list(range(len(contents)))
    random.Random(storage.shuffle_seed).shuffle(numbers)
    form = {
        "numbers": "{:03d}.dcm",
        "uids": "CT.1.2.826.0.1.3680043.8.498.24.3.{}",
        "no suffix": "IM{:05d}",
        "folders": "d{0}/S {0}/Bild ü{0}.IMA",
        "letters": "{:x}",
    }[storage.names]
    return {form.format(n): content for n, content in zip(numbers, contents, strict=True)}


def _beside(case: OddSeries, kind: str) -> tuple[str, bytes]:
    """Another file in the folder: (name, content)."""
    if kind == "text":
        return "readme.txt", b"Exported by a workstation\n"
    if kind == "hidden":
        return ".DS_Store", bytes(100)
    uid = f"{ROOTS[case.header.root]}.9.{len(kind)}"
    if kind == "localizer":
        header = replace(
            case.header, image_type="ORIGINAL\\PRIMARY\\LOCALIZER", left_out=frozenset()
        )
        scout = replace(case, header=header, phases="")
        elements = [*slice_elements(scout, 0), *identity(scout, CTImageStorage, uid)]
        by_tag = {element.tag: element for element in elements}
        return "scout", _file(list(by_tag.values()), case.storage, (CTImageStorage, uid))
    sop_class = PRIVATE_CLASS if kind == "private class" else EnhancedSRStorage
    storage = replace(case.storage, syntax=Storage().syntax, start="preamble")
    elements = [*identity(case, sop_class, uid), *header_elements(case.header, 0, 1)]
    return kind, _file(elements, storage, (sop_class, uid))


def _write(files: dict[str, bytes], folder: Path, *, zipped: bool) -> None:
    if zipped:
        with zipfile.ZipFile(folder / "study.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
