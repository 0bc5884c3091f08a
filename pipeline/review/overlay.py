"""Label maps to overlay on a series: masks, DICOM SEG, RTSTRUCT or LIDC found beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pipeline.core.label_map import LabelMap
from pipeline.core.refusals import Refusal, Unreadable
from pipeline.dicom.read.series import Series
from pipeline.io.image_formats import is_image_file
from pipeline.io.volume_files import NOT_HU
from pipeline.labels.discover import discover_labels
from pipeline.labels.grid import LabelGrid
from pipeline.labels.read import LabelFiles, LabelOptions, read_labels
from pipeline.review.planes import Plane, Planes
from pipeline.review.planes_geometry import Geometry


def overlays(
    refusals: list[Refusal], images: Mapping[str, Series]
) -> tuple[dict[str, tuple[Planes, dict[int, str]]], list[Refusal]]:
    """The labels of each image with the names of their values, and the remaining refusals.

    refusals: files that were found and are no CT. images: by key. Where an image has several label
    files, the first is taken.
    """
    originally = {refusal.path: refusal for refusal in refusals}
    found = discover_labels([_candidate(r) for r in refusals], dict(images), LabelOptions())
    shown: dict[str, tuple[Planes, dict[int, str]]] = {}
    remaining = [originally.get(refusal.path, refusal) for refusal in found.refusals]
    for files in found.files:
        if files.image in shown:
            continue
        try:
            shown[files.image] = _overlay(files, LabelGrid.of_series(images[files.image]))
        except Unreadable as fault:
            remaining += [fault.refusal(path) for path in files.paths]
    return shown, remaining


def _candidate(refusal: Refusal) -> Refusal:
    """An image file that is no DICOM may be a mask: mark it as one to be read."""
    return replace(refusal, reason=NOT_HU) if is_image_file(refusal.path) else refusal


def _overlay(files: LabelFiles, grid: LabelGrid) -> tuple[Planes, dict[int, str]]:
    labelmap = read_labels(files, grid, LabelOptions())

    def read(number: int) -> Plane:
        return labelmap.labels[number].astype("int16")

    geometry = Geometry(grid.shape, grid.affine_lps, grid.slice_origins_mm)
    return Planes(geometry, read, hu_step=1.0, labels=True), _names(labelmap)


def _names(labelmap: LabelMap) -> dict[int, str]:
    """The names of label values; an overlap of several structures has the names of all."""
    several = {
        value: " + ".join(labelmap.names[member] for member in members)
        for value, members in labelmap.overlaps.items()
    }
    return labelmap.names | several
