"""Measurements on the page: figures from the images themselves, saved as DICOM SR and read again.

The page draws marks in the patient's millimetres; a mark belongs to the slice that it was drawn on.
Each save is another file: nothing is overwritten.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from pydicom.uid import generate_uid

from pipeline.core.errors import ConfigError
from pipeline.core.refusals import Unreadable
from pipeline.core.types import Json
from pipeline.dicom.derived.mark_report import (
    ANGLE,
    DISTANCE,
    REGION,
    Figure,
    Measured,
    angle_figure,
    length_figure,
    read_report,
    region_figures,
    write_report,
)
from pipeline.review.access.roles import ReaderName
from pipeline.review.planes import Planes
from pipeline.review.planes_geometry import SLICES
from pipeline.review.saved_objects import last_file, next_file, series_of
from pipeline.review.worklist import Case

MEASUREMENTS, PREFIX = "measurements", "SR"
MAX_MARKS = 200
#: A mark lies on the slice that is no farther from it than this, mm.
ON_SLICE_MM = 0.05

#: A pixel's centre on the edge of a region counts, whatever its last digit says.
ON_EDGE = 1 + 1e-9

Point = tuple[float, float, float]


class Mark(BaseModel):
    """One mark as the page draws it, in LPS mm.

    points: of a region the centre and the ends of both half axes of its ellipse; of a distance its
    ends; of an angle its apex second.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["region", "distance", "angle"]
    points: list[Point] = Field(min_length=2, max_length=3)


class Marks(BaseModel):
    """All marks of a case, as a reader saves them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reader: ReaderName
    marks: list[Mark] = Field(min_length=1, max_length=MAX_MARKS)


def save(root: Path, case: Case, body: Json) -> Path:
    """Write a report of the marks on the original and the denoised series; returns its file.

    Raises ConfigError for marks on no slice of either, and for a case that is not of files.
    """
    sent = Marks(**body)
    measured = [
        (series, each)
        for series, planes in series_of(case)
        for each in _measured_on(planes, sent.marks)
    ]
    if not measured:
        raise ConfigError("no mark lies on a slice of a DICOM series: nothing to save")
    with next_file(root, MEASUREMENTS, case, PREFIX) as (path, partial):
        write_report(measured, partial, observer=sent.reader)
    return path


def saved(root: Path, case: Case) -> list[Mark]:
    """The marks of the last report of a case; [] without one.

    Raises ConfigError for a file that cannot be read.
    """
    path = last_file(root, MEASUREMENTS, case, PREFIX)
    if path is None:
        return []
    series = series_of(case)
    try:
        found = read_report(path, [one for one, _ in series])
    except Unreadable as fault:
        raise ConfigError(f"{path}: {fault.reason}") from fault
    planes = {id(one): of for one, of in series}
    marks: dict[str, Mark] = {}
    for one, each in found:
        marks.setdefault(each.tracking[0], _mark(each, planes[id(one)]))
    return list(marks.values())


def _measured_on(planes: Planes, marks: list[Mark]) -> list[Measured]:
    """Those of the marks that lie on a slice of the series, measured there."""
    found = []
    for count, mark in enumerate(marks, start=1):
        points = np.array(mark.points)
        number, off_mm = slice_of(planes, points)
        if off_mm > ON_SLICE_MM:
            continue
        # The same on all series: by what was drawn, not by chance.
        uid = generate_uid(entropy_srcs=[mark.model_dump_json(), str(count)])
        pixels = _pixels(planes, number, points)
        found.append(
            Measured(
                tracking=(uid, f"{mark.kind} {count}"),
                kind=mark.kind,
                number=number,
                points=_ends(pixels) if mark.kind == REGION else pixels,
                figures=_figures(planes, number, mark.kind, points),
            )
        )
    return found


def slice_of(planes: Planes, points: NDArray[np.float64]) -> tuple[int, float]:
    """The slice nearest to the points, and how far any of them is off it, mm."""
    geometry = planes.geometry
    normal = geometry.axes[2]
    off = np.abs((points[:, None] - geometry.slice_origins_mm) @ normal).max(axis=0)
    number = int(off.argmin())
    return number, float(off[number])


def _pixels(planes: Planes, number: int, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """[points, 2] column and row, counted from pixels' centres."""
    stack = planes.geometry.planes(SLICES)
    from_first = points - stack.origins_mm[number]
    row_mm, column_mm = stack.spacing_mm
    columns, rows = from_first @ stack.row_axis, from_first @ stack.column_axis
    return np.stack([columns / column_mm, rows / row_mm], axis=1)


def _ends(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Both ends of both axes of an ellipse, of its centre and one end of each."""
    centre, *ends = points
    return np.array([each for end in ends for each in (2 * centre - end, end)])


def _mark(measured: Measured, planes: Planes) -> Mark:
    """The mark of a shape on a slice."""
    stack = planes.geometry.planes(SLICES)
    row_mm, column_mm = stack.spacing_mm
    pixels = measured.points
    if measured.kind == REGION:
        pixels = np.array([pixels.mean(axis=0), pixels[1], pixels[3]])
    points = (
        stack.origins_mm[measured.number]
        + pixels[:, :1] * column_mm * stack.row_axis
        + pixels[:, 1:] * row_mm * stack.column_axis
    )
    return Mark.model_validate({"kind": measured.kind, "points": points.round(4).tolist()})


def _figures(
    planes: Planes, number: int, kind: str, points: NDArray[np.float64]
) -> tuple[Figure, ...]:
    if kind == DISTANCE:
        return length_figure(float(np.linalg.norm(points[1] - points[0])))
    if kind == ANGLE:
        return angle_figure(_angle_degrees(points))
    return _region(planes, number, points)


def _angle_degrees(points: NDArray[np.float64]) -> float:
    one, other = points[0] - points[1], points[2] - points[1]
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(one, other)), one @ other)))


def _region(planes: Planes, number: int, points: NDArray[np.float64]) -> tuple[Figure, ...]:
    """Of the pixels whose centres lie in the ellipse and were measured; its area is the shape's
    own. Raises ConfigError where there is none."""
    image_hu, measured = planes.slice_hu(number)
    stack = planes.geometry.planes(SLICES)
    row_mm, column_mm = stack.spacing_mm
    rows, columns = np.indices(image_hu.shape)
    places = np.stack([columns * column_mm, rows * row_mm], axis=-1)
    axes = np.stack([stack.row_axis, stack.column_axis], axis=1)
    centre, *ends = (points - stack.origins_mm[number]) @ axes
    half = np.array(ends) - centre
    lengths = np.linalg.norm(half, axis=1)
    along = (places - centre) @ (half / lengths[:, None] ** 2).T
    values = image_hu[(np.hypot(along[..., 0], along[..., 1]) <= ON_EDGE) & measured].astype(float)
    if not values.size:
        raise ConfigError("a region holds no measured pixel: remove it, or draw it larger")
    return region_figures(
        float(values.mean()),
        float(values.std()),
        (float(values.min()), float(values.max())),
        float(np.pi * lengths[0] * lengths[1]),
    )
