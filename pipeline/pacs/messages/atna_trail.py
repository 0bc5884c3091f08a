"""What a hospital's audit messages are of: receiving, retrieving, sending, releasing, reviewing,
logins, and the parts that start and stop."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from pydicom.errors import InvalidDicomError

from pipeline.core.atomic_files import locked, write_json
from pipeline.core.errors import ConfigError
from pipeline.core.pseudonyms import installation_key, patient_pseudonym, pseudonym
from pipeline.core.types import Json
from pipeline.pacs.messages.atna_message import (
    ACCEPTED,
    ACCESSED,
    APPLICATION,
    APPLICATION_ACTIVITY,
    AUTHENTICATION,
    DESTINATION,
    LAUNCHER,
    LOGIN,
    LOGOUT,
    MINOR_FAILURE,
    REJECTED,
    RELEASED,
    SERIOUS_FAILURE,
    SOURCE,
    STARTED,
    STOPPED,
    SUCCESS,
    TRANSFERRED,
    AuditEvent,
    Code,
    Participant,
    StudyImages,
)
from pipeline.pacs.messages.atna_spool import AtnaSpool
from pipeline.pacs.settings.endpoints import Destination, Dicomweb, DimseSource, StudyFolder
from pipeline.pacs.settings.hospital import Pacs
from pipeline.pacs.work.folder import WorkFolder
from pipeline.pacs.work.item import WorkItem
from pipeline.pacs.work.ledger import Ledger
from pipeline.pacs.work.private import private_folder
from pipeline.pacs.work.received_files import read_header
from pipeline.review.decisions import ACCEPT, REJECT, audit_of

#: How far the readers' decisions were looked at.
_REVIEWED = "reviewed.json"
_NAMES = ("StudyInstanceUID", "PatientID", "IssuerOfPatientID", "SOPClassUID")
_VERDICTS = {ACCEPT: ACCEPTED, REJECT: REJECTED}
#: Acts of the review page's audit log (pipeline.review): what they are, and how they ended.
_LOGINS = {
    "logged in": (LOGIN, SUCCESS),
    "logged out": (LOGOUT, SUCCESS),
    "login refused": (LOGIN, MINOR_FAILURE),
}
_PAGE = {"started": STARTED, "ended": STOPPED}
_REVIEW = "ldct review"


class AtnaTrail:
    """Keeps a message of each event, for a hospital with `atna`; does nothing for others.

    A message is kept before the event counts as done, so that none is without one; after a kill
    between the two there may be two of one event.
    """

    def __init__(self, settings: Pacs) -> None:
        self._settings, self._atna = settings, settings.atna
        self._places = WorkFolder(settings.work)
        self.spool = AtnaSpool(settings.work / "atna", settings.atna) if settings.atna else None

    def received(self, paths: Sequence[Path], callers: Sequence[str]) -> None:
        """A series came by C-STORE. callers: the AE titles that sent it."""
        title = self._settings.receive.title
        senders = [Participant(name, True, SOURCE) for name in callers or ("unknown",)]
        self._add(TRANSFERRED, "C", [*senders, _ours(title, DESTINATION)], paths)

    def retrieved(self, work: WorkItem, paths: Sequence[Path]) -> None:
        """A series was retrieved from the source, or copied from its folder."""
        source = self._settings.source
        if source is None:
            return
        sender = Participant(*_name_of(source), SOURCE, _host_of(source))
        to = _ours(self._settings.receive.title, DESTINATION, requestor=True)
        self._add(TRANSFERRED, "C", [sender, to], paths, work=work.id)

    def sent(self, work: WorkItem, to: Destination, folders: Sequence[Path], *, well: bool) -> None:
        """A result was sent to one destination; well: it has every image, else it failed for
        good."""
        paths = [path for folder in folders for path in sorted(folder.glob("*.dcm"))]
        calling = to.dimse.calling if to.dimse else self._settings.receive.title
        place = to.dimse or to.dicomweb or StudyFolder(folder=to.folder or Path())
        user = to.dimse.called if to.dimse else _name_of(place)[0]
        receiver = Participant(user, False, DESTINATION, _host_of(place))
        outcome = SUCCESS if well else SERIOUS_FAILURE
        ours = _ours(calling, SOURCE, requestor=True)
        self._add(TRANSFERRED, "C", [ours, receiver], paths, work=work.id, outcome=outcome)

    def released(self, work: WorkItem, user: str) -> None:
        """A person let held work be sent."""
        people = [Participant(user, True), _ours(self._settings.receive.title)]
        self._add(ACCESSED, "U", people, self._result(work.id), work=work.id, kinds=[RELEASED])

    def started(self, part: str) -> None:
        """A part of this software starts, in this process (PS3.15 A.5.3.1). part: its command."""
        self._activity(STARTED, part, getpass.getuser())

    def stopped(self, part: str) -> None:
        """It ends in good order; of one that is killed there is no message."""
        self._activity(STOPPED, part, getpass.getuser())

    def look_at_reviews(self, ledger: Ledger) -> None:
        """Keep a message of each reader's decision, each login, and each start and stop of the
        review page since the last look; at the first look, of none before."""
        if self.spool is None or not self._places.results.is_dir() or not ledger.folder.is_dir():
            return
        private_folder(self.spool.folder)
        with locked(self.spool.folder):
            records = audit_of(self._places.results).records()
            known = self._reviewed()
            for record in records[known if known is not None else len(records) :]:
                self._reviewed_by(record, ledger)
            if known != len(records):
                write_json(self.spool.folder / _REVIEWED, {"records": len(records)})

    def _reviewed_by(self, record: Json, ledger: Ledger) -> None:
        act = str(record.get("act"))
        if verdict := _VERDICTS.get(act):
            self._decided(ledger, str(record["folder"]), str(record["reader"]), verdict)
        elif act in _LOGINS:
            self._authenticated(record, *_LOGINS[act])
        elif act in _PAGE:
            self._activity(_PAGE[act], _REVIEW)

    def _authenticated(self, record: Json, kind: Code, outcome: str) -> None:
        """A reader logged in or out, or was refused (PS3.15 A.5.3.12)."""
        host = str(record.get("address") or "unknown")  # which a refusal has not
        person = Participant(str(record.get("reader") or "unknown"), True, host=host)
        people = [person, _ours(self._settings.receive.title)]
        self._keep(AuditEvent(AUTHENTICATION, "E", people, None, outcome, [kind]))

    def _activity(self, kind: Code, part: str, launcher: str = "") -> None:
        """launcher: the account that starts it; "" for one that is seen from another process."""
        number = str(os.getpid()) if launcher else "unknown"
        title, host = self._settings.receive.title, socket.gethostname()
        people = [Participant(number, False, APPLICATION, host, title, part)]
        if launcher:
            people.append(Participant(launcher, True, LAUNCHER, host))
        self._keep(AuditEvent(APPLICATION_ACTIVITY, "E", people, None, SUCCESS, [kind]))

    def _keep(self, event: AuditEvent) -> None:
        if self.spool is not None:
            self.spool.add(event)

    def _decided(self, ledger: Ledger, folder: str, reader: str, verdict: Code) -> None:
        name = folder.partition("/")[0]
        people = [Participant(reader, True), _ours(self._settings.receive.title)]
        try:
            study = ledger.get(name).study_uid
        except ConfigError:  # a folder that no work made
            study = ""
        paths = self._result(name)
        self._add(ACCESSED, "R", people, paths, work=name, kinds=[verdict], study=study)

    def _reviewed(self) -> int | None:
        assert self.spool is not None
        try:
            found = json.loads((self.spool.folder / _REVIEWED).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return int(found["records"])

    def _result(self, name: str) -> list[Path]:
        return sorted(self._places.result(name).glob("*/*.dcm"))

    def _add(
        self,
        event: Code,
        action: str,
        people: Sequence[Participant],
        paths: Sequence[Path],
        *,
        work: str = "",
        outcome: str = SUCCESS,
        kinds: Sequence[Code] = (),
        study: str = "",
    ) -> None:
        if self.spool is None or self._atna is None:
            return
        images: dict[str, int] = {}
        patient = issuer = ""
        for path in paths:
            try:
                header = read_header(path, _NAMES)
            except (OSError, InvalidDicomError):
                continue
            kind = str(header.get("SOPClassUID", ""))
            images[kind] = images.get(kind, 0) + 1
            study = study or str(header.get("StudyInstanceUID", ""))
            patient = patient or str(header.get("PatientID", "") or "")
            issuer = issuer or str(header.get("IssuerOfPatientID", "") or "")
        if self._atna.identity == "pseudonyms":
            key = installation_key()
            study = pseudonym(key, "st", study) if study else ""
            patient = patient_pseudonym(key, patient, issuer) if patient else ""
        about = StudyImages(study, patient, images, work)
        self.spool.add(AuditEvent(event, action, people, about, outcome, kinds))


def _ours(title: str, role: Code | None = None, *, requestor: bool = False) -> Participant:
    return Participant(title, requestor, role, socket.gethostname())


def _name_of(place: object) -> tuple[str, bool]:
    """How a service or folder is called, and that it asks for nothing."""
    if isinstance(place, Dicomweb):
        return urlsplit(place.url).hostname or "unknown", False
    if isinstance(place, DimseSource):
        return place.dimse.called, False
    return "folder", False


def _host_of(place: object) -> str:
    if isinstance(place, Dicomweb):
        return urlsplit(place.url).hostname or ""
    if isinstance(place, DimseSource):
        return place.dimse.host
    return "" if isinstance(place, StudyFolder) else str(getattr(place, "host", ""))
