"""Which slices may be stacked, by what a CT volume has one of (PS3.3 A.3, C.8.2.1): orientation,
matrix, pixel spacing, kernel, tube voltage, photon energy and frame of reference.

Numbers are compared by tolerance, never by their text nor rounded (alike.py).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from pydicom.dataset import Dataset

from pipeline.core.refusals import Refusal, Unreadable, refusal_of
from pipeline.dicom.read.alike import clusters, same_texts, same_values, text_of
from pipeline.dicom.read.header_tags import ENERGY_KEYWORD, ENERGY_SEQUENCES
from pipeline.dicom.read.headers import Instance, plain_values
from pipeline.dicom.read.raw_elements import walk_items
from pipeline.dicom.read.slice_requirements import Header, normal_of, numbers

#: Tube voltages and photon energies nearer than this are one.
SAME_KV = 0.1
#: Pixel spacings nearer than this are one.
SAME_SPACING_MM = 1e-4
#: Slices whose origins are nearer than this lie at one place.
SAME_PLACE_MM = 0.01
#: Direction cosines nearer than this are one; they are written with three digits or more.
SAME_COSINE = 1e-3

#: A header's values by keyword.
Values: TypeAlias = Mapping[str, Any]

#: What slices may leave unsaid that their neighbours say.
UNSAID = ("KVP", "ConvolutionKernel")
OWNER = ("StudyInstanceUID", "SeriesInstanceUID", "PatientID", "IssuerOfPatientID")
#: Where virtual monoenergetic images say their energy in words: "70 keV", "MonoE_40keV".
ENERGY_TEXTS = ("ImageType", "ImageComments", "SeriesDescription")
KEV = re.compile(r"(?<!\d)(\d{2,3}(?:\.\d+)?)[ _]?keV", re.IGNORECASE)


@dataclass(frozen=True)
class GroupKey:
    """What a slice has in common with those that it may be stacked with, as text.

    owner: patient and UIDs, which no message may show. facts: (attribute, value) of the
    acquisition and reconstruction, which messages may show. Pseudonyms hang on both: their form
    must stay (volume.series_key), also where grouping compares more, or by tolerance.
    """

    owner: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Part:
    """Slices that may be stacked, in order along their normal.

    name: the attribute and value that they share and the series' other slices do not, "" for a
    whole series. exact: the same with values that may identify a patient, which `name` numbers:
    for hashes, never shown.
    """

    instances: tuple[Instance, ...]
    name: str = ""
    exact: str = ""


def group_key(dataset: Dataset) -> GroupKey:
    """A slice's owner and facts, by its header; PixelSpacing is rounded to 0.1 um and direction
    cosines to 0.001. Raises Unreadable for damaged values."""
    return _key(plain_values(dataset))


def _key(header: Values) -> GroupKey:
    spacing_mm = numbers(header, "PixelSpacing", 2)
    cosines = np.round(numbers(header, "ImageOrientationPatient", 6), 3) + 0.0
    return GroupKey(
        owner=_owner(header),
        facts=(
            ("ImageType", "\\".join(list(header.get("ImageType") or ())[:3])),
            ("ConvolutionKernel", text_of(header.get("ConvolutionKernel"))),
            ("KVP", text_of(header.get("KVP"))),
            ("matrix", f"{header['Rows']} x {header['Columns']}"),
            ("PixelSpacing", "\\".join(f"{value:.4f}" for value in spacing_mm)),
            ("orientation", "\\".join(f"{value:g}" for value in cosines)),
        ),
    )


def _owner(header: Values) -> tuple[str, ...]:
    return tuple(str(header.get(name) or "").strip() for name in OWNER)


def in_groups(instances: Iterable[Instance], leave_out: Callable[[Refusal], None]) -> list[Part]:
    """The slices of any series in groups that may be stacked, each in order along its normal.

    leave_out: called with each file of a series that cannot be grouped, whatever the reason; the
    others go on.
    """
    by_owner: dict[tuple[str, ...], list[_Member]] = defaultdict(list)
    for instance in instances:
        member = _Member(instance, plain_values(instance.header))
        by_owner[_owner(member.values)].append(member)
    parts = []
    for members in by_owner.values():
        try:
            parts += _groups(members)
        except Exception as error:  # one series' odd values end no other's work
            for path in dict.fromkeys(member.instance.path for member in members):
                leave_out(refusal_of(error, path))
    return parts


class _Member(NamedTuple):
    """A slice, and its header's values by keyword."""

    instance: Instance
    values: Values


def _groups(members: Sequence[_Member]) -> list[Part]:
    """The groups of one DICOM series, named by the facts in which they differ."""
    columns = _facts_to_compare([member.values for member in members])
    grouped: dict[tuple[Hashable, ...], list[_Member]] = defaultdict(list)
    for member, same in zip(members, zip(*columns.values(), strict=True), strict=True):
        grouped[same].append(member)
    differing = [name for name, column in columns.items() if len(set(column)) > 1]
    frames = sorted({str(frame) for frame in columns["FrameOfReferenceUID"]})
    parts = []
    for group in grouped.values():
        ordered = in_order(_on_one_normal(group))
        header = plain_values(ordered[0].header)
        texts = dict(_key(header).facts)
        texts["FrameOfReferenceUID"] = frame = _frame_of_reference(header)
        names = {name: f"{name} {texts.get(name) or 'none'}" for name in differing}
        if "keV" in names:
            names["keV"] = f"{energy_kev(header) or 'no'} keV"
        exact = ", ".join(names.values())
        if "FrameOfReferenceUID" in names:
            names["FrameOfReferenceUID"] = numbered("FrameOfReferenceUID", frame, frames)
        parts.append(Part(ordered, ", ".join(names.values()), exact))
    return parts


