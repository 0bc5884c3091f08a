"""Is a derived series what it says it is? Asked by `ldct check`, and before every export.

Our own rules (rules.py, source_rules.py), and with dicom3tools installed what dciodvfy and
dcentvfy find new against the source. What is told names file, rule, attribute and what to do;
never who the patient is, nor a UID.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from pipeline.core.errors import LdctError, NothingUsableError
from pipeline.dicom.deidentify.identity_text import identity_in
from pipeline.dicom.derived.dicom3tools import Validation, attribute_of, files_of, validate
from pipeline.dicom.derived.provenance import (
    STRUCTURES,
    claims_to_be_derived,
    keys_of,
    references,
    structures_of,
)
from pipeline.dicom.derived.series_check import ONE_TO_ONE, UID_LIKE, Examination, Problem
from pipeline.dicom.derived.structures_check import examine_structures
from pipeline.dicom.read.files import files_below, read_dataset
from pipeline.dicom.read.headers import Instance
from pipeline.dicom.read.series import Series, find_series
from pipeline.dicom.read.volume import Slice

NEW_FINDING = "write what the program asks for, as the source does"


@dataclass(frozen=True)
class Checked:
    """One derived series: how many files, what is wrong, and what validated it."""

    name: str
    instances: int
    problems: list[Problem]
    validation: Validation

    @property
    def passed(self) -> bool:
        return not self.problems

    def summary(self) -> dict[str, Any]:
        """What a report of many series says."""
        return {"problems": len(self.problems), **self.validation.as_dict()}

    def facts(self) -> dict[str, Any]:
        return {
            "series": self.name,
            "instances": self.instances,
            "passed": self.passed,
            "problems": [asdict(problem) for problem in self.problems],
            **self.validation.as_dict(),
        }

    def require(self) -> None:
        """Raises LdctError that names the first problem, where there is one."""
        if self.problems:
            more = len(self.problems) - 1
            rest = f" (and {more} more problems)" if more else ""
            raise LdctError(
                f"the derived series {self.name} is not handed over: {self.problems[0]}{rest}"
            )


def check_series(folder: Path, source: Series, *, name: str = "") -> Checked:
    """The derived series that is all of `folder`, beside every slice of its source."""
    return SeriesCheck(folder, source, name=name or folder.name).finish()


class SeriesCheck:
    """check_series, of a folder that is still being written: file by file as each is whole.

    Headers of slices that are no files of their own lie beside `folder` for a moment, where
    the derived series will say the same of the patient.
    """

    def __init__(self, folder: Path, source: Series, *, name: str) -> None:
        self._folder, self._name = folder, name
        self._examination = Examination(folder, source, set())
        self._taken: list[Path] = []

    def take(self, path: Path, made: Slice | None = None) -> None:
        """Judge the next file, which must not change any more; made: the slice that it should
        name, whose source is not read again."""
        self._taken.append(path)
        self._examination.take(path, len(self._taken), made)

    def finish(self) -> Checked:
        """Judge the files that nobody has shown, and the series as a whole."""
        known = set(self._taken)
        for path in sorted(self._folder.iterdir()):
            if path.is_file() and path not in known:
                self.take(path)
        return _judged(self._examination, len(self._taken), self._name, self._folder.parent)


def check_structures(path: Path, source: Series, *, name: str) -> Checked:
    """A SEG or RTSTRUCT object, beside the series that it is of."""
    problems, validation = examine_structures(path, path.name, source, scratch=path.parent.parent)
    return Checked(name, 1, problems, validation)


def check_tree(root: Path, source: Path | None = None) -> list[Checked]:
    """Every derived series below `root`, beside those below `source` that they name, if given.

    A series is all that shares a Series Instance UID; it is derived as soon as one of its
    files says so. Raises NothingUsableError where there is none.
    """
    if not root.exists():
        raise NothingUsableError(f"{root} does not exist")
    candidates = find_series(source).series if source else []
    uids: set[str] = set()
    found = []
    for number, (paths, headers) in enumerate(_derived_below(root), start=1):
        origin = _source_of(headers, candidates)
        name = _name(root, paths[0], number)
        if headers[0].get("SOPClassUID") in STRUCTURES:
            checked = _check_objects(paths, origin, name)
        else:
            checked = _check(root, paths, origin, name=name, uids=uids)
        if source and origin is None:
            rule, remedy = ONE_TO_ONE
            told = "names no image of the source"
            checked.problems.append(Problem("", rule, "SourceImageSequence", told, remedy))
        found.append(checked)
    if not found:
        raise NothingUsableError(f"no derived CT series below {root}")
    return found


def _check(
    root: Path, paths: list[Path], source: Series | None, *, name: str, uids: set[str]
) -> Checked:
    examination = Examination(root, source, uids)
    for number, path in enumerate(paths, start=1):
        examination.take(path, number)
    return _judged(examination, len(paths), name)


def _judged(
    examination: Examination, files: int, name: str, scratch: Path | None = None
) -> Checked:
    """All of its files have been taken."""
    examination.finish()
    validation = _validated(examination.origins, files, scratch)
    new = [
        Problem("", program, attribute_of(finding), finding, NEW_FINDING)
        for program, finding in validation.new
    ]
    return Checked(name, files, examination.problems + new, validation)


def _check_objects(paths: list[Path], source: Series | None, name: str) -> Checked:
    """SEG or RTSTRUCT objects of one series."""
    problems: list[Problem] = []
    validation = Validation((), 0, 0)
    for number, path in enumerate(paths, start=1):
        shown = f"file {number}" if UID_LIKE.search(path.name) else path.name
        found, validation = examine_structures(path, shown, source)
        problems += found
    return Checked(name, len(paths), problems, replace(validation, of=len(paths)))


def _validated(origins: dict[Path, Instance], of: int, scratch: Path | None) -> Validation:
    """Only files can be shown to the programs, and only beside a source."""
    if not origins or not all(path.is_file() for path in origins):
        return Validation((), 0, of)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=scratch) as folder:
        sources = files_of(list(origins.values()), Path(folder))
        return validate(list(zip(origins, sources, strict=True)))


def _derived_below(root: Path) -> Iterator[tuple[list[Path], list[Dataset]]]:
    """Each derived series' files, and the headers of those that say they are derived."""
    paths: dict[str, list[Path]] = defaultdict(list)
    derived: dict[str, list[Dataset]] = defaultdict(list)
    damaged: dict[Path, list[Path]] = defaultdict(list)
    for path in files_below(root):
        if any(part.startswith(".") for part in path.relative_to(root).parts):
            continue  # what a killed run left half written
        header = _header(path)
        if header is None:
            if path.suffix.lower() == ".dcm":
                damaged[path.parent].append(path)
            continue
        uid = str(header.get("SeriesInstanceUID", ""))
        paths[uid].append(path)
        if claims_to_be_derived(header):
            derived[uid].append(header)
    for uid, headers in derived.items():
        folders = {path.parent for path in paths[uid]}
        beside = [path for folder in folders for path in damaged.pop(folder, [])]
        yield sorted(paths[uid] + beside), headers


def _header(path: Path) -> Dataset | None:
    try:
        return read_dataset(path, stop_before_pixels=True)
    except Exception:  # damaged files, and files that are no DICOM, raise many kinds
        return None


def _source_of(headers: list[Dataset], candidates: list[Series]) -> Series | None:
    """The series that has most of the images that the headers name."""
    named = {uid for header in headers for uid, _ in references(header)}
    named |= {uid for header in headers for uid in structures_of(header)[1]}

    def shared(series: Series) -> int:
        return len(named & {uid for uid, _ in keys_of(series)})

    best = max(candidates, key=shared, default=None)
    return best if best and shared(best) else None


def _name(root: Path, path: Path, number: int) -> str:
    """The series' folder below `root`, unless that may say who the patient is."""
    folder = path.parent.relative_to(root).as_posix() if path != root else "."
    header = _header(path) or Dataset()
    unsafe = folder == "." or UID_LIKE.search(folder) or identity_in(folder, header)
    return f"series {number}" if unsafe else folder
