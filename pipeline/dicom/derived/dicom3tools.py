"""Findings of dciodvfy and dcentvfy (dicom3tools) in derived files that the source has not.

Sources often fail themselves, so findings are compared, and so are the values that they are
about. Of each finding only its kind, the attribute and the module are kept, as the programs quote
values, which may be a patient's.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from pipeline.core.errors import LdctError
from pipeline.dicom.derived.encode import keep_bytes
from pipeline.dicom.derived.from_source import SourceValues, is_from_source, is_kept
from pipeline.dicom.derived.write import remove_private_and_overlays
from pipeline.dicom.read.files import PREAMBLE, read_dataset
from pipeline.dicom.read.headers import Instance

#: Files of a series that are checked, spread evenly. dciodvfy takes 10 ms a file; dcentvfy takes
#: all its files as arguments, of which a command holds some thousands.
MAX_IOD_FILES = 100
MAX_ENTITY_FILES = 1000
WORKERS = 2
TIMEOUT_S = 60.0

IOD_PROGRAM, ENTITY_PROGRAM = "dciodvfy", "dcentvfy"


Finding = tuple[str, str]


@dataclass(frozen=True)
class Validation:
    """Which programs ran, on how many of the derived files, and what they found: (program,
    finding) each. new: what this software wrote. from_source: what it carried on."""

    programs: tuple[str, ...]
    files: int
    of: int
    new: tuple[Finding, ...] = ()
    from_source: tuple[Finding, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """As a report has it, without what is new; `validated` means that both programs ran."""
        return {
            "validated": self.programs == (IOD_PROGRAM, ENTITY_PROGRAM),
            "programs": list(self.programs),
            "files": self.files,
            "of": self.of,
            "from_source": [f"{program}: {finding}" for program, finding in self.from_source],
        }


def validate(
    pairs: Sequence[tuple[Path, Path]],
    scratch: Path,
    uids: Collection[str] = (),
    frames: Mapping[Path, Sequence[Dataset]] = MappingProxyType({}),
) -> Validation:
    """Compare derived files with their sources' files, (derived, source) each.

    Up to MAX_IOD_FILES pairs go to dciodvfy and up to MAX_ENTITY_FILES to dcentvfy: the first,
    the last and evenly between. scratch: a folder for copies of headers. uids: what the source
    holds besides. frames: the sources of each frame of a derived multi-frame file. A program that
    is not installed is left out. Raises LdctError for a program that cannot run or takes longer
    than TIMEOUT_S.
    """
    programs = tuple(name for name in (IOD_PROGRAM, ENTITY_PROGRAM) if shutil.which(name))
    chosen = _spread(pairs, MAX_IOD_FILES) if IOD_PROGRAM in programs else []
    spread = _spread(pairs, MAX_ENTITY_FILES) if pairs and ENTITY_PROGRAM in programs else []
    found: dict[Finding, bool] = {}  # whether each is the source's, in all files
    with ThreadPoolExecutor(WORKERS) as pool:
        # The one long call first, in parallel with the many short ones.
        of_set = pool.submit(_in_set, spread)
        of_derived = pool.map(_of_file, [derived for derived, _ in chosen])
        copies = [scratch / f"again-{number}.dcm" for number in range(len(chosen))]
        of_source = pool.map(_of_source, [source for _, source in chosen], copies)
        for pair, derived, source in zip(chosen, of_derived, of_source, strict=True):
            for finding in derived:
                ours = finding not in source and not _brought(finding, pair, uids, frames)
                key = (IOD_PROGRAM, finding)
                found[key] = found.get(key, True) and not ours
        found |= {(ENTITY_PROGRAM, finding): known for finding, known in of_set.result().items()}
    new = tuple(sorted(key for key, known in found.items() if not known))
    from_source = tuple(sorted(key for key, known in found.items() if known))
    return Validation(programs, len(chosen), len(pairs), new, from_source)


def _brought(
    finding: str,
    pair: tuple[Path, Path],
    uids: Collection[str],
    frames: Mapping[Path, Sequence[Dataset]],
) -> bool:
    """Whether the value that a finding of dciodvfy is about is the source's."""
    path = re.search(r"</([^>]*)>", finding)
    if path is None:
        return False
    derived, source = map(_header, pair)
    return is_from_source(path[1], derived, SourceValues(source, uids, frames.get(pair[0], ())))


def _header(path: Path) -> Dataset:
    return read_dataset(path, stop_before_pixels=True)


def _spread(pairs: Sequence[tuple[Path, Path]], limit: int) -> list[tuple[Path, Path]]:
    """Up to `limit` pairs, evenly spread."""
    places = np.linspace(0, len(pairs) - 1, min(len(pairs), limit)).round()
    return [pairs[int(place)] for place in places]


def _of_file(path: Path) -> set[str]:
    return _findings([IOD_PROGRAM, "-new", str(path.absolute())], _of_attribute)


def _of_source(path: Path, copy: Path) -> set[str]:
    """Also what is found in a copy of the header, at `copy`, where the program gives up on the
    file: on sound ones too, such as implicit VR with private elements behind the pixels."""
    found = _of_file(path)
    if f"{IOD_PROGRAM} gave up" in found:
        dataset = read_dataset(path, stop_before_pixels=True)
        found |= _of_file(_save_header(dataset, copy))
    return found


def _in_set(pairs: Sequence[tuple[Path, Path]]) -> dict[str, bool]:
    """What dcentvfy finds in sources and derived files together, and whether it finds it in the
    sources alone, or the attribute means the same in both."""
    if not pairs:
        return {}
    sources = sorted({source for _, source in pairs})
    found = _of_set([*sources, *(derived for derived, _ in pairs)])
    known = _of_set(sources) if found else set()
    return {finding: finding in known or _is_kept(finding, pairs) for finding in found}


def _is_kept(finding: str, pairs: Sequence[tuple[Path, Path]]) -> bool:
    headers = ((_header(derived), _header(source)) for derived, source in pairs)
    return is_kept(attribute_of(finding), headers)


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
        else _save_header(instance.load(pixels=False), scratch / f"{number}.dcm")
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


def _save_header(dataset: Dataset, path: Path) -> Path:
    """With pixels too few to be an image: of a file with none dciodvfy asks less. Private values
    are what a maker put there, not always what a dictionary expects."""
    remove_private_and_overlays(dataset)
    keep_bytes(dataset)
    dataset.add_new("PixelData", "OW", bytes(2))
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    return path
