"""DICOM Segmentation objects onto the series that they segment (PS3.3 A.51, A.87, C.8.20.2).

Each frame has a position and a reference to its image; both must agree with the series.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import iter_pixels

from pipeline.core.label_map import Canvas, LabelMap
from pipeline.core.refusals import Unreadable
from pipeline.dicom.derived.provenance import ImageKey, key_of, keys_of
from pipeline.labels.grid import LabelGrid, max_distance_mm, reoriented_like, resampled
from pipeline.labels.references import (
    count_missing_images,
    distinct_names,
    read_object,
    require_same_study,
    series_of,
)

SEG = "DICOM SEG"


def read_seg(
    path: Path, image: LabelGrid, *, threshold: float | None = None, resample: bool = False
) -> LabelMap:
    """The segments of a SEG object on the grid of its series.

    threshold: the fraction, above 0 and up to 1, from which a voxel of a FRACTIONAL object
    belongs to its segment; without one such an object is refused. resample: frames on another
    grid are resampled, not refused. Values are segment numbers; overlapping segments are kept as
    overlaps. Raises Unreadable where study, frame of reference, images or places are not the
    series', and ValueError for another threshold.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise ValueError(f"a fraction lies above 0 and at most at 1, got {threshold}")
    dataset = read_object(path)
    series = series_of(image)
    require_same_study(dataset, series)
    frames = _Frames.of(dataset, threshold)
    named = frames.layout()
    missing = count_missing_images(
        [k for f in named for k in f.sources], series, "SourceImageSequence"
    )
    images = keys_of(series).keys()
    layout = [f for f in named if not f.sources or not images.isdisjoint(f.sources)]
    canvas = Canvas(image.shape, frames.names)
    warnings = _paint(canvas, layout, frames, image, resample=resample)
    labelmap = canvas.labelmap({"kind": SEG, "type": frames.kind})
    if labelmap.overlaps:
        warnings.append("segments overlap")
    if missing:
        warnings.append(f"of {missing} more images, which the series lacks")
    if warnings:
        labelmap.source["warnings"] = warnings
    return labelmap


def _segment_names(dataset: Dataset) -> dict[int, str]:
    segments = [s for s in dataset.get("SegmentSequence") or () if s.get("SegmentNumber")]
    if not segments:
        raise Unreadable("no segments", "SegmentSequence")
    labels = distinct_names([str(s.get("SegmentLabel") or "") for s in segments], dataset)
    numbers = [int(segment.SegmentNumber) for segment in segments]
    if len(set(numbers)) < len(numbers):
        raise Unreadable("two segments share a number", "SegmentNumber")
    return dict(zip(numbers, labels, strict=True))


@dataclass(frozen=True)
class _Frame:
    """One frame: its plane as a grid of one slice, and its source images.

    segment: its number; 0 where the pixels' values are segment numbers (LABELMAP).
    """

    number: int
    plane: LabelGrid
    sources: list[ImageKey]
    segment: int
    thickness_mm: float


class _Frames:
    """The frames of a SEG object, decoded one by one."""

    def __init__(self, dataset: Dataset, kind: str, level: float) -> None:
        self.kind = kind
        self.names = _segment_names(dataset)
        self._dataset = dataset
        self._level = level

    @classmethod
    def of(cls, dataset: Dataset, threshold: float | None) -> _Frames:
        """Raises Unreadable for an unknown SegmentationType, and for fractions without a
        threshold or a maximum."""
        kind = str(dataset.get("SegmentationType") or "")
        if kind in ("BINARY", "LABELMAP"):
            return cls(dataset, kind, 1)
        if kind != "FRACTIONAL":
            raise Unreadable("expected BINARY, FRACTIONAL or LABELMAP", "SegmentationType", kind)
        whole = dataset.get("MaximumFractionalValue")
        if not whole:
            raise Unreadable("fractions without their maximum", "MaximumFractionalValue", whole)
        if threshold is None:
            reason = "fractions, not labels: choose from which one a voxel belongs to its segment"
            raise Unreadable(reason, "SegmentationType", kind)
        return cls(dataset, kind, threshold * float(whole))

    def layout(self) -> list[_Frame]:
        """Each frame's place and segment; raises Unreadable for a frame without a place."""
        try:
            return [self._frame(number) for number in range(int(self._dataset.NumberOfFrames))]
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise Unreadable("a frame without its place", "PlanePositionSequence") from error

    def _frame(self, number: int) -> _Frame:
        own = self._dataset.PerFrameFunctionalGroupsSequence[number]
        shared = (self._dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]

        def group(name: str) -> Any:
            """The item of a functional group, the frame's own or the shared one."""
            return (own.get(name) or shared.get(name) or [Dataset()])[0]

        cosines = np.array(group("PlaneOrientationSequence").ImageOrientationPatient, float)
        measures = group("PixelMeasuresSequence")
        spacing_mm = np.array(measures.PixelSpacing, float)
        between = measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") or 1
        affine = np.eye(4)
        affine[:3, 0], affine[:3, 1] = cosines[:3] * spacing_mm[1], cosines[3:] * spacing_mm[0]
        affine[:3, 2] = np.cross(cosines[:3], cosines[3:])
        affine[:3, 3] = group("PlanePositionSequence").ImagePositionPatient
        if not np.isfinite(affine).all():
            raise ValueError("not a place")
        derivation = group("DerivationImageSequence")
        sources = [key_of(item) for item in derivation.get("SourceImageSequence") or ()]
        identification = group("SegmentIdentificationSequence")
        segment = 0 if self.kind == "LABELMAP" else int(identification.ReferencedSegmentNumber)
        shape = (1, int(self._dataset.Rows), int(self._dataset.Columns))
        if segment and segment not in self.names:
            raise Unreadable("a frame of no described segment", "ReferencedSegmentNumber", segment)
        return _Frame(number, LabelGrid.even(shape, affine), sources, segment, float(between))

    def pixels(self) -> Iterator[NDArray]:
        """Each frame's pixels [rows, columns]: segment numbers, or the mask of its segment.

        Raises Unreadable for damaged pixels, and for values of no described segment.
        """
        try:
            for pixels in iter_pixels(self._dataset, raw=True):
                if self.kind == "LABELMAP" and set(np.unique(pixels)) - {0, *self.names}:
                    raise Unreadable("pixels of no described segment", "SegmentNumber")
                yield pixels if self.kind == "LABELMAP" else pixels >= self._level
        except Unreadable:
            raise
        except Exception as error:  # decoders raise many kinds on damaged streams
            raise Unreadable("pixels that cannot be decoded", "PixelData") from error


