"""One series after another, each step done in effect once: retrieve, derive, send, count.

Steps: found -> retrieve -> here -> derive -> derived -> send and count -> sent; what is unlike the
model's training data waits as held, where the hospital wants it so. Every step may be cut off at
any point and be done again by whoever comes next.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pydicom

from pipeline.core.errors import LdctError
from pipeline.pacs.hospital_config import Pacs
from pipeline.pacs.ledger import Ledger
from pipeline.pacs.peer import Peer, Unreachable
from pipeline.pacs.work_folder import WorkFolder, atomic_folder, from_dead_letter, to_dead_letter
from pipeline.pacs.work_item import PacsSeries, State, WorkItem
from pipeline.review.decisions import require_sendable

#: (series folder, model version, folder to fill): derived series in it, a folder each, and
#: what is to be told of them in REPORT, where any is.
Derive = Callable[[Path, str, Path], None]
REPORT = "report.json"
#: How long a result waits before it is asked again whether a reader has accepted it.
HELD_S = 300.0


class Source(Peer, Protocol):
    """A peer that series can be got from."""

    def retrieve(self, series: PacsSeries, folder: Path) -> None:
        """Every image of a series, one file each."""


@dataclass(frozen=True)
class Worker:
    """Takes what is due from the ledger. source: None where everything is received."""

    settings: Pacs
    ledger: Ledger
    derive: Derive
    destination: Peer
    source: Source | None = None

    @property
    def places(self) -> WorkFolder:
        return WorkFolder(self.settings.work)

    def work_off(self, tell: Callable[[WorkItem], None] = lambda work: None) -> int:
        """Do all steps that are due; returns how many steps were done."""
        steps = 0
        while (work := self.step()) is not None:
            tell(work)
            steps += 1
        return steps

    def step(self) -> WorkItem | None:
        """One step of the work that is due first; None where nothing is due."""
        with self.ledger.claim() as work:
            if work is None:
                return None
            if work.starts > self.settings.retry.crashes:
                return self._bury(work, f"ended its worker {work.starts - 1} times")
            try:
                return self._next(work)
            except Unreachable as error:
                return self._fail(work, str(error))
            except LdctError as error:
                return self._bury(work, str(error))
            except Exception as error:  # a full disk, a lack of memory: may pass
                return self._fail(work, type(error).__name__)
            except BaseException:
                self.ledger.let_go(work)
                raise

    def _next(self, work: WorkItem) -> WorkItem:
        if work.state is State.FOUND:
            return self._retrieve(work)
        if work.state is State.HERE:
            return self._derive(work)
        return self._send(work)

    def _fail(self, work: WorkItem, why: str) -> WorkItem:
        failed = self.ledger.fail(work, why, self.settings.retry)
        if failed.state is State.DEAD:
            to_dead_letter(self.places, failed)
        return failed

    def _bury(self, work: WorkItem, why: str) -> WorkItem:
        dead = self.ledger.bury(work, why)
        to_dead_letter(self.places, dead)
        return dead

    def _retrieve(self, work: WorkItem) -> WorkItem:
        """What is there already was received, or retrieved before a kill; whole in any case."""
        folder = self.places.series(work.id)
        if not folder.exists():
            if self.source is None:
                raise Unreachable("its files have not been handed over yet")
            there = self.source.series(work.study_uid, work.series_uid)
            if there.digest != work.digest:
                return self._supersede(work, there)
            with atomic_folder(folder) as partial:
                self.source.retrieve(there, partial)
                require_all(there.instance_uids, partial)
        return self.ledger.advance(work, State.HERE)

    def _supersede(self, work: WorkItem, there: PacsSeries) -> WorkItem:
        """The series changed since it was found: what it is now is other work."""
        if there.instance_uids:
            due = self.ledger.now() + self.settings.settle_s
            self.ledger.add(there, work.model, origin=work.origin, rule=work.rule, due=due)
        told = f"the source has {len(there.instance_uids)} images now, not {work.instances}"
        return self.ledger.advance(work, State.SUPERSEDED, told)

    def _derive(self, work: WorkItem) -> WorkItem:
        folder = self.places.result(work.id)
        if not folder.exists():
            with atomic_folder(folder) as partial:
                self.derive(self.places.series(work.id), work.model, partial)
        # Read from the disk: a kill after the line above must not forget what was found.
        drift, remarks = told_of(folder)
        if drift and self.settings.drift == "hold":
            return self.ledger.advance(work, State.HELD, "; ".join(drift))
        return self.ledger.advance(work, State.DERIVED, "; ".join([*remarks, *drift]))

    def _send(self, work: WorkItem) -> WorkItem:
        folders = derived_folders(self.places.result(work.id))
        for folder in folders:
            try:
                by_reader = self.settings.release == "reader"
                require_sendable(self.places.results, folder, accepted=by_reader)
            except LdctError as held:
                return self.ledger.wait(work, str(held), pause_s=HELD_S)
        sent = sum(send_series(folder, self.destination) for folder in folders)
        done = self.ledger.advance(work, State.SENT, f"{sent} images counted at the destination")
        shutil.rmtree(self.places.series(work.id), ignore_errors=True)
        return done


def send_series(folder: Path, destination: Peer) -> int:
    """Send what the destination lacks of a derived series; returns how many it has in the end.

    Asked before, so that what a killed worker sent is not sent again, and after, since a
    service may say that it stored and not have. Raises Unreachable where images are missing.
    """
    paths = images_below(folder)
    headers = {path: pydicom.dcmread(path, stop_before_pixels=True) for path in paths}
    uids = {path: str(header.SOPInstanceUID) for path, header in headers.items()}
    first = headers[paths[0]]
    name = str(first.StudyInstanceUID), str(first.SeriesInstanceUID)
    there = destination.series(*name).instance_uids
    missing = [path for path in paths if uids[path] not in there]
    if missing:
        destination.store(missing)
        there = destination.series(*name).instance_uids
    lacking = sum(uid not in there for uid in uids.values())
    if lacking:
        raise Unreachable(f"{lacking} of {len(paths)} images did not arrive")
    return len(paths)


def retry(ledger: Ledger, places: WorkFolder, work: WorkItem) -> WorkItem:
    """Give a dead piece of work another chance, where it stopped; one that waits goes now."""
    if work.state is State.DEAD:
        from_dead_letter(places, work)
        return ledger.revive(work)
    ledger.hurry(work)
    return ledger.get(work.id)


def told_of(result: Path) -> tuple[list[str], list[str]]:
    """(what is unlike the training data, what else a person should know) of a result."""
    path = result / REPORT
    report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found = dict.fromkeys(
        line for row in report.get("exported", ()) for line in row.get("drift", ())
    )
    left = len(report.get("quarantined", ()))
    return list(found), [f"{left} files quarantined"] if left else []


def derived_folders(result: Path) -> list[Path]:
    return sorted(path for path in result.iterdir() if path.is_dir() and images_below(path))


def images_below(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.dcm"))


def require_all(wanted: frozenset[str], folder: Path) -> None:
    """The count check of what was retrieved: every image, no other, each once."""
    paths = images_below(folder)
    found = [str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in paths]
    if set(found) != wanted or len(found) != len(wanted):
        raise Unreachable(f"{len(found)} images came where the source has {len(wanted)}")