def numbered(name: str, value: str, values: Sequence[str]) -> str:
    """An attribute with the place of its value among all, for values that must not be shown."""
    return f"{name}: value {values.index(value) + 1} of {len(values)}"


def _facts_to_compare(headers: Sequence[Values]) -> dict[str, Sequence[Hashable]]:
    """By name, results for each slice that are equal where slices may be stacked."""

    def vectors(name: str, count: int, tolerance: float) -> list[Hashable]:
        found = np.stack([numbers(header, name, count) for header in headers])
        columns = [clusters(column, tolerance).tolist() for column in found.T]
        return list(zip(*columns, strict=True))

    return {
        "keV": same_values([energy_kev(header) for header in headers], SAME_KV),
        "ImageType": same_texts([list(header.get("ImageType") or ())[:3] for header in headers]),
        "ConvolutionKernel": _with_unsaid(
            headers, same_texts([header.get("ConvolutionKernel") for header in headers])
        ),
        "KVP": _with_unsaid(
            headers, same_values([header.get("KVP") for header in headers], SAME_KV)
        ),
        "matrix": [(header["Rows"], header["Columns"]) for header in headers],
        "PixelSpacing": vectors("PixelSpacing", 2, SAME_SPACING_MM),
        "orientation": vectors("ImageOrientationPatient", 6, SAME_COSINE),
        "FrameOfReferenceUID": _frames_of_reference(headers),
    }


def _with_unsaid(headers: Sequence[Values], values: Sequence[Hashable]) -> Sequence[Hashable]:
    """The values, where slices that have none ("") belong to the only known one's: but for
    slices that lie where others do, which are another reconstruction."""
    known = set(values) - {""}
    if "" not in values or len(known) != 1:
        return values
    origins = np.stack([numbers(header, "ImagePositionPatient", 3) for header in headers])
    unsaid = np.array([value == "" for value in values])
    apart_mm = np.abs(origins[unsaid, None] - origins[None, ~unsaid]).max(axis=-1)
    return values if apart_mm.min() < SAME_PLACE_MM else list(known) * len(values)


def _frames_of_reference(headers: Sequence[Values]) -> list[str]:
    """Each slice's frame of reference (PS3.3 A.1.2.5: a series has one).

    Slices that name none belong to the only one; UIDs that change from slice to slice are an
    anonymiser's and distinguish nothing.
    """
    uids = [_frame_of_reference(header) for header in headers]
    known = set(uids) - {""}
    return uids if 2 <= len(known) <= len(uids) / 2 else [""] * len(uids)


def _frame_of_reference(header: Header) -> str:
    return str(header.get("FrameOfReferenceUID") or "").strip()


def energy_kev(header: Values) -> str:
    """The energy of a virtual monoenergetic image in keV, "" for others: by Monoenergetic Energy
    Equivalent (PS3.3 C.8.2.2.3), or as text says it."""
    stated = [header.get(ENERGY_KEYWORD)] + [
        item.get(ENERGY_KEYWORD)
        for name in ENERGY_SEQUENCES
        for top in header.get(name) or ()
        for item in walk_items(top)
    ]
    found = next((f"{float(energy):g}" for energy in stated if energy), "")
    texts = (text_of(header.get(name)) for name in ENERGY_TEXTS)
    matches = (KEV.search(text) for text in texts)
    return found or next((f"{float(match[1]):g}" for match in matches if match), "")


def _on_one_normal(group: Sequence[_Member]) -> list[Instance]:
    """The slices with their places along the mean of their normals.

    Along normals of their own, directions that differ in the fourth digit move slices that lie a
    metre from the origin by a millimetre against each other.
    """
    directions = {tuple(numbers(m.values, "ImageOrientationPatient", 6)) for m in group}
    if len(directions) == 1:
        return [member.instance for member in group]
    mean = np.sum([normal_of(member.values) for member in group], axis=0)
    normal = mean / np.linalg.norm(mean)
    return [replace(m.instance, position_mm=float(m.instance.origin_mm @ normal)) for m in group]


def in_order(instances: Iterable[Instance]) -> tuple[Instance, ...]:
    """Slices sorted along their normal, those at one place by UID."""
    return tuple(sorted(instances, key=lambda i: (i.position_mm, str(i.header.SOPInstanceUID))))


def require_parallel(instances: Sequence[Instance]) -> None:
    """Raises Unreadable where directions that differ little from slice to slice differ much over
    the series: its slices then have no common normal."""
    cosines = np.stack([numbers(i.header, "ImageOrientationPatient", 6) for i in instances])
    drift = float(np.ptp(cosines, axis=0).max())
    if drift > 2 * SAME_COSINE:
        raise Unreadable(
            f"the slices are not parallel: direction cosines drift by {drift:.4f} over the series",
            "ImageOrientationPatient",
        )


def unsaid_warnings(instances: Sequence[Instance]) -> list[str]:
    """What only some slices of a volume say, and was taken to be of the others too."""
    held = {name: [bool(text_of(i.header.get(name)).strip()) for i in instances] for name in UNSAID}
    return [
        f"{name} is missing in some slices: taken to be the others'"
        for name, said in held.items()
        if any(said) and not all(said)
    ]


def frame_of_reference_warnings(instances: Sequence[Instance]) -> list[str]:
    """What the source gets wrong: a frame of reference for each slice, or not for all of them."""
    uids = {_frame_of_reference(instance.header) for instance in instances}
    if len(uids) < 2:
        return []
    if len(uids - {""}) == 1:
        return ["FrameOfReferenceUID is missing in some slices: taken to be the others'"]
    count = f"{len(uids - {''})} different ones in {len(instances)} slices"
    return [f"FrameOfReferenceUID: {count}, taken as one frame of reference"]
