"""Find the CT series in a folder tree or archive, by their headers alone, and check them.

Pixels are read later, once (pipeline.dicom.read.volume). A series is what may be stacked: one
study, series, orientation, matrix, pixel spacing, kernel and tube voltage (PS3.3 A.3, C.8.2.1), and
one slice at each place. A DICOM series that holds more becomes several, each with a name.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydicom.dataset import Dataset

from pipeline.core.errors import NothingUsableError
from pipeline.core.refusals import Disposition, Refusal, Unreadable, count_of, refusal_of
from pipeline.dicom.read.dicomdir import is_index, missing_files
from pipeline.dicom.read.files import files_below
from pipeline.dicom.read.grouping import (
    Part,
    frame_of_reference_warnings,
    in_groups,
    require_parallel,
    unsaid_warnings,
)
from pipeline.dicom.read.headers import Instance, read_instances
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.shared_identifiers import with_own_uids, with_patient_of_series
from pipeline.dicom.read.spacing import instance_numbers, spacing_of
from pipeline.dicom.read.splitting import parts_of, without_copies


@dataclass(frozen=True)
class Series:
    """Slices of one acquisition, sorted along their normal.

    part names the volume where its DICOM series holds several; exact_part has also the values
    that part numbers, since they may identify a patient: for hashes, never shown. warnings: what
    a user must know of the series, without identity. evenly_spaced is False where the slices may
    be used one by one but not as a 3-D volume.
    """

    instances: tuple[Instance, ...]
    warnings: tuple[str, ...] = ()
    evenly_spaced: bool = True
    part: str = ""
    exact_part: str = field(default="", repr=False)

    @property
    def header(self) -> Dataset:
        """The first slice's header, for what all slices have in common; no pixels."""
        return self.instances[0].header

    def keeping(self, instances: tuple[Instance, ...]) -> Series:
        """The series with these slices alone, checked again; gaps are warnings.

        Raises Unreadable as `checked` does.
        """
        return checked(instances, self.part, exact_part=self.exact_part, known_missing=math.inf)


@dataclass(frozen=True)
class Discovery:
    """The CT series below `root`, and every file that belongs to none of them."""

    root: Path
    series: list[Series] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)


def find_series(
    root: Path,
    progress: Callable[[int], None] = lambda files: None,
    *,
    intake: IngestOptions = IngestOptions(),  # noqa: B008  (frozen)
) -> Discovery:
    """Every CT series below `root` (or the one file `root`), and every file refused.

    progress: called with the number of files read so far. intake: the user's choices.
    Raises NothingUsableError where `root` is not there or not readable.
    """
    if not root.exists():
        raise NothingUsableError(f"{root} does not exist")
    # Given a disc's index, read the disc.
    root = root.parent if is_index(root) and root.is_file() else root
    discovery = Discovery(root)
    leave_out = discovery.refusals.append
    instances: list[Instance] = []
    files = files_below(root, skip=intake.skip_folders, leave_out=leave_out)
    for count, path in enumerate(files, start=1):
        progress(count)
        found = _read(path, intake)
        if isinstance(found, list):
            instances += found
        else:
            discovery.refusals.append(found)
            discovery.refusals.extend(missing_files(path))
    if intake.unidentified == "folder":
        instances = with_own_uids(instances)
    groups = in_groups(with_patient_of_series(instances), leave_out)
    known = _KnownGaps.of(discovery.refusals, groups)
    for group in groups:
        _add(discovery, group, known, intake)
    return discovery


def _read(path: Path, intake: IngestOptions) -> list[Instance] | Refusal:
    try:
        return read_instances(path, intake)
    except Unreadable as fault:
        return fault.refusal(path)


