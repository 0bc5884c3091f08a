"""Findings of dciodvfy and dcentvfy (dicom3tools) in derived files that the source has not.

Sources often fail themselves, so findings are compared. Of each finding only its kind, the
attribute and the module are kept, as the programs quote values, which may be a patient's.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from pipeline.core.errors import LdctError
from pipeline.dicom.derived.encode import keep_bytes
from pipeline.dicom.read.files import PREAMBLE
from pipeline.dicom.read.headers import Instance

#: Files of a series that are checked, spread evenly. dciodvfy takes 10 ms a file; dcentvfy takes
#: all its files as arguments, of which a command holds some thousands.
MAX_IOD_FILES = 100
MAX_ENTITY_FILES = 1000
WORKERS = 2
TIMEOUT_S = 60.0

IOD_PROGRAM, ENTITY_PROGRAM = "dciodvfy", "dcentvfy"


@dataclass(frozen=True)
class Validation:
    """Which programs ran, on how many of the derived files, and what is new: (program, finding)."""

    programs: tuple[str, ...]
    files: int
    of: int
    new: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, object]:
        """As a report has it, without the findings; `validated` means that both programs ran."""
        return {
            "validated": self.programs == (IOD_PROGRAM, ENTITY_PROGRAM),
            "programs": list(self.programs),
            "files": self.files,
            "of": self.of,
        }


def validate(pairs: Sequence[tuple[Path, Path]]) -> Validation:
    """Compare derived files with their sources' files, (derived, source) each.

    Up to MAX_IOD_FILES pairs go to dciodvfy and up to MAX_ENTITY_FILES to dcentvfy: the first,
    the last and evenly between. A program that is not installed is left out. Raises LdctError
    for a program that cannot run or takes longer than TIMEOUT_S.
    """
    programs = tuple(name for name in (IOD_PROGRAM, ENTITY_PROGRAM) if shutil.which(name))
    chosen = _spread(pairs, MAX_IOD_FILES) if IOD_PROGRAM in programs else []
    spread = _spread(pairs, MAX_ENTITY_FILES) if pairs and ENTITY_PROGRAM in programs else []
    with ThreadPoolExecutor(WORKERS) as pool:
        # The one long call first, in parallel with the many short ones.
        of_set = pool.submit(_new_in_set, spread)
        of_derived = pool.map(_of_file, [derived for derived, _ in chosen])
        of_source = pool.map(_of_file, [source for _, source in chosen])
        new = {
            (IOD_PROGRAM, finding)
            for derived, source in zip(of_derived, of_source, strict=True)
            for finding in derived - source
        }
        new |= {(ENTITY_PROGRAM, finding) for finding in of_set.result()}
    return Validation(programs, len(chosen), len(pairs), tuple(sorted(new)))


def _spread(pairs: Sequence[tuple[Path, Path]], limit: int) -> list[tuple[Path, Path]]:
    """Up to `limit` pairs, evenly spread."""
    places = np.linspace(0, len(pairs) - 1, min(len(pairs), limit)).round()
    return [pairs[int(place)] for place in places]


def _of_file(path: Path) -> set[str]:
    return _findings([IOD_PROGRAM, "-new", str(path.absolute())], _of_attribute)


def _new_in_set(pairs: Sequence[tuple[Path, Path]]) -> set[str]:
    """What dcentvfy finds in sources and derived files together, but not in the sources alone."""
    if not pairs:
        return set()
    sources = sorted({source for _, source in pairs})
    found = _of_set([*sources, *(derived for derived, _ in pairs)])
    return found - _of_set(sources) if found else found


def _of_set(paths: Sequence[Path]) -> set[str]:
    return _findings([ENTITY_PROGRAM, *(str(path.absolute()) for path in paths)], _of_entity)


def _findings(command: list[str], normal: Callable[[str], str]) -> set[str]:
    try:
        ran = subprocess.run(command, capture_output=True, check=False, timeout=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = type(error).__name__
        raise LdctError(f"{command[0]} did not end well ({reason}); see that it runs") from error
    lines = (ran.stdout + ran.stderr).decode("utf-8", errors="replace").splitlines()
    found = {normal(line) for line in lines if line.startswith(("Error - ", "Warning - "))}
    # On a file that it cannot read at all the program aborts or crashes.
    aborted = ran.returncode < 0 or any(line.startswith("Abort") for line in lines)
    return found | ({f"{command[0]} gave up"} if aborted else set())


def _of_attribute(line: str) -> str:
    """A line of `dciodvfy -new`, without what it quotes.

    Such as "Error - </StudyDate(0008,0020)[1]> - Value invalid for this VR [DA] = <x> - ...":
    what follows the first "= <" up to the last ">" goes, and quoted characters too. A value
    with a line feed leaves its tail on lines that begin otherwise, which are not read.
    """
    line = re.sub(r" = <.*>", "", line)
    return re.sub(r" = [<'].*", "", line).strip()


def _of_entity(line: str) -> str:
    """A line of dcentvfy: kind, message and attribute; never files or values."""
    kind, message = line.split(" - ")[:2]
    element = re.search(r"Element=<(\w+)>", line)
    return f"{kind} - {message.strip()}" + (f" - {element[1]}" if element else "")


def attribute_of(finding: str) -> str:
    """The keyword, or path of keywords, that a finding is about; "" where it names none."""
    path = re.search(r"</([^>]*)>", finding)
    if path:
        return re.sub(r"\([^)]*\)|\[\d+\]", "", path[1])
    return finding.rsplit(" - ", 1)[-1] if finding.count(" - ") == 2 else ""


def files_of(instances: Sequence[Instance], scratch: Path) -> list[Path]:
    """A file for each slice that the programs can read: its own, or a copy of its header in
    `scratch`."""
    return [
        instance.path
        if _is_readable(instance)
        else _copy_of_header(instance, scratch / f"{number}.dcm")
        for number, instance in enumerate(instances)
    ]


def _is_readable(instance: Instance) -> bool:
    """Not so members of archives, frames, files that are completed, and deflated data sets.
    Without a preamble dciodvfy asks less of a file than of the derived one."""
    if instance.frame is not None or instance.completed or not instance.path.is_file():
        return False
    if instance.header.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
        return False
    with instance.path.open("rb") as stream:
        return stream.read(PREAMBLE).endswith(b"DICM")


def _copy_of_header(instance: Instance, path: Path) -> Path:
    """With pixels too few to be an image: of a file with none dciodvfy asks less."""
    dataset = instance.load(pixels=False)
    keep_bytes(dataset)
    dataset.add_new("PixelData", "OW", bytes(2))
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    return path
