"""One series after another, each step done in effect once: retrieve, derive, send, count.

Steps: found -> retrieve -> here -> derive -> derived -> send and count -> sent. A series unlike
the model's training data waits as held, where the configuration says so. Every step may be
interrupted at any point, and is then repeated by the next worker.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.core.errors import LdctError
from pipeline.core.refusals import Unreadable
from pipeline.dicom.read.files import read_dataset
from pipeline.export.output_record import derived_folder, record_of
from pipeline.pacs.incoming.joining import RECEIVED, remove_sent
from pipeline.pacs.messages.atna_trail import AtnaTrail
from pipeline.pacs.peers.peer import (
    AWAY_S,
    NoConnection,
    OutOfResources,
    Peer,
    StillGrowing,
    Unreachable,
)
from pipeline.pacs.settings.hospital import Pacs
from pipeline.pacs.steps.retention import remove_results
from pipeline.pacs.steps.sending import RESOURCES_POLL_S, Sender, derived_folders, dicom_files
from pipeline.pacs.work.deliveries import Delivery, summary
from pipeline.pacs.work.folder import (
    NoSpace,
    WorkFolder,
    atomic_folder,
    from_dead_letter,
    to_dead_letter,
)
from pipeline.pacs.work.item import PacsSeries, State, WorkItem
from pipeline.pacs.work.ledger import Ledger
from pipeline.pacs.work.ledger_file import is_no_space
from pipeline.review.decisions import RejectedError, require_sendable

#: Called with (series folder, model version, folder to fill): writes derived series into it, a
#: folder each, and where there is something to report of them, report.json.
Derive = Callable[[Path, str, Path], None]
#: Seconds until a result that waits for a reader is looked at again.
REVIEW_POLL_S = 300.0
_AWAY = "the source did not answer when another series was asked for"


class Source(Protocol):
    """A PACS, or a folder, that series can be retrieved from."""

    def list_instances(self, study_uid: str, series_uid: str) -> PacsSeries:
        """The images that the source has of a series; may raise StillGrowing."""

    def retrieve(self, series: PacsSeries, folder: Path) -> None:
        """Write every image of a series into a folder, one file each."""


@dataclass
class Worker:
    """Does the steps that are due in the ledger. source: None where everything is received.

    destinations: by name, "" for one without. on_deleted: called with work whose result is kept no
    longer.
    """

    settings: Pacs
    ledger: Ledger
    derive: Derive
    destinations: Mapping[str, Peer]
    source: Source | None = None
    on_deleted: Callable[[WorkItem], None] = lambda work: None

    def __post_init__(self) -> None:
        self.trail = AtnaTrail(self.settings)
        self._source_away_until = 0.0
        self.sender = Sender(self.settings, self.ledger, self.destinations, self.trail)

    @property
    def places(self) -> WorkFolder:
        """Where the files of each piece of work lie."""
        return WorkFolder(self.settings.work)

    def run_due(self, on_step: Callable[[WorkItem], None] = lambda work: None) -> int:
        """Do all steps that are due; returns how many were done. on_step: called after each.

        Raises NoSpace as `step` does.
        """
        steps = 0
        remove_sent(self.ledger, self.places, keep_s=self.settings.receive.keep_s)
        keep_days = self.settings.keep_results_days
        remove_results(self.ledger, self.places, keep_days, self.on_deleted)
        try:
            while (work := self.step()) is not None:
                on_step(work)
                steps += 1
        finally:
            self.sender.disconnect()
        return steps

    def step(self) -> WorkItem | None:
        """Do one step of the work that is due first; None where nothing is due.

        Raises NoSpace where there is none; the step is as if it had not begun.
        """
        try:
            with self.ledger.claim() as work:
                return self._step(work) if work else None
        except Exception as error:
            if is_no_space(error):
                raise NoSpace("no space left") from error
            raise

    def _step(self, work: WorkItem) -> WorkItem:
        if work.starts > self.settings.retry.crashes:
            return self._mark_dead(work, f"ended its worker {work.starts - 1} times")
        try:
            return self._next(work)
        except Exception as error:
            if is_no_space(error):
                self._undo_start(work)
                raise
            return self._after_error(work, error)
        except BaseException:
            self._undo_start(work)
            raise

    def _after_error(self, work: WorkItem, error: Exception) -> WorkItem:
        if isinstance(error, StillGrowing):
            return self.ledger.wait(work, str(error), pause_s=error.wait_s)
        if isinstance(error, OutOfResources):  # no fault of the series, however long it lasts
            return self.ledger.postpone(work, str(error), pause_s=RESOURCES_POLL_S)
        if isinstance(error, NoConnection):  # to the source: Sender has its own
            away_s = min(AWAY_S, self.settings.retry.first_s)
            self._source_away_until = self.ledger.now() + away_s
        if isinstance(error, Unreachable):
            return self._fail(work, str(error))
        if isinstance(error, LdctError | Unreadable):
            return self._mark_dead(work, str(error))
        return self._fail(work, type(error).__name__)

    def _undo_start(self, work: WorkItem) -> None:
        with suppress(sqlite3.Error):  # the ledger may be what has no space
            self.ledger.undo_start(work)

    def _next(self, work: WorkItem) -> WorkItem:
        if work.state is State.FOUND:
            return self._retrieve(work)
        if work.state is State.HERE:
            return self._derive(work)
        return self._send(work)

    def _fail(self, work: WorkItem, reason: str) -> WorkItem:
        failed = self.ledger.fail(work, reason, self.settings.retry)
        if failed.state is State.DEAD:
            to_dead_letter(self.places, failed)
        return failed

    def _mark_dead(self, work: WorkItem, reason: str) -> WorkItem:
        dead = self.ledger.mark_dead(work, reason)
        to_dead_letter(self.places, dead)
        return dead

    def _retrieve(self, work: WorkItem) -> WorkItem:
        """A folder that exists was received, or retrieved before a kill: it is whole."""
        folder = self.places.series(work.id)
        if not folder.exists():
            if self.source is None:
                raise Unreachable("the receiver has not moved its files here yet")
            away_s = self._source_away_until - self.ledger.now()
            if away_s > 0:
                return self.ledger.wait(work, _AWAY, pause_s=away_s, failures=work.failures)
            present = self.source.list_instances(work.study_uid, work.series_uid)
            if present.digest != work.digest:
                return self._supersede(work, present)
            with atomic_folder(folder) as partial:
                self.source.retrieve(present, partial)
                require_all(present.instance_uids, partial)
                self.trail.retrieved(work, dicom_files(partial))
        return self.ledger.advance(work, State.HERE)

    def _supersede(self, work: WorkItem, present: PacsSeries) -> WorkItem:
        """The series changed since it was found: add what it is now as another piece of work."""
        there = len(present.instance_uids)
        if there < work.instances:  # a PACS that starts, a folder that is being moved
            raise Unreachable(f"the source has {there or 'none'} of its images now")
        self.ledger.add(
            present,
            work.model,
            origin=work.origin,
            rule=work.rule,
            due=self.ledger.now() + self.settings.settle_s,
            priority=work.priority,
        )
        note = f"the source has {len(present.instance_uids)} images now, not {work.instances}"
        return self.ledger.advance(work, State.SUPERSEDED, note)

    def _derive(self, work: WorkItem) -> WorkItem:
        folder = self.places.result(work.id)
        if not folder.exists():
            with atomic_folder(folder) as partial:
                self.derive(self.places.series(work.id), work.model, partial)
        # Read from the disk, so that a kill after the line above loses nothing.
        notes = read_notes(folder)
        if notes.drift and self.settings.drift == "hold":
            return self.ledger.advance(work, State.HELD, "; ".join(notes.drift))
        return self.ledger.advance(work, State.DERIVED, "; ".join([*notes.other, *notes.drift]))

    def _send(self, work: WorkItem) -> WorkItem:
        folders = derived_folders(self.places.result(work.id))
        for folder in folders:
            try:
                by_reader = self.settings.release == "reader"
                judged = derived_folder(folder)  # an SR goes with its series
                require_sendable(self.places.results, judged, accepted=by_reader)
            except RejectedError as rejected:
                return self.ledger.advance(work, State.REJECTED, str(rejected))
            except LdctError as reason:
                return self.ledger.wait(work, str(reason), pause_s=REVIEW_POLL_S)
        return self._conclude(work, self.sender.deliver(work, folders))

    def _conclude(self, work: WorkItem, deliveries: list[Delivery]) -> WorkItem:
        """Sent once every destination has it, dead once all that is left failed for good."""
        note = summary(deliveries)
        waiting = [each for each in deliveries if each.state is State.DERIVED]
        if waiting:
            pause_s = min(each.due for each in waiting) - self.ledger.now()
            failures = max(each.failures for each in waiting)
            return self.ledger.wait(work, note, pause_s=pause_s, failures=failures)
        if any(each.state is State.DEAD for each in deliveries):
            return self._mark_dead(work, note)
        done = self.ledger.advance(work, State.SENT, note)
        if work.origin != RECEIVED:  # else kept for a while, for what comes late
            shutil.rmtree(self.places.series(work.id), ignore_errors=True)
        return done


def retry(ledger: Ledger, places: WorkFolder, work: WorkItem) -> WorkItem:
    """Make work due now: dead work at the step that failed, waiting work at its next attempt,
    rejected work for a reader who thought better of it."""
    if work.state is State.REJECTED:
        return ledger.restart(work)
    if work.state is State.DEAD:
        from_dead_letter(places, work)
        return ledger.restart(work)
    ledger.make_due(work)
    return ledger.get(work.id)


@dataclass(frozen=True)
class ResultNotes:
    """What a person should know of a result: how it is unlike the training data, and the rest."""

    drift: list[str]
    other: list[str]


def read_notes(result: Path) -> ResultNotes:
    """Read the notes of a result from its report.json; none where there is no report."""
    report = record_of(result)
    found = dict.fromkeys(
        line for row in report.get("exported", ()) for line in row.get("drift", ())
    )
    quarantined = len(report.get("quarantined", ()))
    other = [f"{quarantined} files quarantined"] if quarantined else []
    audits = [row["audit"] for row in report.get("exported", ()) if "audit" in row]
    other += [audit["summary"] for audit in audits if audit["flagged"]]
    return ResultNotes(list(found), other)


def require_all(instance_uids: frozenset[str], folder: Path) -> None:
    """Check retrieved files: every image, no other, each once. Raises Unreachable."""
    paths = dicom_files(folder)
    found = [str(read_dataset(path, stop_before_pixels=True).SOPInstanceUID) for path in paths]
    if set(found) != instance_uids or len(found) != len(instance_uids):
        raise Unreachable(f"{len(found)} images came where the source has {len(instance_uids)}")