@dataclass(frozen=True)
class _KnownGaps:
    """What explains slices that a volume lacks: damaged files in its folders, which are reported
    already, and instance numbers in other volumes of its DICOM series."""

    damaged: Counter[Path]
    numbers: dict[str, set[int]]

    @classmethod
    def of(cls, refusals: list[Refusal], groups: list[Part]) -> _KnownGaps:
        """From all files refused so far and all slices found."""
        quarantined = (r for r in refusals if r.disposition is Disposition.QUARANTINED)
        numbers: dict[str, set[int]] = defaultdict(set)
        for group in groups:
            uid = group.instances[0].header.SeriesInstanceUID
            numbers[uid] |= instance_numbers(group.instances)
        return cls(Counter(refusal.path.parent for refusal in quarantined), numbers)

    def damaged_beside(self, instances: tuple[Instance, ...]) -> int:
        """How many damaged files lie in the slices' folders."""
        return sum(self.damaged[folder] for folder in {i.path.parent for i in instances})


def _add(discovery: Discovery, group: Part, known: _KnownGaps, intake: IngestOptions) -> None:
    """Check a group of slices and take it as one or more series, or refuse its files, also for a
    unforeseen reason."""
    try:
        parts = parts_of(group.instances)
    except Exception as error:
        discovery.refusals.extend(refusal_of(error, path) for path in _paths(group))
        return
    for part in parts:
        try:
            series, left_out = _series(part, group, known, intake)
        except Exception as error:
            discovery.refusals.extend(refusal_of(error, path) for path in _paths(part))
        else:
            discovery.series.append(series)
            discovery.refusals.extend(left_out)


def _series(
    part: Part, group: Part, known: _KnownGaps, intake: IngestOptions
) -> tuple[Series, list[Refusal]]:
    """A part of a group as a series, and what was left out of it."""
    unique, left_out = without_copies(part.instances)
    damaged = known.damaged_beside(unique)
    series = checked(
        unique,
        part=_joined(group.name, part.name),
        exact_part=_joined(group.exact, part.exact),
        known_missing=damaged if intake.gaps == "refuse" else math.inf,
        numbers_elsewhere=known.numbers[unique[0].header.SeriesInstanceUID],
    )
    copies = sum(refusal.disposition is Disposition.EXCLUDED for refusal in left_out)
    if copies:
        warning = f"{count_of(copies, 'duplicate slice')} left out"
        series = replace(series, warnings=(*series.warnings, warning))
    return series, left_out


def _paths(part: Part) -> list[Path]:
    """The part's files, each once, also of many frames."""
    return list(dict.fromkeys(instance.path for instance in part.instances))


def _joined(*names: str) -> str:
    return ", ".join(filter(None, names))


def checked(
    instances: tuple[Instance, ...],
    part: str,
    *,
    exact_part: str,
    known_missing: float,
    numbers_elsewhere: Set[int] = frozenset(),
) -> Series:
    """A series of slices in order, one at each place, with its warnings.

    part, exact_part: as in Series. known_missing: how many slices may be missing because their
    loss is reported already. numbers_elsewhere: instance numbers in other volumes of the DICOM
    series. Raises Unreadable where more slices are missing, and for slices that are not parallel.
    """
    require_parallel(instances)
    spacing = spacing_of(instances, numbers_elsewhere)
    warnings = [f"one of several volumes in its series: {part}"] if part else []
    if spacing.missing:
        if len(spacing.missing_numbers) > known_missing:
            raise Unreadable(
                f"{spacing.missing}; fetch the whole series, or choose what to do with gaps",
                "ImagePositionPatient",
            )
        warnings.append(spacing.missing)
    header = instances[0].header
    warnings += spacing.warnings
    if "DERIVED" in (header.get("ImageType") or ()):
        warnings.append("the source is itself a derived series (ImageType DERIVED)")
    if any(instance.is_lossy for instance in instances):
        warnings.append("the source was compressed with loss")
    warnings += frame_of_reference_warnings(instances) + unsaid_warnings(instances)
    warnings += dict.fromkeys(remark for instance in instances for remark in instance.remarks)
    return Series(instances, tuple(warnings), spacing.even, part, exact_part)
