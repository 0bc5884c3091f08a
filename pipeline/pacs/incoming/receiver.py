"""A C-STORE service class provider (PS3.4 B): images are written as they come, undecoded.

An image is acknowledged once it is on the disk. A study is complete when no image has come for a
while, no association is open or broke off, and the source has no more images of it. What comes
later of a series joins what came before.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from io import BytesIO
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.pdu_primitives import A_RELEASE
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

from pipeline.config.credentials import server_context
from pipeline.core.atomic_files import sync
from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.pseudonyms import pseudonym
from pipeline.core.refusals import Unreadable
from pipeline.dicom.read.deflated import require_bounded
from pipeline.pacs.incoming.joining import RECEIVED, join_earlier, put_away, remove_sent
from pipeline.pacs.incoming.open_associations import OpenAssociations, marks
from pipeline.pacs.messages.atna_trail import AtnaTrail
from pipeline.pacs.peers.bounded_server import BoundedServer, OnRefusal
from pipeline.pacs.peers.commitment import take_report
from pipeline.pacs.peers.peer import Peer
from pipeline.pacs.peers.storage_classes import SOP_CLASSES, TRANSFER_SYNTAXES
from pipeline.pacs.settings.hospital import Pacs
from pipeline.pacs.settings.rules import SeriesFacts, first_match, has_wrong_clock, match_rules
from pipeline.pacs.work.folder import WorkFolder
from pipeline.pacs.work.item import State
from pipeline.pacs.work.ledger import Ledger
from pipeline.pacs.work.private import private_folder
from pipeline.pacs.work.received_files import (
    UID_NAMES,
    callers_of,
    facts_of,
    folders_in,
    images_in,
    move_unless_there,
    note_caller,
    read_header,
    series_folders,
    series_in,
    series_uid_of,
)

logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)

#: C-STORE status (PS3.4 B.2.3).
SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000


@dataclass(frozen=True)
class Swept:
    """How many series were added to the ledger and match no rule, how many studies are taken
    although the association that sent them broke off, and how many series have a study date that
    no scanner with a right clock gives."""

    added: int = 0
    unmatched: int = 0
    cut: int = 0
    wrong_clock: int = 0

    def __add__(self, other: Swept) -> Swept:
        return Swept(
            self.added + other.added,
            self.unmatched + other.unmatched,
            self.cut + other.cut,
            self.wrong_clock + other.wrong_clock,
        )

    def __bool__(self) -> bool:
        return self != Swept()


@dataclass
class Receiver:
    """Receives studies into the work folder, and adds complete ones to the ledger.

    key: the installation's, for the pseudonyms that folders and files are named by. source: None
    where there is no PACS to ask whether a study is complete. on_refusal: called for a peer, or an
    image of one, that was not taken. on_answer: called with the status of each C-STORE response.
    """

    settings: Pacs
    ledger: Ledger
    model: str
    key: bytes
    source: Peer | None = None
    today: Callable[[], date] = date.today
    on_refusal: OnRefusal = lambda _peer, _why: None
    on_answer: Callable[[int], None] = lambda _status: None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._associations = OpenAssociations(self.places.incoming)
        self._trail = AtnaTrail(self.settings)

    @property
    def places(self) -> WorkFolder:
        """Where received studies and the files of each piece of work lie."""
        return WorkFolder(self.settings.work)

    def start(self) -> BoundedServer:
        """Listen, in threads of its own, until `shutdown` of what is returned.

        Raises ConfigError where the port cannot be listened on.
        """
        receive = self.settings.receive
        entity = AE(ae_title=receive.title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(receive.callers)
        contexts = [build_context(kind, TRANSFER_SYNTAXES) for kind in SOP_CLASSES]
        contexts += [_reports_context(), build_context(Verification)]
        handlers = [
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_N_EVENT_REPORT, self._on_report),
            (evt.EVT_ESTABLISHED, partial(self._on_event, self._associations.established)),
            (evt.EVT_ACSE_SENT, self._on_acse_sent),
            (evt.EVT_CONN_CLOSE, partial(self._on_event, self._associations.closed)),
        ]
        try:
            server: BoundedServer = entity.make_server(
                (receive.host, receive.port),
                server_class=BoundedServer,
                contexts=contexts,
                evt_handlers=handlers,
                ssl_context=server_context(receive.tls) if receive.tls else None,
                max_message_bytes=receive.max_image_mib * 1024**2,
                on_refusal=self.on_refusal,
            )
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {receive.host}:{receive.port}: {error.strerror}"
            ) from error
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def sweep(self) -> Swept:
        """Add the studies that are complete to the ledger, and remove what is kept no longer."""
        self._move_complete()
        swept = Swept()
        for study in folders_in(self.places.arrived):
            swept += self._add_to_ledger(study)
        remove_sent(self.ledger, self.places, keep_s=self.settings.receive.keep_s)
        return swept

    def _on_event(self, happened: Callable[[int], None], event: Event) -> None:
        with self._lock:
            happened(id(event.assoc))

    def _on_acse_sent(self, event: Event) -> None:
        # Not EVT_RELEASED: that may come after EVT_CONN_CLOSE, which is another thread's.
        if isinstance(event.primitive, A_RELEASE):
            self._on_event(self._associations.released, event)

    def _on_store(self, event: Event) -> int | Dataset:
        answer = self._stored(event)
        self.on_answer(answer if isinstance(answer, int) else int(answer.Status))
        return answer

    def _on_report(self, event: Event) -> tuple[int, None]:
        return take_report(self.places.commitments, event), None

    def _stored(self, event: Event) -> int | Dataset:
        try:
            content = event.encoded_dataset()
            require_bounded(BytesIO(content))
            header = read_header(BytesIO(content), UID_NAMES)
            names = [pseudonym(self.key, "r", str(header[name].value)) for name in UID_NAMES]
        except (InvalidDicomError, KeyError, ValueError, NotImplementedError):
            return CANNOT_UNDERSTAND
        except Unreadable as error:
            peer = event.assoc.requestor.address_info
            self.on_refusal(peer.address if peer else "", str(error))
            return _refused(CANNOT_UNDERSTAND, "deflated beyond reason: send it not deflated")
        try:
            with self._lock:
                self._associations.sends(id(event.assoc), names[0])
                series = self.places.incoming / names[0] / names[1]
                note_caller(series, event.assoc.requestor.ae_title.strip())
                self._save(content, *names)
        except OSError:
            return OUT_OF_RESOURCES
        return SUCCESS

    def _save(self, content: bytes, study: str, series: str, image: str) -> None:
        """Write an image whole and to the disk. Another one of the same UID is kept beside the
        first, for the reader to refuse."""
        folder = self.places.incoming / study / series
        private_folder(folder)
        path, copies = folder / f"{image}.dcm", 1
        while path.exists():
            if path.read_bytes() == content:
                os.utime(folder)
                return
            copies += 1
            path = folder / f"{image}-{copies}.dcm"
        hidden = folder / f".{path.name}"
        try:
            hidden.write_bytes(content)
            sync(hidden)
            os.replace(hidden, path)
        finally:
            hidden.unlink(missing_ok=True)  # of a full disk
        sync(folder)

    def _move_complete(self) -> None:
        """Move studies that are complete to where images that still come cannot reach them."""
        private_folder(self.places.arrived)
        for study in folders_in(self.places.incoming):
            # The source is asked without the lock: an association must not wait for it.
            if not self._is_quiet(study) or self._lacks_images(study):
                continue
            with self._lock:
                if self._is_quiet(study):
                    os.replace(study, self.places.arrived / f"{study.name}-{uuid.uuid4().hex[:8]}")

    def _is_quiet(self, study: Path) -> bool:
        receive = self.settings.receive
        wait_s = receive.patience_s if marks(study) else receive.silence_s
        return not self._associations.is_sending(study.name) and self._quiet_s(study) >= wait_s

    def _quiet_s(self, study: Path) -> float:
        return self.ledger.now() - max(p.stat().st_mtime for p in [study, *folders_in(study)])

    def _lacks_images(self, study: Path) -> bool:
        """Whether the source has images of a received series that have not come yet."""
        if self.source is None or self._quiet_s(study) >= self.settings.receive.patience_s:
            return False
        for folder in series_folders(study):
            received = series_in(folder)
            try:
                present = self.source.list_instances(received.study_uid, received.series_uid)
            except LdctError:
                return True  # not known: wait
            if present.instance_uids - received.instance_uids:
                return True
        return False

    def _add_to_ledger(self, study: Path) -> Swept:
        """Add a study's series to the ledger, then move their files: after a kill between the two
        the next sweep moves them, and the worker waits for them."""
        added = unmatched = wrong_clock = 0
        cut = bool(marks(study))
        for folder in series_folders(study):
            self._trail.received(images_in(folder), callers_of(folder))
            parts = join_earlier(folder, series_uid_of(folder), self.ledger, self.places)
            received, facts = series_in(folder), facts_of(folder)
            rule = self._rule(facts)
            wrong_clock += has_wrong_clock(facts, self.today())
            if rule is None:
                move_unless_there(folder, self.places.unmatched / f"{study.name}-{folder.name}")
                put_away([part for part in parts if part.work is None], self.ledger, self.places)
                unmatched += 1
                continue
            work = self.ledger.add(
                received,
                self.model,
                origin=RECEIVED,
                rule=rule,
                due=self.ledger.now(),
                priority=self.settings.priority_of(rule),
            )
            put_away(parts, self.ledger, self.places)
            if work.state is State.FOUND:
                move_unless_there(folder, self.places.series(work.id))
            elif work.state is State.DEAD:  # failed before it came: for `ldct retry`
                move_unless_there(folder, self.places.dead(work.id) / "series")
            # Else it came before, and is in process or done.
            added += 1
        shutil.rmtree(study)
        return Swept(added, unmatched, int(cut), wrong_clock)

    def _rule(self, facts: SeriesFacts) -> str | None:
        return first_match(match_rules(facts, self.settings.rules, today=self.today()))


def _reports_context() -> PresentationContext:
    """Storage commitment's, in which the peer that opens the association is the SCP (PS3.4 J)."""
    context = build_context(StorageCommitmentPushModel)
    context.scu_role, context.scp_role = False, True
    return context


def _refused(status: int, comment: str) -> Dataset:
    """A C-STORE response's status with an Error Comment (0000,0902) for the sender's log."""
    response = Dataset()
    response.Status, response.ErrorComment = status, comment
    return response
