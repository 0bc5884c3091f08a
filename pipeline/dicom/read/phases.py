"""What distinguishes the volumes of one DICOM series that lie at the same places: cardiac and
respiratory phases, time points, reconstructions (PS3.3 C.7.6.18, C.7.6.16.2.17, C.8.2.1)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from pipeline.dicom.read.alike import number_of, same_values, text_of
from pipeline.dicom.read.files import read_dataset
from pipeline.dicom.read.grouping import Part, numbered
from pipeline.dicom.read.header_tags import SPLITTING_KEYWORDS
from pipeline.dicom.read.headers import Instance

#: Further attributes that may distinguish slices at one place, read only where SPLITTING_KEYWORDS
#: do not. Those of a person's own words and of times come last: they are numbered, not shown.
PHASE_KEYWORDS = (
    "ScanOptions",
    "TemporalPositionTimeOffset",
    "PhaseNumber",
    "NominalCardiacTriggerDelayTime",
    "ActualCardiacTriggerDelayTime",
    "CardiacCyclePosition",
    "ImageTriggerDelay",
    "NominalPercentageOfRespiratoryPhase",
    "NominalRespiratoryTriggerDelayTime",
    "ActualRespiratoryTriggerDelayTime",
    "RespiratoryCyclePosition",
    "StartingRespiratoryPhase",
    "StartingRespiratoryAmplitude",
    "FrameReferenceTime",
    "MultienergyCTPathIndex",
    "EnergyWeightingFactor",
    "ReconstructionAlgorithm",
    "ConvolutionKernelGroup",
    "ReconstructionTargetCenterPatient",
    "AcquisitionType",
    "ContrastBolusVolume",
    "XRayTubeCurrent",
    "SeriesDescription",
    "ProtocolName",
    "ImageComments",
    "IrradiationEventUID",
    "AcquisitionUID",
    "FrameReferenceDateTime",
    "AcquisitionDateTime",
    "AcquisitionDate",
    "ContentDate",
    "ContentTime",
)
#: Attributes that go up with time, or from slice to slice: each volume has a range of its own.
ORDERED_KEYWORDS = (
    "AcquisitionDateTime",
    "AcquisitionTime",
    "ContentTime",
    "TriggerTime",
    "InstanceNumber",
)
SHOWN_IN_TURN = ("TriggerTime", "InstanceNumber")
#: Values of other kinds may identify a patient, or are free text.
SHOWN_VRS = ("CS", "DS", "IS", "FD", "FL", "SL", "SS", "UL", "US")
SHOWN_KEYWORDS = ("StackID", "FilterType", "ContrastBolusAgent")
#: What is another in every object, and says nothing of the acquisition.
OF_THE_OBJECT = (
    "SOPInstanceUID",
    "InstanceCreationDate",
    "InstanceCreationTime",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "ConversionSourceAttributesSequence",
)


@dataclass(frozen=True)
class PlacedSlices:
    """Slices in order along their normal, with the number of each one's place.

    headers: of each slice, with at least the attributes in question. smallest: how many slices a
    volume has at least.
    """

    instances: Sequence[Instance]
    places: Sequence[int]
    headers: Sequence[Dataset]
    smallest: int

    def with_whole_headers(self) -> PlacedSlices:
        """The same with all attributes that the files have, but the pixels."""
        headers = [whole_header(instance) for instance in self.instances]
        return PlacedSlices(self.instances, self.places, headers, self.smallest)


def whole_header(instance: Instance) -> Dataset:
    """All attributes of a slice but its pixels; of a frame they are there already."""
    if instance.frame is not None:
        return instance.header
    return read_dataset(instance.path, stop_before_pixels=True)


def phases_of(placed: PlacedSlices) -> list[Part] | None:
    """Slices that share places as volumes that do not; None where no attribute makes such."""
    for name in SPLITTING_KEYWORDS:
        if parts := split_by(placed, (name,)):
            return parts
    whole = placed.with_whole_headers()
    names = (*SPLITTING_KEYWORDS, *PHASE_KEYWORDS)
    for name in PHASE_KEYWORDS:
        if parts := split_by(whole, (name,)):
            return parts
    for pair in combinations([n for n in names if _may_be_one_of_two(whole, n)], 2):
        if parts := split_by(whole, pair):
            return parts
    for name in ORDERED_KEYWORDS:
        if parts := _in_turn(whole, name):
            return parts
    return None


def split_by(placed: PlacedSlices, names: tuple[str, ...]) -> list[Part] | None:
    """The slices by their values of attributes; None where that makes no volumes of them."""
    columns = [same_values([header.get(name) for header in placed.headers]) for name in names]
    grouped: dict[tuple[Hashable, ...], list[int]] = defaultdict(list)
    for number, same in enumerate(zip(*columns, strict=True)):
        grouped[same].append(number)
    parts = list(grouped.values())
    volumes = [len({placed.places[number] for number in part}) == len(part) for part in parts]
    if len(parts) < 2 or not all(volumes) or min(map(len, parts)) < placed.smallest:
        return None
    return _named(placed, parts, names)


def _may_be_one_of_two(placed: PlacedSlices, name: str) -> bool:
    """Whether an attribute has several values, each of at least one volume's slices."""
    values = same_values([header.get(name) for header in placed.headers])
    return 2 <= len(set(values)) <= len(values) / max(placed.smallest, 2)