def _paint(
    canvas: Canvas, layout: list[_Frame], frames: _Frames, image: LabelGrid, *, resample: bool
) -> list[str]:
    """Paint each frame on the slice where it lies; returns warnings."""
    mismatch = _mismatch(layout, image)
    if mismatch and resample:
        return _paint_resampled(canvas, layout, frames, image)
    if mismatch:
        raise Unreadable(f"{mismatch}; resample them if that is right", "ImagePositionPatient")
    of_number = {frame.number: frame for frame in layout}
    for at, pixels in enumerate(frames.pixels()):
        if (frame := of_number.get(at)) is None:
            continue
        turned, plane = reoriented_like(pixels[None], frame.plane, image)
        number, _ = _nearest(plane, image)
        _paint_plane(canvas, number, turned[0], frame.segment)
    return []


def _paint_resampled(
    canvas: Canvas, layout: list[_Frame], frames: _Frames, image: LabelGrid
) -> list[str]:
    """Paint the frames of each segment as a stack, without interpolation between its slices."""
    decoded = list(frames.pixels())
    warnings: set[str] = set()
    for segment in sorted({frame.segment for frame in layout}):
        stack = [frame for frame in layout if frame.segment == segment]
        normal = stack[0].plane.normal
        stack.sort(key=lambda frame: float(frame.plane.slice_origins_mm[0] @ normal))
        origins = np.concatenate([frame.plane.slice_origins_mm for frame in stack])
        affine = stack[0].plane.affine_lps.copy()
        affine[:3, 2] = normal * stack[0].thickness_mm
        if any(max_distance_mm(f.plane.affine_lps[:3, :2], affine[:3, :2]) > 1e-4 for f in stack):
            raise Unreadable("frames that lie unlike each other", "ImageOrientationPatient")
        values = np.stack([decoded[frame.number] for frame in stack])
        own = LabelGrid((len(stack), *values.shape[1:]), affine, origins)
        placed = resampled(values, own, image)
        warnings.add(placed.warning)
        for number, pixels in enumerate(placed.values):
            _paint_plane(canvas, number, pixels, segment)
    return sorted(warnings)


def _paint_plane(canvas: Canvas, number: int, pixels: NDArray, segment: int) -> None:
    if segment:
        canvas.paint(number, pixels.astype(bool), segment)
        return
    for value in np.unique(pixels[pixels > 0]):
        canvas.paint(number, pixels == value, int(value))


def _mismatch(layout: list[_Frame], image: LabelGrid) -> str:
    """How the frames differ from the image's slices, in words; "" where each lies on the slice
    that it references, or else on the nearest one."""
    worst_mm = 0.0
    number_of = {key: number for number, key in enumerate(keys_of(series_of(image)))}
    for frame in layout:
        _, plane = reoriented_like(np.empty(frame.plane.shape, bool), frame.plane, image)
        if plane.shape[1:] != image.shape[1:]:
            return f"frames of {plane.describe()}, where the image has {image.describe()}"
        named = [number_of[key] for key in frame.sources if key in number_of]
        if len(named) == 1:
            off_mm = max_distance_mm(plane.corners_mm, image.corners_mm[named])
        else:
            _, off_mm = _nearest(plane, image)
        worst_mm = max(worst_mm, off_mm)
    off = worst_mm > image.tolerance_mm
    return f"frames {worst_mm:.1f} mm off the slices of the series" if off else ""


def _nearest(plane: LabelGrid, image: LabelGrid) -> tuple[int, float]:
    """The slice whose corners are nearest to a plane's, and their largest distance in mm."""
    distances_mm = np.linalg.norm(image.corners_mm - plane.corners_mm, axis=2).max(axis=1)
    return int(distances_mm.argmin()), float(distances_mm.min())
