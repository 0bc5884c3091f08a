"""One derived series against the rules: file by file, and then as a whole."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from pipeline.dicom.deidentify.identity_text import identity_in
from pipeline.dicom.derived.image_rules import RULES, AttributeRule, Finding
from pipeline.dicom.derived.provenance import ImageKey, is_difference, keys_of, references
from pipeline.dicom.derived.source_rules import SOURCE_RULES, Beside, SourceRule
from pipeline.dicom.read.files import read_dataset
from pipeline.dicom.read.headers import Instance
from pipeline.dicom.read.pixels import read_slice
from pipeline.dicom.read.raw_elements import AsRead
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import Slice

#: What one series has one of.
SHARED = (
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
#: Objects are often kept under their UIDs: such a name is not repeated.
UID_LIKE = re.compile(r"\d+(\.\d+){3,}")

ONE_TO_ONE = ("one-to-one", "derive one image from each source image, and name that one")
NAMES = ("identity", "name files and folders without saying who the patient is")
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


class Examination:
    """Takes the files of one derived series in turn; `finish` then judges them together.

    root: names are told relative to it. source: the series whose every slice should have its
    derived image. uids: SOP Instance UIDs seen before, to which this adds its own.
    """

    def __init__(self, root: Path, source: Series | None, uids: set[str]) -> None:
        self.problems: list[Problem] = []
        self.origins: dict[Path, Instance] = {}  # each file's source image
        self._root = root
        self._uids = uids
        self._source = source
        self._instances = keys_of(source) if source else {}
        self._uids_of_source = {uid for uid, _ in self._instances}
        self._named: set[tuple[ImageKey, ...]] = set()
        self._shared: list[dict[str, str]] = []
        self._shared_by_sources: list[dict[str, str]] = []

    def take(self, path: Path, number: int, made: Slice | None = None) -> None:
        """Judge a file, the `number`th of its series; made: whose source, if it names that, is
        not read again."""
        name = path.name if path == self._root else path.relative_to(self._root).as_posix()
        shown = f"file {number}" if UID_LIKE.search(name) else name
        try:
            image = AsRead(read_dataset(path))
        except Exception as error:  # damaged files raise many kinds
            self._tell(shown, ("readable", "write a whole DICOM file"), "", type(error).__name__)
            return
        if identity_in(f"{self._root.absolute().name}/{name}", image.dataset):
            shown = f"file {number}"
            self._tell(shown, NAMES, "the name of the file or of a folder", "")
        source = self._judge_beside(path, shown, image, made)
        for rule in RULES:
            found = _broken(rule, image.dataset)
            excused = _broken(rule, source) if found and rule.kept and source else []
            self._tell_all(shown, rule, [finding for finding in found if finding not in excused])
        self._judge_uids(shown, image.dataset)
        self._shared.append(_shared(image.dataset))

    def _judge_beside(
        self, path: Path, shown: str, image: AsRead, made: Slice | None
    ) -> Dataset | None:
        """Judge an image beside its source, which is returned; None if that is not to be had."""
        origin = self._origin(shown, image.dataset)
        source = self._loaded(shown, origin, made) if origin else None
        if origin is None or source is None:
            return None
        self.origins[path] = origin
        self._shared_by_sources.append(_shared(source.dataset))
        beside = Beside(image, source)
        for rule in SOURCE_RULES:
            self._tell_all(shown, rule, _broken(rule, beside))
        return source.dataset

    def finish(self) -> None:
        """Judge what no file shows alone."""
        rule = ("one-series", "write one series for one patient, study, place and kernel")
        for name in SHARED:
            values = {facts[name] for facts in self._shared}
            varies_there = len({facts[name] for facts in self._shared_by_sources}) > 1
            if len(values) > 1 and not varies_there:
                self._tell("", rule, name, f"{len(values)} different ones")
        used = {key for named in self._named for key in named}
        missing = [self._instances[key] for key in self._instances if key not in used]
        lost = sum(map(_is_readable, missing))
        if lost:
            told = f"{lost} of {len(self._instances)} source images have no derived one"
            self._tell("", ONE_TO_ONE, "SourceImageSequence", told)

    def _origin(self, shown: str, image: Dataset) -> Instance | None:
        """The one source image that an image names."""
        named = references(image)
        known = [key for key in named if key in self._instances]
        if self._source and len(known) != 1:
            value = f"names {len(known)} images of the source"
            self._tell(shown, ONE_TO_ONE, "SourceImageSequence", value)
        elif named and len(named) != 1 + is_difference(image):
            self._tell(shown, ONE_TO_ONE, "SourceImageSequence", f"names {len(named)} images")
        keys = tuple(known if self._source else named)
        if keys and keys in self._named:
            self._tell(shown, ONE_TO_ONE, "SourceImageSequence", "named by another image too")
        self._named.add(keys)
        return self._instances[known[0]] if len(known) == 1 else None

    def _loaded(self, shown: str, origin: Instance, made: Slice | None) -> AsRead | None:
        try:
            return made.source if made and made.instance is origin else AsRead(origin.load())
        except Exception as error:  # damaged files raise many kinds
            rule = ("readable", "give a source that can be read")
            self._tell(shown, rule, "", f"its source: {type(error).__name__}")
            return None

    def _judge_uids(self, shown: str, image: Dataset) -> None:
        uid = str(image.get("SOPInstanceUID", ""))
        if uid in self._uids or uid in self._uids_of_source:
            self._tell(shown, REUSE, "SOPInstanceUID", "")
        self._uids.add(uid)
        series = image.get("SeriesInstanceUID")
        if self._source and series == self._source.header.SeriesInstanceUID:
            self._tell(shown, REUSE, "SeriesInstanceUID", "")

    def _tell_all(
        self, shown: str, rule: AttributeRule | SourceRule, findings: Iterable[Finding]
    ) -> None:
        for attribute, value in findings:
            self._tell(shown, (rule.name, rule.remedy), attribute, value)

    def _tell(self, shown: str, rule: tuple[str, str], attribute: str, value: str) -> None:
        name, remedy = rule
        self.problems.append(Problem(shown, name, attribute, value, remedy))


def _broken(rule: Any, judged: Dataset | Beside) -> list[Finding]:
    """What breaks the rule; values too damaged to be judged break it too."""
    try:
        return list(rule.find(judged))
    except Exception as error:  # odd values raise many kinds
        return [("", f"cannot be judged ({type(error).__name__})")]


def _shared(image: Dataset) -> dict[str, str]:
    return {name: str(image.get(name)) for name in SHARED}


def _is_readable(instance: Instance) -> bool:
    try:
        read_slice(instance)
    except Exception:  # as read_volume leaves out whatever cannot be decoded
        return False
    return True
