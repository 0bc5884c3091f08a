"""Check a derived series: run by `ldct check`, and before every export is published.

Our own rules (image_rules.py, source_rules.py), and with dicom3tools installed what dciodvfy and
dcentvfy find new against the source. A problem names file, rule, attribute and remedy; never the
patient, nor a UID.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydicom.dataset import Dataset

from pipeline.core.errors import LdctError, NothingUsableError
from pipeline.core.refusals import Unreadable
from pipeline.dicom.deidentify.identity_text import identity_in
from pipeline.dicom.derived.dicom3tools import Validation, attribute_of, files_of, validate
from pipeline.dicom.derived.provenance import (
    ABOUT_IMAGES,
    claims_to_be_derived,
    keys_of,
    likeness,
    references,
    structures_of,
)
from pipeline.dicom.derived.series_check import ONE_TO_ONE, UID_LIKE, Problem, SeriesExaminer
from pipeline.dicom.derived.structures_check import examine_structures
from pipeline.dicom.read.enhanced import frame_headers, is_multi_frame_ct
from pipeline.dicom.read.files import files_below, read_dataset
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.series import Series, find_series
from pipeline.dicom.read.volume import Slice

NEW_FINDING_REMEDY = "write what the program asks for, as the source does"


@dataclass(frozen=True)
class CheckSummary:
    """How many problems a check found, and which programs validated how many files."""

    problems: int
    validation: Validation

    def to_dict(self) -> dict[str, object]:
        """As a report has it, in JSON's types."""
        return {"problems": self.problems, **self.validation.to_dict()}


@dataclass(frozen=True)
class CheckResult:
    """The check of one derived series: its name, number of files, problems, and validation."""

    name: str
    instances: int
    problems: list[Problem]
    validation: Validation

    @property
    def passed(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def summary(self) -> CheckSummary:
        """The figures that a report of many series has room for."""
        return CheckSummary(len(self.problems), self.validation)

    def to_dict(self) -> dict[str, object]:
        """All of it in JSON's types, as `ldct check` reports it."""
        return {
            "series": self.name,
            "instances": self.instances,
            "passed": self.passed,
            "problems": [asdict(problem) for problem in self.problems],
            **self.validation.to_dict(),
        }

    def require(self) -> None:
        """Raises LdctError that names the first problem, where there is one."""
        if self.problems:
            more = len(self.problems) - 1
            rest = f" (and {more} more problems)" if more else ""
            raise LdctError(
                f"the derived series {self.name} fails its check and is not written: "
                f"{self.problems[0]}{rest}"
            )


def check_series(folder: Path, source: Series, *, name: str = "") -> CheckResult:
    """Check the derived series that is all of `folder` against every slice of its source."""
    return SeriesCheck(folder, source, name=name or folder.name).finish()


class SeriesCheck:
    """check_series for a folder that is still being written: each file is checked once complete.

    dicom3tools needs files: headers of slices that are none (members of archives, frames) are
    written next to `folder` for its run, where the derived series' own headers will lie.
    """

    def __init__(self, folder: Path, source: Series, *, name: str) -> None:
        self._folder, self._name = folder, name
        self._examiner = SeriesExaminer(folder, source, set())
        self._checked: list[Path] = []

    def add(self, path: Path, processed: Slice | None = None) -> None:
        """Check the next file, which must not change any more.

        processed: the slice that it was written from, whose source is then not read again.
        """
        self._checked.append(path)
        self._examiner.add(path, len(self._checked), processed)

    def finish(self) -> CheckResult:
        """Check the files of the folder that were not added, and the series as a whole."""
        known = set(self._checked)
        for path in sorted(self._folder.iterdir()):
            if path.is_file() and path not in known:
                self.add(path)
        return _result(self._examiner, len(self._checked), self._name, self._folder.parent)


def check_structures(path: Path, source: Series, *, name: str) -> CheckResult:
    """Check a SEG, RTSTRUCT or Parametric Map object against the series that it is of."""
    problems, validation = examine_structures(path, path.name, source, scratch=path.parent.parent)
    return CheckResult(name, 1, problems, validation)


def check_tree(
    root: Path,
    source: Path | None = None,
    *,
    intake: IngestOptions = IngestOptions(),  # noqa: B008  (frozen)
) -> list[CheckResult]:
    """Check every derived series below `root`, against the series below `source` that it names.

    intake: the choices that the source was read by. A series is all files with one
    SeriesInstanceUID; it is derived if one of them says so. Without `source` only the rules for
    single images apply. Raises NothingUsableError where there is no derived series.
    """
    if not root.exists():
        raise NothingUsableError(f"{root} does not exist")
    candidates = find_series(source, intake=intake).series if source else []
    uids: set[str] = set()
    found = []
    for number, (paths, headers) in enumerate(_derived_below(root), start=1):
        origin = _source_of(headers, candidates)
        name = _name(root, paths[0], number)
        if headers[0].get("SOPClassUID") in ABOUT_IMAGES:
            result = _check_objects(paths, origin, name)
        else:
            result = _check(root, paths, origin, name=name, uids=uids)
        if source and origin is None:
            rule, remedy = ONE_TO_ONE
            value = "names no image of the source, as read with these --intake choices"
            result.problems.append(Problem("", rule, "SourceImageSequence", value, remedy))
        found.append(result)
    if not found:
        raise NothingUsableError(f"no derived CT series below {root}")
    return found


def _check(
    root: Path, paths: list[Path], source: Series | None, *, name: str, uids: set[str]
) -> CheckResult:
    examiner = SeriesExaminer(root, source, uids)
    for number, path in enumerate(paths, start=1):
        examiner.add(path, number)
    return _result(examiner, len(paths), name)


def _result(
    examiner: SeriesExaminer, files: int, name: str, scratch: Path | None = None
) -> CheckResult:
    """The result once all `files` files were added; scratch: where copied headers may lie."""
    examiner.finish()
    validation = _validated(examiner, files, scratch)
    new = [
        Problem("", program, attribute_of(finding), finding, NEW_FINDING_REMEDY)
        for program, finding in validation.new
    ]
    return CheckResult(name, files, examiner.problems + new, validation)


def _check_objects(paths: list[Path], source: Series | None, name: str) -> CheckResult:
    """SEG, RTSTRUCT or Parametric Map objects of one series."""
    problems: list[Problem] = []
    validation = Validation((), 0, 0)
    for number, path in enumerate(paths, start=1):
        shown = f"file {number}" if UID_LIKE.search(path.name) else path.name
        found, validation = examine_structures(path, shown, source)
        problems += found
    return CheckResult(name, len(paths), problems, replace(validation, of=len(paths)))


def _validated(examiner: SeriesExaminer, of: int, scratch: Path | None) -> Validation:
    """The programs' findings; they need files, and a source to compare with."""
    origins = examiner.origins
    if not origins or not all(path.is_file() for path in origins):
        return Validation((), 0, of)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=scratch) as folder:
        sources = files_of(list(origins.values()), Path(folder))
        pairs = list(zip(origins, sources, strict=True))
        frames = {
            path: [one.load(pixels=False) for one in instances]
            for path, instances in examiner.frame_origins.items()
        }
        return validate(pairs, Path(folder), examiner.uids_of_source, frames)


