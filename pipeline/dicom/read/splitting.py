"""Slices of one DICOM series that must not be stacked, as several volumes with names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from pydicom.dataset import Dataset

from pipeline.core.refusals import Disposition, Refusal, Unreadable
from pipeline.dicom.read.headers import SPLITTING_KEYWORDS, Instance, plain_values
from pipeline.dicom.read.pixels import read_slice
from pipeline.dicom.read.slice_requirements import numbers
from pipeline.dicom.read.spacing import POSITION_TOLERANCE_MM, is_even

#: A part of fewer slices is one table position of a step-and-shoot scan, not a volume.
MIN_PART_SLICES = 3


@dataclass(frozen=True)
class GroupKey:
    """What slices must have in common to be stacked.

    owner: patient and UIDs, which no message may show. facts: (attribute, value) of the
    acquisition and reconstruction, which messages may show.
    """

    owner: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Part:
    """Slices that may be stacked, in order; `name` is the attribute and value that they share
    and the series' other slices do not, "" for a whole series."""

    instances: tuple[Instance, ...]
    name: str = ""


def group_key(dataset: Dataset) -> GroupKey:
    """The group that a slice belongs to, by its header; PixelSpacing is rounded to 0.1 um and
    direction cosines to 0.001. Raises Unreadable for damaged values."""
    header = plain_values(dataset)
    spacing_mm = numbers(header, "PixelSpacing", 2)
    cosines = np.round(numbers(header, "ImageOrientationPatient", 6), 3) + 0.0
    owner = ("StudyInstanceUID", "SeriesInstanceUID", "PatientID", "IssuerOfPatientID")
    return GroupKey(
        owner=tuple(str(header.get(name) or "").strip() for name in owner),
        facts=(
            ("ImageType", "\\".join(list(header.get("ImageType") or ())[:3])),
            ("ConvolutionKernel", _text(header.get("ConvolutionKernel"))),
            ("KVP", _text(header.get("KVP"))),
            ("matrix", f"{header['Rows']} x {header['Columns']}"),
            ("PixelSpacing", "\\".join(f"{value:.4f}" for value in spacing_mm)),
            ("orientation", "\\".join(f"{value:g}" for value in cosines)),
        ),
    )


def _text(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return "\\".join(map(str, value)) if hasattr(value, "__iter__") else str(value)


def part_names(keys: Sequence[GroupKey]) -> dict[GroupKey, str]:
    """A name for each group: the facts in which the groups of one DICOM series differ, "" for
    the only group of a series."""
    by_owner: dict[tuple[str, ...], list[GroupKey]] = defaultdict(list)
    for key in keys:
        by_owner[key.owner].append(key)
    names = {}
    for key in keys:
        others = by_owner[key.owner]
        differing = [
            f"{name} {value or 'none'}"
            for place, (name, value) in enumerate(key.facts)
            if any(other.facts[place][1] != value for other in others)
        ]
        names[key] = ", ".join(differing)
    return names


def parts_of(ordered: Sequence[Instance]) -> list[Part]:
    """One part, or several where slices share places or acquisitions do not fit one grid."""
    whole = Part(tuple(ordered))
    if _shares_places(ordered):
        return next(
            (parts for name in SPLITTING_KEYWORDS if (parts := _split(ordered, name))), [whole]
        )
    if len(ordered) < 2 * MIN_PART_SLICES or is_even(ordered):
        return [whole]
    parts = _split(ordered, "AcquisitionNumber")
    return parts if parts and all(is_even(part.instances) for part in parts) else [whole]


def _split(ordered: Sequence[Instance], name: str) -> list[Part] | None:
    """The slices by the values of an attribute; None where that makes no volumes of them."""
    by_value: dict[str, list[Instance]] = defaultdict(list)
    for instance in ordered:
        by_value[_text(instance.header.get(name))].append(instance)
    parts = list(by_value.values())
    smallest = min(MIN_PART_SLICES, len(ordered) // 2)
    if len(parts) < 2 or any(len(part) < smallest or _shares_places(part) for part in parts):
        return None
    return [Part(tuple(part), f"{name} {value or 'none'}") for value, part in by_value.items()]


def _shares_places(ordered: Sequence[Instance]) -> bool:
    return any(_share_a_place(first, second) for first, second in pairwise(ordered))


def _share_a_place(first: Instance, second: Instance) -> bool:
    return second.position_mm - first.position_mm < POSITION_TOLERANCE_MM


def without_copies(
    ordered: Sequence[Instance],
) -> tuple[tuple[Instance, ...], list[Refusal]]:
    """One slice at each place, the first by UID, where slices that share it have equal pixels.

    Also returns a Refusal for each copy left out. Raises Unreadable where pixels at one place
    differ, or slices at different places share a UID.
    """
    kept: list[Instance] = []
    copies: list[Refusal] = []
    uids: set[str] = set()
    for instance in ordered:
        if kept and _share_a_place(kept[-1], instance):
            if not _equal(kept[-1], instance):
                raise Unreadable(
                    "slices of the series share a position and differ in their pixels, and no "
                    "attribute distinguishes them; separate them first",
                    "ImagePositionPatient",
                )
            reason = "a copy: another slice has the same place and pixels"
            copies.append(
                Refusal(instance.path, Disposition.EXCLUDED, reason, "ImagePositionPatient")
            )
        elif instance.header.SOPInstanceUID in uids:
            raise Unreadable("slices at different places share a UID", "SOPInstanceUID")
        else:
            kept.append(instance)
            uids.add(instance.header.SOPInstanceUID)
    return tuple(kept), copies


def _equal(first: Instance, second: Instance) -> bool:
    try:
        one, other = read_slice(first), read_slice(second)
    except Unreadable:
        return False
    return np.array_equal(one.image_hu, other.image_hu) and np.array_equal(one.valid, other.valid)
