"""Whether what a validator finds in a derived object is a value that its source brings along.

A reference to the source can be nothing else than the source's own UID, and a study's attributes
nothing else than the study's. So what decides is the value, not what the validator says of it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from pipeline.dicom.read.compare_elements import Meaning, meaning_under, same_element
from pipeline.dicom.read.raw_elements import RawDataset, vr_of, walk_items

#: A step of the path that `dciodvfy -new` gives: group, element, and the item or value, from 1.
STEP = re.compile(r"\((\w{4}),(\w{4})\)(?:\[(\d+)\])?")
FILE_META = 0x0002
PER_FRAME = Tag("PerFrameFunctionalGroupsSequence")


@dataclass(frozen=True)
class SourceValues:
    """What a source holds: its data set, and UIDs of other slices that a derived object names.

    frames: of a derived multi-frame object, each frame's own source, in their order.
    """

    dataset: Dataset
    uids: Collection[str] = ()
    frames: Sequence[Dataset] = ()

    def of_frame(self, number: int) -> SourceValues:
        """What the source of a frame holds, counted from 1; of an unknown one, what this holds."""
        if not 0 < number <= len(self.frames):
            return self
        return SourceValues(self.frames[number - 1], self.uids)

    def hold(self, tag: BaseTag, meaning: Meaning, vr: str) -> bool:
        """Whether the source holds these values under `tag`, in any item; UIDs, under any tag."""
        held = set(self._uids() if vr == "UI" else self._under(tag))
        return bool(meaning) and held.issuperset(meaning)

    def _under(self, tag: BaseTag) -> Iterator[Hashable]:
        for item in walk_items(self.dataset):
            if tag in item:
                yield from meaning_under(item, tag)

    def _uids(self) -> Iterator[Hashable]:
        yield from self.uids
        for item in walk_items(self.dataset):
            for tag in list(item.keys()):
                if vr_of(item.get_item(tag)) == "UI":
                    yield from meaning_under(item, tag)


def is_from_source(path: str, derived: Dataset, source: SourceValues) -> bool:
    """Whether the value at a path of dciodvfy is one that the source holds.

    An attribute that is missing, or empty, is none; nor is the file meta information, which is
    the derived object's own.
    """
    steps = [(Tag(f"{step[0]}{step[1]}"), int(step[2] or 0)) for step in STEP.findall(path)]
    if not steps or steps[0][0].group == FILE_META:
        return False
    if steps[0][0] == PER_FRAME:
        source = source.of_frame(steps[0][1])
    *items, (tag, number) = steps
    item = derived
    for sequence, place in items:
        if sequence not in item or not 0 < place <= len(item[sequence].value or ()):
            return False
        item = item[sequence].value[place - 1]
    if tag not in item or (vr := vr_of(item.get_item(tag))) == "SQ":
        return False
    meaning = meaning_under(item, tag)
    chosen = meaning[number - 1 : number] if number else meaning
    return source.hold(tag, chosen, vr)


def is_kept(keyword: str, pairs: Iterable[tuple[Dataset, Dataset]]) -> bool:
    """Whether an attribute means in every derived data set what it means in its source."""
    tag = BaseTag(tag_for_keyword(keyword) or 0)
    return bool(tag) and all(
        same_element(tag, RawDataset(derived), RawDataset(source)) for derived, source in pairs
    )
