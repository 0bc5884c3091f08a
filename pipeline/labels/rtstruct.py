"""RT Structure Sets onto the series that they were drawn on (PS3.3 A.19, C.8.8.5, C.8.8.6).

Contours are closed and planar, in patient coordinates; those of one structure in one slice
combine by exclusive or, keyholes included (see pipeline.core.contours).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from pipeline.core.contours import Outline, fill_outlines, partly_overlap
from pipeline.core.label_map import Canvas, LabelMap
from pipeline.core.refusals import Unreadable
from pipeline.dicom.derived.provenance import ImageKey, key_of, keys_of
from pipeline.dicom.derived.structure_objects import contour_points, frames_of_reference
from pipeline.labels.grid import SAME_PLACE_SHARE, LabelGrid
from pipeline.labels.references import (
    count_missing_images,
    distinct_names,
    read_object,
    require_same_study,
    series_of,
)

RTSTRUCT = "RTSTRUCT"
AREAS = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


def read_rtstruct(path: Path, image: LabelGrid, *, between_slices: bool = False) -> LabelMap:
    """The structures of a structure set on the grid of its series.

    between_slices: move a contour that lies on no slice to the nearest one. Values are ROI
    numbers where these are small, else counted from 1; overlapping structures are kept as
    overlaps. Points and open contours are left out with a warning. Raises Unreadable where study,
    frame of reference, images or places are not the series'.
    """
    dataset = read_object(path)
    series = series_of(image)
    require_same_study(dataset, series)
    structures = _structures(dataset)
    images = [key for structure in structures for key in structure.images]
    missing = count_missing_images(images, series, "ContourImageSequence")
    _require_frame(dataset, image)
    canvas = Canvas(image.shape, {s.value: s.name for s in structures})
    warnings: list[str] = []
    for structure in structures:
        warnings += _paint(canvas, structure, image, between_slices=between_slices)
    labelmap = canvas.labelmap({"kind": RTSTRUCT})
    if not labelmap.labels.any():
        raise Unreadable("no contour lies within the image", "ContourData")
    if labelmap.overlaps:
        warnings.append("structures overlap")
    if missing:
        warnings.append(f"drawn on {missing} more images than the series has")
    if warnings:
        labelmap.source["warnings"] = warnings
    return labelmap


@dataclass(frozen=True)
class _Contour:
    """points_mm [points, 3], and the image that it was drawn on, None where it has none."""

    points_mm: Outline
    image: ImageKey | None


@dataclass
class _Structure:
    """One ROI: its value in the label map, its areas, and how many contours are no areas."""

    value: int
    name: str
    contours: list[_Contour] = field(default_factory=list)
    others: int = 0

    @property
    def images(self) -> list[ImageKey]:
        """The images that its contours were drawn on."""
        return [contour.image for contour in self.contours if contour.image]


def _structures(dataset: Dataset) -> list[_Structure]:
    """Each ROI with its areas; raises Unreadable where there is none."""
    rois = list(dataset.get("StructureSetROISequence") or ())
    numbers = [int(roi.get("ROINumber") or 0) for roi in rois]
    names = distinct_names([str(roi.get("ROIName") or "") for roi in rois], dataset)
    kept = min(numbers, default=0) > 0 and max(numbers) < 256 and len(set(numbers)) == len(rois)
    values = numbers if kept else range(1, len(rois) + 1)
    found = {
        number: _Structure(value, name)
        for number, value, name in zip(numbers, values, names, strict=True)
    }
    for item in dataset.get("ROIContourSequence") or ():
        structure = found.get(int(item.get("ReferencedROINumber") or 0))
        for contour in item.get("ContourSequence") or ():
            if structure is None:
                raise Unreadable("contours of no described structure", "ReferencedROINumber")
            _add(structure, contour)
    if not any(structure.contours for structure in found.values()):
        raise Unreadable("no closed contour", "ROIContourSequence")
    return list(found.values())


def _add(structure: _Structure, contour: Dataset) -> None:
    try:
        points = contour_points(contour)
    except ValueError as error:
        raise Unreadable("contour points are three numbers each", "ContourData") from error
    if not np.isfinite(points).all():
        raise Unreadable("contour points are finite numbers", "ContourData")
    if contour.get("ContourGeometricType") not in AREAS or len(points) < 3:
        structure.others += 1
        return
    references = list(contour.get("ContourImageSequence") or ())
    image = key_of(references[0]) if len(references) == 1 else None
    structure.contours.append(_Contour(points, image))


def _require_frame(dataset: Dataset, image: LabelGrid) -> None:
    """Check the frame of reference of each ROI's points, which need not be the object's."""
    own = frames_of_reference(series_of(image))
    for roi in dataset.get("StructureSetROISequence") or ():
        uid = str(roi.get("ReferencedFrameOfReferenceUID") or "")
        if own and uid and uid not in own:
            reason = "another one than the image's: contours in other coordinates"
            raise Unreadable(reason, "ReferencedFrameOfReferenceUID")


def _paint(
    canvas: Canvas, structure: _Structure, image: LabelGrid, *, between_slices: bool
) -> list[str]:
    """Fill a structure's contours slice by slice; returns warnings."""
    by_slice: dict[int, list[Outline]] = defaultdict(list)
    number_of = {key: number for number, key in enumerate(keys_of(series_of(image)))}
    tolerance_mm = SAME_PLACE_SHARE * image.spacing_mm[0]
    beyond, moved = 0, 0
    for contour in structure.contours:
        number, off_mm = _slice_of(contour, image, number_of)
        if number is None:
            beyond += 1
            continue
        if off_mm > tolerance_mm and not between_slices:
            reason = f"a contour {off_mm:.1f} mm off its slice, or off the nearest one"
            raise Unreadable(f"{reason}; choose the nearest slice if that is right", "ContourData")
        moved += off_mm > tolerance_mm
        by_slice[number].append(_outline(contour, image, number))
    shape = (image.shape[1], image.shape[2])
    intersecting = sum(partly_overlap(outlines, shape) for outlines in by_slice.values())
    cut = sum(_reaches_beyond(o, shape) for outlines in by_slice.values() for o in outlines)
    for number, outlines in by_slice.items():
        canvas.paint(number, fill_outlines(outlines, shape), structure.value)
    counts = {
        "points or open contours left out": structure.others,
        "contours left out, on slices that the series lacks": beyond,
        "contours cut off at the rim of the image": cut,
        "contours moved to the nearest slice": moved,
        "slices with contours that cross each other": intersecting,
    }
    return [f"{structure.name}: {number} {what}" for what, number in counts.items() if number]


def _slice_of(
    contour: _Contour, image: LabelGrid, number_of: dict[ImageKey, int]
) -> tuple[int | None, float]:
    """A contour's slice, None beyond the series, and its points' largest distance from it in mm."""
    numbers, _, _ = image.in_slices(contour.points_mm)
    number = int(np.bincount(numbers).argmax())
    if contour.image is not None:
        if contour.image not in number_of:
            return None, 0.0
        number = number_of[contour.image]
    heights_mm = (contour.points_mm - image.slice_origins_mm[number]) @ image.normal
    off_mm = float(np.abs(heights_mm).max())
    at_end = number in (0, image.shape[0] - 1)
    if contour.image is None and at_end and off_mm > image.spacing_mm[0] / 2:
        return None, off_mm
    return number, off_mm


def _reaches_beyond(outline: Outline, shape: tuple[int, int]) -> bool:
    rows, columns = shape
    return bool((outline < -1).any() or (outline > [columns, rows]).any())


def _outline(contour: _Contour, image: LabelGrid, number: int) -> Outline:
    within = np.linalg.pinv(image.affine_lps[:3, :2])
    return (contour.points_mm - image.slice_origins_mm[number]) @ within.T
