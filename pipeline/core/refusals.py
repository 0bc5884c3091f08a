"""Why files of the input were not used, in words for the person who gave them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pipeline.core.errors import LdctError, NothingUsableError
from pipeline.core.types import Json


def count_of(number: int, thing: str) -> str:
    """`1 slice`, `2 slices`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


class Disposition(StrEnum):
    """What became of a file."""

    EXCLUDED = "excluded"  # not CT images: nothing is wrong, and nothing is lost
    QUARANTINED = "quarantined"  # should have been usable, and is not
    USED = "used"  # part of an image that another file names, and read with it


def name_below(path: Path, root: Path) -> str:
    """A file of `root` as reports name it: relative to it, or by its name where it is `root`."""
    return str(path.relative_to(root)) if path != root and path.is_relative_to(root) else path.name


@dataclass(frozen=True)
class Refusal:
    """A file that was not used, and why. `value` never holds identity."""

    path: Path
    disposition: Disposition
    reason: str
    attribute: str = ""
    value: str = ""

    def as_dict(self, root: Path) -> dict[str, str]:
        """For report.json; the file is named relative to `root` where it lies below it."""
        path = self.path
        if path != root and path.is_relative_to(root):
            path = path.relative_to(root)
        return {
            "file": str(path),
            "fate": str(self.disposition),
            "reason": self.reason,
            "attribute": self.attribute,
            "value": self.value,
        }


def by_disposition(refusals: list[Refusal], root: Path) -> dict[str, list[dict[str, str]]]:
    """{"quarantined": [...], "excluded": [...], "used": [...]}, files named relative to `root`."""
    return {
        str(one): [refusal.as_dict(root) for refusal in refusals if refusal.disposition is one]
        for one in Disposition
    }


class Unreadable(Exception):
    """One file cannot be used; carries what its Refusal will say."""

    def __init__(self, reason: str, attribute: str = "", value: object = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.attribute = attribute
        self.value = str(value)

    def refusal(self, path: Path) -> Refusal:
        """The same about the file at `path`, which is quarantined."""
        return Refusal(path, Disposition.QUARANTINED, self.reason, self.attribute, self.value)


class SeriesRefusedError(Exception):
    """No slice of a series can be used, or what is left makes no series; says why for each."""

    def __init__(self, refusals: list[Refusal]) -> None:
        super().__init__(refusals[0].reason if refusals else "an empty series")
        self.refusals = refusals


def reason_of(error: BaseException) -> str:
    """Why something failed: of an unforeseen error its type alone, since its text may
    quote values."""
    if isinstance(error, LdctError | Unreadable):
        return str(error)
    return f"could not be processed ({type(error).__name__})"


def refusal_of(error: BaseException, path: Path) -> Refusal:
    """The file at `path`, quarantined for an error, which need not have been foreseen."""
    if isinstance(error, Unreadable):
        return error.refusal(path)
    return Refusal(path, Disposition.QUARANTINED, reason_of(error))


def nothing_usable(
    root: Path, refusals: list[Refusal], report: Json | None = None
) -> NothingUsableError:
    """Why nothing below `root` could be used: one line with the commonest reason, and a report
    with each file's, by default of nothing else."""
    if not refusals:
        return NothingUsableError(f"{root} is empty: no file to read")
    faulty = [one for one in refusals if one.disposition is Disposition.QUARANTINED]
    reasons = [refusal.reason for refusal in faulty or refusals]
    commonest = Counter(reasons).most_common(1)[0][0]
    return NothingUsableError(
        f"no usable CT series in {root}: {len(refusals)} files refused, "
        f"{reasons.count(commonest)} of them: {commonest}",
        report or by_disposition(refusals, root),
    )


def shown_name(row: Json) -> str:
    """What messages call a row of a report by: its series' key, or its file."""
    return str(row.get("series") or row.get("file"))
