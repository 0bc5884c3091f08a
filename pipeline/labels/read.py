"""The label files of an image as one label map, on the grid of its volume."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.core.label_map import Canvas, LabelMap
from pipeline.core.refusals import Unreadable
from pipeline.core.volume import Volume
from pipeline.dicom.derived.structure_codes import has_codes
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.io.itk_reader import suffix_of
from pipeline.labels import lidc, rtstruct, seg
from pipeline.labels.files import read_mask
from pipeline.labels.grid import EXACT_MM, LabelGrid, max_distance_mm, resampled

#: Kinds of label files, by which a store knows the label maps of a series.
MASK, SEG, RTSTRUCT, LIDC = "mask", "seg", "rtstruct", "lidc"


@dataclass(frozen=True)
class LabelFiles:
    """Files of one kind that are labels of one image: `image` is its key."""

    kind: str
    image: str
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class LabelOptions:
    """A user's choices for labels.

    resample: take the nearest voxel's label on another grid. threshold: the fraction, above 0 and
    up to 1, from which a voxel of a fractional segmentation belongs to its segment; None refuses
    such objects.
    """

    resample: bool = False
    threshold: float | None = None

    @classmethod
    def of(cls, intake: IngestOptions) -> LabelOptions:
        """From the `intake` section of a run."""
        half = 0.5 if intake.fractions == "half" else None
        return cls(resample=intake.labels == "nearest", threshold=half)


def read_labels(files: LabelFiles, image: LabelGrid, choices: LabelOptions) -> LabelMap:
    """An image's labels of one kind, as one label map.

    Raises Unreadable where a file cannot be used, and where two files have a structure of one
    name.
    """
    try:
        maps = [_read(path, files.kind, image, choices) for path in files.paths]
        return maps[0] if len(maps) == 1 else _merged(maps)
    except Unreadable:
        raise
    except Exception as error:  # damaged files raise many kinds
        raise Unreadable(f"labels that cannot be read ({type(error).__name__})") from error


def on_volume(labelmap: LabelMap, own: LabelGrid, volume: Volume) -> LabelMap:
    """Labels on a source's grid `own`, on the grid of its volume, which may be resampled."""
    to = LabelGrid.of_volume(volume)
    same = own.shape == to.shape and max_distance_mm(own.corners_mm, to.corners_mm) <= EXACT_MM
    if same:
        return labelmap
    placed = resampled(labelmap.labels, own, to)
    warnings = [*labelmap.source.get("warnings", []), f"with its image {placed.warning}"]
    source = {**labelmap.source, "warnings": warnings}
    return replace(labelmap, labels=placed.values, source=source)


def _read(path: Path, kind: str, image: LabelGrid, choices: LabelOptions) -> LabelMap:
    if kind == SEG:
        return seg.read_seg(path, image, threshold=choices.threshold, resample=choices.resample)
    if kind == RTSTRUCT:
        return rtstruct.read_rtstruct(path, image, between_slices=choices.resample)
    if kind == LIDC:
        return lidc.read_lidc(path, image)
    labelmap = read_mask(path, image, resample=choices.resample)
    stem = path.name[: -len(suffix_of(path))]
    if len(labelmap.names) == 1 and has_codes(stem):
        # TotalSegmentator's data have one file for each structure, named after it.
        return replace(labelmap, names=dict.fromkeys(labelmap.names, stem))
    return labelmap


def _unnamed(labelmap: LabelMap, place: int) -> LabelMap:
    if list(labelmap.names.items()) != [(1, "label 1")]:
        return labelmap
    return replace(labelmap, names={1: f"unnamed {place}"})


def _merged(maps: list[LabelMap]) -> LabelMap:
    """Label maps of one image as one, with structures numbered in the order of their names.

    A mask whose file names no known structure is `unnamed N`: of several such files each is one of
    its own.
    """
    maps = [_unnamed(one, place) for place, one in enumerate(maps, start=1)]
    named = sorted(
        (name, place, value) for place, m in enumerate(maps) for value, name in m.names.items()
    )
    names = [name for name, _, _ in named]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise Unreadable(f"several files name a structure {twice!r}: keep one of them", "name")
    canvas = Canvas(maps[0].labels.shape, dict(enumerate(names, start=1)))
    for number, (_, place, value) in enumerate(named, start=1):
        for plane in np.flatnonzero(maps[place].mask(value).any(axis=(1, 2))):
            canvas.paint(int(plane), maps[place].mask(value, int(plane)), number)
    warnings = sorted({w for m in maps for w in m.source.get("warnings", [])})
    source = {"kind": maps[0].source["kind"], "files": len(maps)}
    return canvas.labelmap(source | ({"warnings": warnings} if warnings else {}))
