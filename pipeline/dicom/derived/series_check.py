"""One derived series checked by the rules: file by file, and then as a whole."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.tag import Tag

from pipeline.core.refusals import Unreadable
from pipeline.dicom.deidentify.identity_text import identity_in
from pipeline.dicom.derived.image_rules import FILE_RULES, RULES, AttributeRule, Finding
from pipeline.dicom.derived.provenance import ImageKey, is_difference, keys_of, references
from pipeline.dicom.derived.source_rules import SOURCE_RULES, DerivedAndSource, SourceRule
from pipeline.dicom.read.compare_elements import meaning_under
from pipeline.dicom.read.enhanced import frames_of, is_frame, is_multi_frame_ct
from pipeline.dicom.read.files import read_dataset
from pipeline.dicom.read.headers import Instance
from pipeline.dicom.read.pixels import read_slice
from pipeline.dicom.read.raw_elements import RawDataset
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import Slice

#: Attributes of which one series has a single value.
SHARED_KEYWORDS = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "PatientID",
    "PatientName",
    "FrameOfReferenceUID",
    "Modality",
    "SeriesNumber",
    "SeriesDescription",
    "ConvolutionKernel",
)
SHARED_TAGS = {name: Tag(name) for name in SHARED_KEYWORDS}
#: Files are often named by their UIDs: such a name is not shown.
UID_LIKE = re.compile(r"\d+(\.\d+){3,}")

ONE_TO_ONE = ("one-to-one", "derive one image from each source image, and name that one")
FILE_NAMES = ("identity", "name files and folders by nothing that identifies the patient")
UNREADABLE = ("readable", "write a whole DICOM file")
PLACE = ("geometry", "keep the source's geometry")
REUSE = ("uid-reuse", "give the derived image and series UIDs of their own")


@dataclass(frozen=True)
class Problem:
    """A rule that a file breaks ("" for the series as a whole), and what to do about it."""

    file: str
    rule: str
    attribute: str
    value: str
    remedy: str

    def __str__(self) -> str:
        place = " ".join(part for part in (self.file, self.attribute, self.value) if part)
        return f"rule {self.rule}: {place or 'the series'}: {self.remedy}"


class SeriesExaminer:
    """Checks the files of one derived series one by one, and with `finish` together.

    root: file names are shown relative to it. source: the series each of whose slices should
    have its derived image. uids: SOPInstanceUIDs seen before; those of the files are added.
    """

    def __init__(self, root: Path, source: Series | None, uids: set[str]) -> None:
        self.problems: list[Problem] = []
        self.origins: dict[Path, Instance] = {}  # each file's first source image
        self.frame_origins: dict[Path, list[Instance]] = defaultdict(list)  # in frames' order
        self._root = root
        self._uids = uids
        self._source = source
        self._instances = keys_of(source) if source else {}
        self.uids_of_source = {uid for uid, _ in self._instances}
        self._named: set[tuple[ImageKey, ...]] = set()
        self._shared: list[dict[str, Hashable]] = []
        self._shared_by_sources: list[dict[str, Hashable]] = []

    def add(self, path: Path, number: int, processed: Slice | None = None) -> None:
        """Check a file, the `number`th of its series, counted from 1.

        processed: the slice that it was written from; its source is then not read again.
        """
        name = path.name if path == self._root else path.relative_to(self._root).as_posix()
        shown = f"file {number}" if UID_LIKE.search(name) else name
        try:
            dataset = read_dataset(path)
        except Exception as error:  # damaged files raise many kinds
            self._add_problem(shown, UNREADABLE, "", type(error).__name__)
            return
        if identity_in(f"{self._root.absolute().name}/{name}", dataset):
            shown = f"file {number}"
            self._add_problem(shown, FILE_NAMES, "the name of the file or of a folder", "")
        if is_multi_frame_ct(dataset.get("SOPClassUID", "")):
            self._add_frames(path, shown, dataset)
        else:
            self._add_image(path, shown, RawDataset(dataset), processed)

    def _add_frames(self, path: Path, shown: str, dataset: Dataset) -> None:
        """Check a multi-frame file: what it says as a whole, and each frame as an image."""
        for rule in FILE_RULES:
            self._add_findings(shown, rule, _findings(rule, dataset))
        self._check_uids(shown, dataset)
        if self._source:
            known = {i.header.get("FrameOfReferenceUID") for i in self._source.instances}
            if dataset.get("FrameOfReferenceUID") not in known:
                self._add_problem(shown, PLACE, "FrameOfReferenceUID", "")
        try:
            for number, frame in enumerate(frames_of(dataset), start=1):
                self._add_image(path, f"{shown} frame {number}", RawDataset(frame), None)
        except Unreadable as error:
            self._add_problem(shown, UNREADABLE, error.attribute, error.reason)

    def _add_image(
        self, path: Path, shown: str, image: RawDataset, processed: Slice | None
    ) -> None:
        source = self._check_with_source(path, shown, image, processed)
        for rule in RULES:
            found = _findings(rule, image.dataset)
            inherited = _findings(rule, source) if found and rule.kept and source else []
            self._add_findings(shown, rule, [one for one in found if one not in inherited])
        self._check_uids(shown, image.dataset)
        self._shared.append(_shared(image.dataset))

    def _check_with_source(
        self, path: Path, shown: str, image: RawDataset, processed: Slice | None
    ) -> Dataset | None:
        """Check an image against its source, which is returned; None where there is none."""
        origin = self._origin(shown, image.dataset)
        source = self._loaded(shown, origin, processed) if origin else None
        if origin is None or source is None:
            return None
        self.origins.setdefault(path, origin)
        if is_frame(image.dataset):
            self.frame_origins[path].append(origin)
        self._shared_by_sources.append(_shared(source.dataset))
        both = DerivedAndSource(image, source)
        for rule in SOURCE_RULES:
            self._add_findings(shown, rule, _findings(rule, both))
        return source.dataset

    def finish(self) -> None:
        """Check what only all files together show: one series, and an image for each slice."""
        rule = ("one-series", "write one series for one patient, study, place and kernel")
        for name in SHARED_KEYWORDS:
            values = {facts[name] for facts in self._shared}
            varies_in_source = len({facts[name] for facts in self._shared_by_sources}) > 1
            if len(values) > 1 and not varies_in_source:
                self._add_problem("", rule, name, f"{len(values)} different ones")
        used = {key for named in self._named for key in named}
        missing = [self._instances[key] for key in self._instances if key not in used]
        lost = sum(map(_is_readable, missing))
        if lost:
            value = f"{lost} of {len(self._instances)} source images have no derived one"
            self._add_problem("", ONE_TO_ONE, "SourceImageSequence", value)

    def _origin(self, shown: str, image: Dataset) -> Instance | None:
        """The one source image that an image names."""
        named = references(image)
        known = [key for key in named if key in self._instances]
        if self._source and len(known) != 1:
            value = f"names {len(known)} images of the source"
            self._add_problem(shown, ONE_TO_ONE, "SourceImageSequence", value)
        elif named and len(named) != 1 + is_difference(image):
            value = f"names {len(named)} images"
            self._add_problem(shown, ONE_TO_ONE, "SourceImageSequence", value)
        keys = tuple(known if self._source else named)
        if keys and keys in self._named:
            value = "named by another image too"
            self._add_problem(shown, ONE_TO_ONE, "SourceImageSequence", value)
        self._named.add(keys)
        return self._instances[known[0]] if len(known) == 1 else None

    def _loaded(self, shown: str, origin: Instance, processed: Slice | None) -> RawDataset | None:
        try:
            if processed and processed.instance is origin:
                return processed.source
            return RawDataset(origin.load())
        except Exception as error:  # damaged files raise many kinds
            rule = ("readable", "give a source that can be read")
            self._add_problem(shown, rule, "", f"its source: {type(error).__name__}")
            return None

    def _check_uids(self, shown: str, image: Dataset) -> None:
        uid = str(image.get("SOPInstanceUID", ""))
        if uid in self._uids or uid in self.uids_of_source:
            self._add_problem(shown, REUSE, "SOPInstanceUID", "")
        self._uids.add(uid)
        series = image.get("SeriesInstanceUID")
        if self._source and series == self._source.header.SeriesInstanceUID:
            self._add_problem(shown, REUSE, "SeriesInstanceUID", "")

    def _add_findings(
        self, shown: str, rule: AttributeRule | SourceRule, findings: Iterable[Finding]
    ) -> None:
        for attribute, value in findings:
            self._add_problem(shown, (rule.name, rule.remedy), attribute, value)

    def _add_problem(self, shown: str, rule: tuple[str, str], attribute: str, value: str) -> None:
        name, remedy = rule
        self.problems.append(Problem(shown, name, attribute, value, remedy))


def _findings(rule: Any, checked: Dataset | DerivedAndSource) -> list[Finding]:
    """What breaks the rule; values too damaged to be checked break it too."""
    try:
        return list(rule.find(checked))
    except Exception as error:  # odd values raise many kinds
        return [("", f"cannot be checked ({type(error).__name__})")]


def _shared(image: Dataset) -> dict[str, Hashable]:
    return {name: meaning_under(image, tag) for name, tag in SHARED_TAGS.items()}


def _is_readable(instance: Instance) -> bool:
    try:
        read_slice(instance)
    except Exception:  # as read_volume leaves out whatever cannot be decoded
        return False
    return True
