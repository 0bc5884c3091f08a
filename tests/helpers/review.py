"""Folders to review, made to order: an original and what a model made of it, of known HU."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from numpy.typing import NDArray

from helpers.derived import write_derived
from helpers.dicom import KEY, OPERATION, ROOT_UID, ct_slice, save
from pipeline.dicom.derived.parametric_map import uncertainty_of, write_deviation_map
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume
from pipeline.review.access.own_computer import OwnComputer
from pipeline.review.server import make_app
from pipeline.review.worklist import Collection, collect

SLICES, ROWS, COLUMNS = 24, 96, 80
ROW_MM, COLUMN_MM, STEP_MM = 0.8, 0.7, 2.5
PADDING_STORED = -2000
STUDY, CTDI_VOL_MGY = "Thorax routine, ward 7", 5.25
#: What the model adds: the difference between both series is known everywhere.
SHIFT_HU = 7
#: A block of one value, where a window's grey level can be read off the screen.
BLOCK = (slice(30, 66), slice(20, 60))
BLOCK_HU = 100
TOKEN = "a token for the tests"


def body_hu(index: int) -> NDArray[np.int16]:
    """One slice: noise that differs in each, a block of 100 HU, air around."""
    noise = np.random.default_rng(index).integers(-40, 41, (ROWS, COLUMNS))
    image = np.full((ROWS, COLUMNS), -1000, np.int16)
    image[10:86, 8:72] = noise[10:86, 8:72]
    image[BLOCK] = BLOCK_HU
    return image


def write_original(
    folder: Path,
    number: int,
    *,
    shear_mm: float = 0.0,
    places_mm: list[float] | None = None,
    images: list[NDArray[np.int16]] | None = None,
    padded: bool = False,
    **attributes: Any,
) -> list[Path]:
    """A series of patient `number`. shear_mm: how far down each slice lies from the one before.
    attributes: of every slice, in place of the usual ones."""
    places_mm = places_mm or [index * STEP_MM for index in range(SLICES)]
    paths = []
    for index, place_mm in enumerate(places_mm):
        stored = (images[index] if images else body_hu(index)) + 1024
        extra: dict = {"PixelPaddingValue": PADDING_STORED} if padded else {}
        identity = {
            "StudyInstanceUID": f"{ROOT_UID}.{number}.1",
            "SeriesInstanceUID": f"{ROOT_UID}.{number}.2",
            "FrameOfReferenceUID": f"{ROOT_UID}.{number}.4",
            "PatientID": f"SECRET-{number}",
        }
        if padded:
            rows, columns = np.mgrid[:ROWS, :COLUMNS]
            outside = np.hypot(rows - ROWS / 2, columns - COLUMNS / 2) > COLUMNS / 2
            stored = np.where(outside, PADDING_STORED, stored)
        dataset = ct_slice(
            index,
            stored.astype(np.int16),
            SOPInstanceUID=f"{ROOT_UID}.{number}.3.{index + 1}",
            StudyDescription=STUDY,
            CTDIvol=CTDI_VOL_MGY,
            InstanceNumber=len(places_mm) - index,  # from the head down, as scanners count
            PixelSpacing=[str(ROW_MM), str(COLUMN_MM)],
            ImagePositionPatient=["-28", f"{-38 + shear_mm * index:.3f}", f"{place_mm:.3f}"],
            **(extra | identity | attributes),
        )
        paths.append(save(dataset, folder / f"CT.{index + 1:04d}.dcm"))
    return paths


def write_denoised(original: Path, folder: Path, *, shift_hu: float = SHIFT_HU) -> None:
    """The derived series of an original: every measured HU moved by the same."""
    series = find_series(original).series[0]
    volume = read_volume(series).volume
    image_hu = np.where(volume.valid, volume.image_hu + shift_hu, volume.image_hu)
    write_derived(image_hu.astype(np.float32), series, OPERATION, folder)


def write_case(root: Path, number: int, **how: object) -> tuple[Path, Path]:
    """(original, derived) folders of one case below `root`."""
    original, derived = root / "sources" / str(number), root / f"derived-{number}"
    write_original(original, number, **how)  # type: ignore[arg-type]
    write_denoised(original, derived)
    return original, derived


def write_uncertainty(root: Path, number: int) -> None:
    """The Parametric Map of a case, 10 HU and in the block 40 HU, and the report that names it."""
    (series,) = find_series(root / "sources" / str(number)).series
    deviation_hu = np.full((SLICES, ROWS, COLUMNS), 10, np.float32)
    deviation_hu[:, *BLOCK] = 40
    folder = root / f"derived-{number}-uncertainty"
    folder.mkdir()
    write_deviation_map(deviation_hu, series, uncertainty_of(OPERATION, "Made to order."), folder)
    row = {"folder": f"derived-{number}", "uncertainty": {"folder": folder.name}}
    (root / "report.json").write_text(json.dumps({"exported": [row]}))


def truncate(path: Path) -> None:
    """Take the last half of a file away, pixels among it."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - len(content) // 2])


def collected(root: Path) -> Collection:
    return collect(root, key=KEY)


def case_of(collection: Collection, folder: Path) -> str:
    return next(cid for cid, case in collection.cases.items() if case.folder == folder)


@contextmanager
def served(collection: Collection) -> Iterator[str]:
    """The address of a running server; the token is TOKEN."""
    with running(make_app(collection, access=OwnComputer(TOKEN))) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def running(app: Any, **options: Any) -> Iterator[int]:
    """The port of a running application."""
    config = uvicorn.Config(app, **{"port": 0, "log_level": "error", "access_log": False} | options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield port
    server.should_exit = True
    thread.join(timeout=10)
