"""Slices of one group that must not be stacked, as several volumes with names; copies left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from pipeline.core.refusals import Disposition, Refusal, Unreadable
from pipeline.dicom.read.grouping import Part
from pipeline.dicom.read.header_tags import SPLITTING_KEYWORDS
from pipeline.dicom.read.headers import Instance
from pipeline.dicom.read.phases import (
    PHASE_KEYWORDS,
    PlacedSlices,
    differing_attributes,
    phases_of,
    split_by,
)
from pipeline.dicom.read.pixels import try_slice
from pipeline.dicom.read.slice_requirements import FOR_TRAINING
from pipeline.dicom.read.spacing import POSITION_TOLERANCE_MM, is_even
from pipeline.dicom.read.stored_pixels import StoredPixels

#: A part of fewer slices is one table position of a step-and-shoot scan, not a volume.
MIN_PART_SLICES = 3
SHARED_UID = (
    "slices at different places share a UID, which names one object (PS3.5 9): give each its own, "
    f"or {FOR_TRAINING}"
)
#: Slices of two of these are of two times, wherever they lie.
TEMPORAL_KEYWORDS = (
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "NominalPercentageOfCardiacPhase",
)


def parts_of(ordered: Sequence[Instance]) -> list[Part]:
    """One part, or several where slices share places or acquisitions do not fit one grid.

    ordered: along their normal, those at one place by UID.
    """
    whole = [Part(tuple(ordered))]
    placed = _placed(ordered)
    if placed.places[-1] + 1 < len(ordered):
        return phases_of(placed) or _parts_with_copies(placed) or whole
    if len(ordered) < 2 * MIN_PART_SLICES:
        return whole
    if is_even(ordered):
        return _interleaved(placed, TEMPORAL_KEYWORDS) or whole
    parts = split_by(placed, ("AcquisitionNumber",))
    if parts and _are_even(parts):
        return parts
    return (
        _interleaved(placed, SPLITTING_KEYWORDS)
        or _interleaved(placed.with_whole_headers(), PHASE_KEYWORDS)
        or whole
    )


def _parts_with_copies(placed: PlacedSlices) -> list[Part] | None:
    """As parts_of, where the same objects are there more than once: by one of each."""
    copies: dict[tuple[int, str], list[Instance]] = defaultdict(list)
    for place, instance in zip(placed.places, placed.instances, strict=True):
        copies[place, instance.header.SOPInstanceUID].append(instance)
    one_of_each = {id(same[0]): same for same in copies.values()}
    if len(copies) == len(placed.instances):
        return None
    return [
        replace(part, instances=tuple(i for one in part.instances for i in one_of_each[id(one)]))
        for part in parts_of([same[0] for same in copies.values()])
    ]


def _placed(ordered: Sequence[Instance]) -> PlacedSlices:
    places = [0]
    for first, second in pairwise(ordered):
        places.append(places[-1] + (not _share_a_place(first, second)))
    smallest = min(MIN_PART_SLICES, len(ordered) // 2)
    return PlacedSlices(ordered, places, [i.header for i in ordered], smallest)


def _share_a_place(first: Instance, second: Instance) -> bool:
    return second.position_mm - first.position_mm < POSITION_TOLERANCE_MM


def _interleaved(placed: PlacedSlices, names: Sequence[str]) -> list[Part] | None:
    """Even volumes that lie in each other, by the first attribute that distinguishes them."""
    for name in names:
        parts = split_by(placed, (name,))
        if parts and _overlap(parts) and _are_even(parts):
            return parts
    return None


def _are_even(parts: Sequence[Part]) -> bool:
    return all(is_even(part.instances) for part in parts)


def _overlap(parts: Sequence[Part]) -> bool:
    """Whether each volume begins before the one that begins before it ends."""
    ends = sorted((p.instances[0].position_mm, p.instances[-1].position_mm) for p in parts)
    return all(other[0] < one[1] for one, other in pairwise(ends))


def without_copies(
    ordered: Sequence[Instance],
) -> tuple[tuple[Instance, ...], list[Refusal]]:
    """One slice at each place, the first by UID, where slices that share it have equal pixels.

    Also returns a Refusal for each slice left out: a copy, or one that cannot be decoded beside
    one that can. Raises Unreadable where pixels at one place differ, or slices at different
    places share a UID.
    """
    kept: list[Instance] = []
    left_out: list[Refusal] = []
    for place in _by_place(ordered):
        sound, refusals = _one_at_a_place(place) if len(place) > 1 else (place[0], [])
        kept.append(sound)
        left_out += refusals
    if len({instance.header.SOPInstanceUID for instance in kept}) < len(kept):
        raise Unreadable(SHARED_UID, "SOPInstanceUID")
    return tuple(kept), left_out


def _by_place(ordered: Sequence[Instance]) -> Iterator[list[Instance]]:
    place: list[Instance] = []
    for instance in ordered:
        if place and not _share_a_place(place[0], instance):
            yield place
            place = []
        place.append(instance)
    if place:
        yield place


def _one_at_a_place(place: Sequence[Instance]) -> tuple[Instance, list[Refusal]]:
    """The slice to use of those that share a place, and why each of the others is left out."""
    read = [(instance, try_slice(instance)) for instance in place]
    sound = [(instance, pixels) for instance, pixels in read if isinstance(pixels, StoredPixels)]
    if not sound:  # reading the volume says what is wrong with the one that is kept
        return place[0], [found for _, found in read[1:] if isinstance(found, Refusal)]
    first, pixels = sound[0]
    for other, other_pixels in sound[1:]:
        if not _equal(pixels, other_pixels):
            raise Unreadable(_why_alike(first, other), "ImagePositionPatient")
    reason = "a copy: another slice has the same place and pixels"
    copies = [
        Refusal(other.path, Disposition.EXCLUDED, reason, "ImagePositionPatient")
        for other, _ in sound[1:]
    ]
    return first, copies + [found for _, found in read if isinstance(found, Refusal)]


def _equal(one: StoredPixels, other: StoredPixels) -> bool:
    return np.array_equal(one.image_hu, other.image_hu) and np.array_equal(one.valid, other.valid)


def _why_alike(one: Instance, other: Instance) -> str:
    differing = differing_attributes(one, other)
    which = (
        f"they differ in {', '.join(differing)}, which does not divide the series into volumes"
        if differing
        else "no attribute distinguishes them"
    )
    return (
        f"slices of the series share a position and differ in their pixels; {which}: separate "
        "them into folders and series of their own first"
    )
