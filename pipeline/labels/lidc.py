"""LIDC-IDRI nodule outlines: the XML of four readers as a label map of their series.

Each reader outlined nodules of 3 mm and more in every slice, along the first pixels outside of
the nodule (Armato et al., Med Phys 38, 2011; XML of the LIDC message format). Smaller nodules
and other marks are single points and make no labels. Readers number nodules independently;
outlines of several readers that overlap are of one nodule.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon_perimeter

from pipeline.core.contours import Outline, fill_outlines
from pipeline.core.label_map import LabelMap
from pipeline.core.refusals import Unreadable
from pipeline.dicom.derived.provenance import keys_of
from pipeline.dicom.read.files import opened
from pipeline.dicom.read.series import Series
from pipeline.labels.grid import LabelGrid
from pipeline.labels.references import series_of
from pipeline.labels.safe_xml import MAX_BYTES, parse_xml

ROOT = "LidcReadMessage"
LIDC = "LIDC"
NODULE = "nodule"
IMAGE = "imageSOP_UID"


@dataclass(frozen=True)
class Nodule:
    """A nodule: how many readers outlined it, how many voxels exactly 1, 2, ... of them did, and
    each reader's rating of its malignancy (1 to 5), ascending."""

    readers: int
    voxels: list[int]
    malignancy: list[int]


def read_lidc(path: Path, image: LabelGrid, *, agreement: int | None = None) -> LabelMap:
    """How many readers outlined each voxel, or where at least `agreement` of them did.

    Without a level of agreement values are counts, so that a group of [2, 3, 4] is what two
    readers and more agree on; with one, the value 1 is nodule. The label map's `source` lists
    the nodules (see Nodule). Raises Unreadable for outlines of another series, and for slices
    whose place does not agree.
    """
    series = series_of(image)
    message = _message(path)
    _require_series(message, series)
    readings = list(message.iterfind("{*}readingSession"))
    marks, beyond = _marks(readings, image)
    votes = np.zeros(image.shape, np.uint8)
    nodules = [_count(cluster, votes) for cluster in _clusters(marks)]
    nodules.sort(key=lambda nodule: -sum(nodule.voxels))
    source: dict[str, Any] = {"kind": LIDC, "readers": len(readings)}
    source["nodules"] = [asdict(nodule) for nodule in nodules]
    if beyond:
        source["warnings"] = [f"{beyond} outlines left out, on slices that the series lacks"]
    if agreement is None:
        of = f"of {len(readings)} readers"
        names = {n: f"{NODULE}, {n} {of}" for n in range(1, len(readings) + 1)}
        return LabelMap(votes, names, source)
    agreed = (votes >= max(agreement, 1)).astype(np.uint8)
    return LabelMap(agreed, {1: NODULE}, {**source, "agreement": agreement})


def _message(path: Path) -> ElementTree.Element:
    with opened(path) as stream:
        message = parse_xml(stream.read(MAX_BYTES + 1))
    if message.tag.rpartition("}")[2] != ROOT:
        raise Unreadable(f"XML, but no {ROOT}")
    return message


def named_in(path: Path) -> tuple[set[str], set[str]]:
    """The UIDs of the series that a message is of, and of the images that it outlines.

    Raises Unreadable for XML that is no such message.
    """
    message = _message(path)
    images = {(uid.text or "").strip() for uid in message.iter() if uid.tag.endswith(IMAGE)}
    return {_header_uid(message, "Series")} - {""}, images


def _header_uid(message: ElementTree.Element, what: str) -> str:
    """The UID of the series or the study, whose tags end in `Uid` or `UID`."""
    for element in message.iterfind("{*}ResponseHeader/*"):
        if element.tag.casefold().endswith(f"{what}instanceuid".casefold()):
            return (element.text or "").strip()
    return ""


def _text(element: ElementTree.Element, tag: str) -> str:
    return (element.findtext(tag) or "").strip()


def _require_series(message: ElementTree.Element, series: Series) -> None:
    for what in ("Series", "Study"):
        name, uid = f"{what}InstanceUID", _header_uid(message, what)
        if uid and uid != str(series.header.get(name)):
            raise Unreadable("another one than the image's: outlines of something else", name)


@dataclass(eq=False)
class _Mark:
    """One reader's nodule: the reader's number, a mask [rows, columns] by slice, malignancy."""

    reader: int
    malignancy: int | None
    masks: dict[int, NDArray[np.bool_]] = field(default_factory=dict)

    def overlaps(self, other: _Mark) -> bool:
        """Whether the two have a voxel in common."""
        both = self.masks.keys() & other.masks.keys()
        return any((self.masks[number] & other.masks[number]).any() for number in both)


