"""Which study a piece of work is of: for staff who may know it, and for no log.

Everything else names work by its id. Who owns the work folder and holds the installation's key is
shown the accession number (0008,0050) and the original UIDs, once the audit log of the work folder
has who asked, for what, and why; never what was shown.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from pydicom.errors import InvalidDicomError

from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.pseudonyms import key_file, read_key
from pipeline.core.sanitise import printable_line
from pipeline.pacs.work.folder import WorkFolder
from pipeline.pacs.work.item import OPEN, State, WorkItem
from pipeline.pacs.work.ledger import Ledger
from pipeline.pacs.work.received_files import read_header
from pipeline.review.decisions import audit_of

ACT = "accession shown"
#: Where an accession number was found.
FILES, SOURCE = "files", "source"


class KnowsAccessions(Protocol):
    """A source that can be asked where no file of the work is left."""

    def accession_number(self, study_uid: str, series_uid: str) -> str:
        """The study's accession number; "" where there is none."""


@dataclass(frozen=True)
class StudyOfWork:
    """Identifies a patient's study. found_in: files or source, or why it is not known."""

    work: str
    state: str
    accession_number: str
    study_uid: str
    series_uid: str
    found_in: str

    def to_dict(self) -> dict[str, str]:
        """As `ldct pacs accession --json` has it."""
        return asdict(self)


def studies_of_work(
    work_folder: Path, names: list[str], reason: str, source: KnowsAccessions | None
) -> list[StudyOfWork]:
    """The studies of work by its ids, or without ids of all that is not done.

    Raises ConfigError for who is not authorised, without a reason, and for an id that is none;
    LdctError where the audit log is not whole. Then nothing is shown.
    """
    _require_authorised(work_folder)
    if not reason.strip():
        raise ConfigError("--reason: say why you need to know; it is kept")
    ledger, places = Ledger(work_folder), WorkFolder(work_folder)
    pending = (*OPEN, State.HELD, State.REJECTED, State.DEAD)
    selected = [ledger.get(name) for name in names] if names else ledger.all(*pending)
    audit = audit_of(work_folder)
    audit.require_whole()
    found = [_study(work, places, source) for work in selected]
    asked = {"user": _user(), "reason": printable_line(reason), "work": [w.id for w in selected]}
    audit.append({"act": ACT, **asked})
    return found


def _require_authorised(work_folder: Path) -> None:
    if not work_folder.is_dir() or work_folder.stat().st_uid != os.geteuid():
        raise ConfigError(
            f"{work_folder} is not this account's: run it as the account that runs ldct, such as "
            "by `sudo -u ldct`"
        )
    if not key_file().exists():  # one that is made now would be another installation's
        raise ConfigError(f"the installation's key {key_file()} (LDCT_KEY_FILE) is not there")
    read_key(key_file())


def _user() -> str:
    """The account, and who used sudo to be it."""
    account, person = getpass.getuser(), os.environ.get("SUDO_USER", "")
    return f"{person} as {account}" if person else account


def _study(work: WorkItem, places: WorkFolder, source: KnowsAccessions | None) -> StudyOfWork:
    number, found_in = _of_files(work, places), FILES
    if number is None:
        number, found_in = _of_source(work, source)
    shown = printable_line(number)
    return StudyOfWork(work.id, str(work.state), shown, work.study_uid, work.series_uid, found_in)


def _of_files(work: WorkItem, places: WorkFolder) -> str | None:
    """From a file of the work, as it came or derived; None where none can be read."""
    for path in _files(work, places):
        try:
            header = read_header(path, ("AccessionNumber",))
        except (OSError, InvalidDicomError):
            continue
        return str(header.get("AccessionNumber", "") or "")
    return None


def _files(work: WorkItem, places: WorkFolder) -> Iterator[Path]:
    came = (places.series(work.id), places.dead(work.id) / "series")
    for folder in came:
        yield from folder.glob("*.dcm")
    yield from places.result(work.id).glob("*/*.dcm")


def _of_source(work: WorkItem, source: KnowsAccessions | None) -> tuple[str, str]:
    if source is None:
        return "", "no file is left, and there is no source to ask"
    try:
        return source.accession_number(work.study_uid, work.series_uid), SOURCE
    except LdctError as error:
        return "", printable_line(f"no file is left, and the source: {error}")
