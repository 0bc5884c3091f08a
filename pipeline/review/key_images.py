"""Key images on the page: slices that a reader points out, saved as a DICOM Key Object Selection.

Each save is another file: nothing is overwritten.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pipeline.core.errors import ConfigError
from pipeline.core.refusals import Unreadable
from pipeline.core.types import Json
from pipeline.dicom.derived.key_images import read_selection, write_selection
from pipeline.review.access.roles import ReaderName
from pipeline.review.measurements import ON_SLICE_MM, slice_of
from pipeline.review.planes import Planes
from pipeline.review.saved_objects import last_file, next_file, series_of
from pipeline.review.worklist import Case

KEY_IMAGES, PREFIX = "key_images", "KO"
MAX_KEY_IMAGES = 200


class KeyImages(BaseModel):
    """The key images of a case, as a reader saves them.

    slices: numbers from 0 in the first series of the case.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    reader: ReaderName
    slices: list[Annotated[int, Field(ge=0)]] = Field(min_length=1, max_length=MAX_KEY_IMAGES)


def save(root: Path, case: Case, body: Json) -> Path:
    """Write a selection of the slices, of original and denoised series; returns its file.

    Raises ConfigError for a slice that the case does not have, and for a case that is not of files.
    """
    sent = KeyImages(**body)
    first = _first(case)
    count = first.geometry.shape[0]
    for number in sent.slices:
        if number >= count:
            raise ConfigError(f"slice {number + 1} is none of the {count} of this case")
    images = [
        (series, there)
        for series, planes in series_of(case)
        for number in sorted(set(sent.slices))
        if (there := _same_place(first, number, planes)) is not None
    ]
    if not images:
        raise ConfigError("no key image is a slice of a DICOM series: nothing to save")
    with next_file(root, KEY_IMAGES, case, PREFIX) as (path, partial):
        write_selection(images, partial, observer=sent.reader)
    return path


def saved(root: Path, case: Case) -> list[int]:
    """The slices of the last selection of a case, by their numbers in its first series; [] without
    one. Raises ConfigError for a file that cannot be read."""
    path = last_file(root, KEY_IMAGES, case, PREFIX)
    if path is None:
        return []
    series = series_of(case)
    try:
        found = read_selection(path, [one for one, _ in series])
    except Unreadable as fault:
        raise ConfigError(f"{path}: {fault.reason}") from fault
    planes = {id(one): of for one, of in series}
    places = {_same_place(planes[id(one)], number, _first(case)) for one, number in found}
    return sorted(number for number in places if number is not None)


def _first(case: Case) -> Planes:
    """The series that the page counts slices in."""
    return next(iter(case.shown.values())).planes


def _same_place(planes: Planes, number: int, others: Planes) -> int | None:
    """The slice of `others` where a slice of `planes` lies; None where there is none."""
    there, off_mm = slice_of(others, np.array([planes.geometry.slice_origins_mm[number]]))
    return there if off_mm <= ON_SLICE_MM else None