def _marks(readings: list[ElementTree.Element], image: LabelGrid) -> tuple[list[_Mark], int]:
    """Every reader's outlined nodules, and the number of outlines on slices not in the series."""
    number_of = {uid: n for n, (uid, _) in enumerate(keys_of(series_of(image)))}
    marks, outlines, beyond = [], 0, 0
    for reader, reading in enumerate(readings):
        for nodule in reading.iterfind("{*}unblindedReadNodule"):
            malignancy = _text(nodule, "{*}characteristics/{*}malignancy")
            mark = _Mark(reader, int(malignancy) if malignancy.isdigit() else None)
            # Excluded areas come after the included ones. Up to two points have no area: they
            # are nodules smaller than 3 mm.
            rois = sorted(nodule.iterfind("{*}roi"), key=lambda roi: not _is_included(roi))
            areas = [(roi, points) for roi in rois if len(points := _points(roi)) > 2]
            outlines += len(areas)
            beyond += _fill(mark, areas, number_of, image)
            if any(mask.any() for mask in mark.masks.values()):
                marks.append(mark)
    if outlines and beyond == outlines:
        raise Unreadable(f"none of {outlines} outlined images is in the series", "imageSOP_UID")
    return marks, beyond


def _fill(
    mark: _Mark,
    areas: list[tuple[ElementTree.Element, Outline]],
    number_of: dict[str, int],
    image: LabelGrid,
) -> int:
    """Add outlines to a mark; returns how many are on slices that the series lacks."""
    beyond = 0
    for roi, points in areas:
        number = number_of.get(_text(roi, "{*}imageSOP_UID"))
        if number is None:
            beyond += 1
            continue
        _require_place(roi, image, number)
        if not ((points >= 0) & (points < [image.shape[2], image.shape[1]])).all():
            raise Unreadable("an outline beyond the image", "edgeMap")
        mask = _inside(points, (image.shape[1], image.shape[2]))
        before = mark.masks.get(number, np.zeros_like(mask))
        mark.masks[number] = before | mask if _is_included(roi) else before & ~mask
    return beyond


def _is_included(roi: ElementTree.Element) -> bool:
    """Whether an outline is of the nodule, and not of an excluded area within it."""
    return _text(roi, "{*}inclusion").upper() == "TRUE"


def _points(roi: ElementTree.Element) -> Outline:
    try:
        points = [
            (float(_text(edge, "{*}xCoord")), float(_text(edge, "{*}yCoord")))
            for edge in roi.iterfind("{*}edgeMap")
        ]
    except ValueError as error:
        raise Unreadable("an outline's points are numbers", "edgeMap") from error
    return np.array(points).reshape(-1, 2)


def _require_place(roi: ElementTree.Element, image: LabelGrid, number: int) -> None:
    """Check the slice's z position: another copy of the series may have been moved."""
    try:
        z_mm = float(_text(roi, "{*}imageZposition"))
    except ValueError:
        return
    off_mm = abs(z_mm - image.slice_origins_mm[number, 2])
    if off_mm > image.tolerance_mm:
        raise Unreadable(f"a slice {off_mm:.1f} mm from where it was read", "imageZposition")


def _inside(points: Outline, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels within an outline, without those of the outline itself."""
    mask = fill_outlines([points], shape)
    rows, columns = points[:, 1].astype(int), points[:, 0].astype(int)
    rim = polygon_perimeter(rows, columns, shape, clip=True)
    mask[rim] = False
    return mask


def _clusters(marks: list[_Mark]) -> list[list[_Mark]]:
    """Marks of one nodule together: those that overlap, directly or through another one."""
    clusters: list[list[_Mark]] = []
    for mark in marks:
        same = [cluster for cluster in clusters if any(mark.overlaps(other) for other in cluster)]
        clusters = [cluster for cluster in clusters if cluster not in same]
        clusters.append([mark, *(other for cluster in same for other in cluster)])
    return clusters


def _count(cluster: list[_Mark], votes: NDArray[np.uint8]) -> Nodule:
    """Add a nodule's readers to the votes [slices, rows, columns], in place."""
    readers = {mark.reader for mark in cluster}
    voxels = np.zeros(len(readers) + 1, int)
    for number in {number for mark in cluster for number in mark.masks}:
        own = np.zeros(votes.shape[1:], np.uint8)
        for reader in readers:
            masks = [m.masks[number] for m in cluster if m.reader == reader and number in m.masks]
            own += np.logical_or.reduce(masks) if masks else np.uint8(0)
        votes[number] += own
        voxels += np.bincount(own.ravel(), minlength=len(voxels))
    rated = sorted(mark.malignancy for mark in cluster if mark.malignancy is not None)
    return Nodule(len(readers), voxels[1:].tolist(), rated)