def _named(
    placed: PlacedSlices, parts: Sequence[Sequence[int]], names: tuple[str, ...]
) -> list[Part]:
    texts = [[text_of(placed.headers[part[0]].get(n)).strip() for n in names] for part in parts]
    exact = [_joined(names, row) for row in texts]
    columns = [
        _shown(name, column) for name, column in zip(names, zip(*texts, strict=True), strict=True)
    ]
    shown = [", ".join(row) for row in zip(*columns, strict=True)]
    members = [tuple(placed.instances[number] for number in part) for part in parts]
    return [Part(*row) for row in zip(members, shown, exact, strict=True)]


def _joined(names: Sequence[str], values: Sequence[str]) -> str:
    pairs = zip(names, values, strict=True)
    return ", ".join(f"{name} {value or 'none'}" for name, value in pairs)


def _shown(name: str, values: Sequence[str]) -> list[str]:
    """The attribute with each value, numbered where values must not be shown."""
    tag = tag_for_keyword(name)
    if name in SHOWN_KEYWORDS or (tag is not None and dictionary_VR(tag) in SHOWN_VRS):
        return [f"{name} {value or 'none'}" for value in values]
    known = sorted(set(values))
    return [numbered(name, value, known) for value in values]


def _in_turn(placed: PlacedSlices, name: str) -> list[Part] | None:
    """Volumes one after another by an attribute that differs from slice to slice, where each has
    a slice at every place and all its values come before the next one's."""
    # Dates and times, read as numbers, go up with time too (PS3.5 6.2, VR DA, DT and TM).
    values = [number_of(text_of(header.get(name))) for header in placed.headers]
    count = len(set(placed.places))
    if None in values or count < max(placed.smallest, 2):
        return None
    order = sorted(range(len(values)), key=lambda number: values[number] or 0.0)
    turns = [order[start : start + count] for start in range(0, len(order), count)]
    apart = all(values[one[-1]] != values[other[0]] for one, other in pairwise(turns))
    if not apart or any(len({placed.places[n] for n in turn}) < count for turn in turns):
        return None
    parts = []
    for number, turn in enumerate(turns, start=1):
        ends = [text_of(placed.headers[n].get(name)).strip() for n in (turn[0], turn[-1])]
        exact = f"{name} {' to '.join(ends)}"
        shown = exact if name in SHOWN_IN_TURN else f"{name}: range {number} of {len(turns)}"
        instances = tuple(placed.instances[n] for n in sorted(turn))
        parts.append(Part(instances, shown, exact))
    return parts


def differing_attributes(one: Instance, other: Instance) -> list[str]:
    """The keywords of the attributes in which two slices differ, without UIDs and pixels."""
    first, second = whole_header(one), whole_header(other)
    tags = sorted(set(first.keys()) | set(second.keys()))
    differing = [tag for tag in tags if _differ(first, second, tag)]
    names = [keyword_for_tag(tag) for tag in differing if not tag.is_private]
    private = ["private attributes"] if any(tag.is_private for tag in differing) else []
    return [name for name in names if name and name not in OF_THE_OBJECT] + private


def _differ(first: Dataset, second: Dataset, tag: BaseTag) -> bool:
    try:
        return bool(first.get(tag) != second.get(tag))
    except Exception:  # values too damaged to be decoded raise many kinds
        return True
