"""Find which of a source's files are labels, and of which image: by DICOM references, or by grid.

Candidates are the files that were refused as images. One that fits an image is no longer
refused; for one that fits none, or several, the refusal says why.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.core.refusals import Disposition, Refusal, Unreadable
from pipeline.dicom.derived.provenance import (
    SEGMENTATIONS,
    STRUCTURES,
    keys_of,
    structures_of,
)
from pipeline.dicom.read.series import Series
from pipeline.io.discover import Source
from pipeline.io.image_formats import is_image_file
from pipeline.io.volume_files import NOT_HU, read_grid, read_stored
from pipeline.labels import lidc
from pipeline.labels.files import labels_of
from pipeline.labels.grid import LabelGrid, gap_mm, max_distance_mm, mismatch, reoriented_like
from pipeline.labels.read import LIDC, MASK, RTSTRUCT, SEG, LabelFiles, LabelOptions
from pipeline.labels.references import read_object

NO_SUCH_IMAGES = "labels of images that are not here"


@dataclass(frozen=True)
class DiscoveredLabels:
    """Label files with the key of their image, and the refusals of all other files."""

    files: list[LabelFiles]
    refusals: list[Refusal]


def discover_labels(
    refusals: list[Refusal], images: Mapping[str, Source], choices: LabelOptions
) -> DiscoveredLabels:
    """The label files among refused files, each with its image. images: sources by their keys.

    DICOM SEG, RTSTRUCT and LIDC outlines refer to their images; masks lie on the grid of exactly
    one image, or, with choices.resample, overlap exactly one.
    """
    if not any(map(_kind, refusals)):
        return DiscoveredLabels([], refusals)
    grids = {key: grid_of(source) for key, source in images.items()}
    found: dict[tuple[str, str], list[Path]] = defaultdict(list)
    rest: list[Refusal] = []
    for refusal in refusals:
        kind = _kind(refusal)
        keys, left = _match(refusal, kind, grids, choices) if kind else ([], refusal)
        rest += [left] if left else []
        for key in keys:
            found[kind, key].append(refusal.path)
    files = [LabelFiles(kind, key, tuple(paths)) for (kind, key), paths in found.items()]
    return DiscoveredLabels(files, rest)


def grid_of(source: Source) -> LabelGrid:
    """The grid of a series or an image file, by headers alone; raises Unreadable for a damaged
    file."""
    if isinstance(source, Series):
        return LabelGrid.of_series(source)
    return LabelGrid.even(*read_grid(source))


def _kind(refusal: Refusal) -> str:
    """What kind of labels a refused file may be, "" for none."""
    if refusal.attribute == "SOPClassUID":
        is_seg = refusal.value in SEGMENTATIONS
        return SEG if is_seg else RTSTRUCT if refusal.value in STRUCTURES else ""
    if refusal.path.suffix.lower() == ".xml" and refusal.disposition is Disposition.EXCLUDED:
        return LIDC
    return MASK if is_image_file(refusal.path) and refusal.reason.endswith(NOT_HU) else ""


def _match(
    refusal: Refusal, kind: str, grids: Mapping[str, LabelGrid], choices: LabelOptions
) -> tuple[list[str], Refusal | None]:
    """Keys of the images that a file labels, or why it is refused."""
    try:
        keys = _images_of(refusal.path, kind, grids, choices)
    except Unreadable as fault:
        return [], fault.refusal(refusal.path)
    except Exception as error:  # damaged files raise many kinds
        damage = Unreadable(f"labels that cannot be read ({type(error).__name__})")
        return [], damage.refusal(refusal.path)
    if keys is None:
        return [], refusal
    if not keys:
        attribute = "ReferencedSOPInstanceUID"
        return [], replace(refusal, reason=NO_SUCH_IMAGES, attribute=attribute, value="")
    return keys, None


def _images_of(
    path: Path, kind: str, grids: Mapping[str, LabelGrid], choices: LabelOptions
) -> list[str] | None:
    """Keys of the images that a file labels; None for a file that holds no labels.

    Raises Unreadable for damaged labels, and for a mask that fits no image or several.
    """
    if kind == MASK:
        return _images_by_grid(path, grids, choices)
    if kind == LIDC:
        try:
            series, named = lidc.named_in(path)
        except Unreadable:  # some other XML
            return None
    else:
        series, named = structures_of(read_object(path, stop_before_pixels=True))
    return [key for key, grid in grids.items() if _has(grid, series, named)]


def _has(grid: LabelGrid, series: set[str], named: set[str]) -> bool:
    if grid.series is None:
        return False
    if named:
        return any(uid in named for uid, _ in keys_of(grid.series))
    return str(grid.series.header.SeriesInstanceUID) in series


def _images_by_grid(
    path: Path, grids: Mapping[str, LabelGrid], choices: LabelOptions
) -> list[str] | None:
    try:
        labels_of(read_stored(path).values)
    except Unreadable:  # an image of grey values: refused as one
        return None
    own = LabelGrid.even(*read_grid(path))
    keys = [key for key, grid in grids.items() if _same(own, grid)]
    if not keys and choices.resample:
        keys = [key for key, grid in grids.items() if gap_mm(own, grid) == 0]
    if len(keys) > 1:
        fitting = f"labels that fit {len(keys)} images, {' and '.join(sorted(keys))}"
        raise Unreadable(f"{fitting}: ingest each image with its own labels", "affine")
    if not keys:
        raise Unreadable(f"labels on the grid of no image here; {_nearest(own, grids)}", "affine")
    return keys


def _turned(own: LabelGrid, image: LabelGrid) -> LabelGrid:
    return reoriented_like(np.broadcast_to(np.uint8(0), own.shape), own, image)[1]


def _same(own: LabelGrid, image: LabelGrid) -> bool:
    turned = _turned(own, image)
    if turned.shape != image.shape:
        return False
    return max_distance_mm(turned.corners_mm, image.corners_mm) <= image.tolerance_mm


def _nearest(own: LabelGrid, grids: Mapping[str, LabelGrid]) -> str:
    """How labels differ from the image whose grid is nearest, in words."""
    turned = {key: _turned(own, grid) for key, grid in grids.items()}

    def misfit(key: str) -> tuple[bool, float]:
        """Whether the shapes differ, then the distance of the corners."""
        first, last = turned[key].corners_mm[[0, -1]], grids[key].corners_mm[[0, -1]]
        return turned[key].shape != grids[key].shape, max_distance_mm(first, last)

    best = min(grids, key=misfit)
    return f"of {best}, {mismatch(turned[best], grids[best])}"