def _derived_below(root: Path) -> Iterator[tuple[list[Path], list[Dataset]]]:
    """Each derived series' files, and the headers of those that say they are derived."""
    paths: dict[str, list[Path]] = defaultdict(list)
    derived: dict[str, list[Dataset]] = defaultdict(list)
    damaged: dict[Path, list[Path]] = defaultdict(list)
    for path in files_below(root):
        if any(part.startswith(".") for part in path.relative_to(root).parts):
            continue  # partial output of a run that was killed
        header = _header(path)
        if header is None:
            if path.suffix.lower() == ".dcm":
                damaged[path.parent].append(path)
            continue
        uid = str(header.get("SeriesInstanceUID", ""))
        paths[uid].append(path)
        if claims_to_be_derived(header):
            derived[uid] += _images_in(header)
    for uid, headers in derived.items():
        folders = {path.parent for path in paths[uid]}
        beside = [path for folder in folders for path in damaged.pop(folder, [])]
        yield sorted(paths[uid] + beside), headers


def _images_in(header: Dataset) -> list[Dataset]:
    """The headers of the images of one file: of a multi-frame one, its frames'."""
    if is_multi_frame_ct(header.get("SOPClassUID", "")):
        try:
            return frame_headers(header)
        except Unreadable:  # which the check of the file will name
            pass
    return [header]


def _header(path: Path) -> Dataset | None:
    try:
        return read_dataset(path, stop_before_pixels=True)
    except Exception:  # damaged files, and files that are no DICOM, raise many kinds
        return None


def _source_of(headers: list[Dataset], candidates: list[Series]) -> Series | None:
    """The series with the largest number of the images that the headers name; of several that
    share the UIDs of their images, the one that the headers are most like."""
    named = {uid for header in headers for uid, _ in references(header)}
    named |= {uid for header in headers for uid in structures_of(header)[1]}

    def shared(series: Series) -> int:
        """How many of the images that are named the series has."""
        return len(named & {uid for uid, _ in keys_of(series)})

    best = max(candidates, key=lambda one: (shared(one), likeness(headers[0], one)), default=None)
    return best if best and shared(best) else None


def _name(root: Path, path: Path, number: int) -> str:
    """The series' folder below `root`, or its number where the folder may identify the patient."""
    folder = path.parent.relative_to(root).as_posix() if path != root else "."
    header = _header(path) or Dataset()
    unsafe = folder == "." or UID_LIKE.search(folder) or identity_in(folder, header)
    return f"series {number}" if unsafe else folder
