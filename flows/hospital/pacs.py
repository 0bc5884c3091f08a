"""The work of `ldct pacs` as Prefect flows: series from the ledger through a registered model.

Parameters stay out of Prefect, as in every flow here: it records stages and their times.
"""

from __future__ import annotations

import functools
import getpass
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from flows import stages
from flows.commands import apply_loaded, in_flow
from flows.hospital.receiver_watch import ReceiverWatch
from flows.hospital.space import WaitForSpace
from flows.runtime.private_errors import StageFailedError
from flows.runtime.progress import log
from flows.tracking.registry import Registry
from pipeline.config.shipped import PRETRAINED
from pipeline.core.errors import ConfigError
from pipeline.core.pseudonyms import installation_key
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.export.series import Export
from pipeline.models.adapters.card import LoadedModel
from pipeline.pacs.atna_trail import AtnaTrail
from pipeline.pacs.deliveries import Delivery
from pipeline.pacs.dicomweb import DicomwebPeer
from pipeline.pacs.dimse import DimsePeer
from pipeline.pacs.dimse_source import DimseSourcePeer
from pipeline.pacs.endpoints import Destination, DimseSource, StudyFolder
from pipeline.pacs.folder_index import FolderIndex
from pipeline.pacs.hospital_config import Pacs
from pipeline.pacs.ledger import Ledger, private_folder
from pipeline.pacs.peer import Peer
from pipeline.pacs.private_work import close_to_others
from pipeline.pacs.query import (
    CandidateSeries,
    PullCounts,
    add_to_ledger,
    count_matches,
    find_candidates,
)
from pipeline.pacs.receiver import Receiver, Swept
from pipeline.pacs.rules import WRONG_CLOCK
from pipeline.pacs.study_folder import StudyFolderDestination, StudyFolderSource
from pipeline.pacs.work_folder import WorkFolder
from pipeline.pacs.work_item import OPEN, State, WorkItem
from pipeline.pacs.worker import Derive, Worker, retry

#: How often a worker without work looks for some, and a receiver for complete studies.
POLL_S = 5.0
#: For how long a worker that is to end waits for what needs time, in all: the next night's finds
#: what is left.
MAX_WAIT_S = 12 * 3600.0


def pull_series(settings: Pacs, *, dry_run: bool) -> tuple[list[CandidateSeries], PullCounts]:
    """Search the source by the rules; without dry_run, put what matches into the ledger.

    Raises ConfigError where no source is configured.
    """
    if settings.source is None:
        raise ConfigError(
            "source: name the DICOMweb service or the folder to ask, or use `ldct pacs receive`"
        )
    source = open_source(settings, dry_run=dry_run)
    assert source is not None
    candidates = find_candidates(source, list(settings.rules), today=date.today())
    if dry_run:
        counts = count_matches(candidates)
    else:
        model = pin_version(settings.model)
        counts = add_to_ledger(candidates, Ledger(settings.work), settings, model=model)
    if isinstance(source, StudyFolderSource):
        counts = replace(counts, unreadable=source.unreadable())
    if number := counts.wrong_clock:
        log("clock", f"{number} series have {WRONG_CLOCK}", {"wrong_clock": number})
    return candidates, counts


def open_source(
    settings: Pacs, *, dry_run: bool = False
) -> DicomwebPeer | DimseSourcePeer | StudyFolderSource | None:
    """The configured source, None without one. dry_run: it is to leave no file behind."""
    source = settings.source
    if isinstance(source, StudyFolder):
        if not dry_run:
            private_folder(settings.work)
        index = FolderIndex(source.folder.absolute(), None if dry_run else settings.work)
        return StudyFolderSource(index, settle_s=settings.settle_s)
    if isinstance(source, DimseSource):
        # A dry run leaves no work folder behind.
        scratch = Path(tempfile.gettempdir()) if dry_run else settings.work / "retrieving"
        return DimseSourcePeer(source, scratch, max_image_mib=settings.receive.max_image_mib)
    return DicomwebPeer(source) if source else None


def work_flow(
    settings: Pacs,
    on_step: Callable[[WorkItem], None],
    *,
    forever: bool,
    retries: bool = True,
    slot: Callable[[], AbstractContextManager[None]] = nullcontext,
    on_poll: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Do what is due in the ledger, and wait for what only needs time; or do so for ever.

    That is series that may still grow, and with `retries` other attempts after a failure, for
    MAX_WAIT_S in all. slot: held while steps are done. on_step: called after each step. on_poll:
    called each time before the ledger is looked at.
    Returns {"steps": how many were done} and what `status` returns.
    """

    def body() -> dict[str, Any]:
        keep_private(settings)
        worker = Worker(
            settings,
            Ledger(settings.work),
            derive_with_models(settings),
            peers(settings),
            open_source(settings),
            _log_deleted,
        )
        ledger, steps, until = worker.ledger, 0, time.time() + MAX_WAIT_S
        pauses, space = _Pauses(ledger, retries), WaitForSpace()
        while True:
            on_poll()
            keep_private(settings)
            if ledger.is_anything_due():
                with slot(), space.tried():
                    steps += worker.run_due(on_step)
            pause_s = POLL_S if forever or space.full else pauses.next_s(until)
            if pause_s is None:
                return {"steps": steps, **status(settings).to_dict()}
            time.sleep(pause_s)

    return in_flow("ldct-pacs-work", body)


@dataclass
class _Pauses:
    """What a worker that is to end waits for."""

    ledger: Ledger
    retries: bool
    _logged: float = 0.0

    def next_s(self, until: float) -> float | None:
        """Seconds until the ledger is to be looked at again; None where all that is left waits
        for a person, another job, or longer than `until`."""
        due = self.ledger.next_due(failed=self.retries)
        if due is None or due > until:
            return None
        wait_s = max(0.0, due - self.ledger.now())
        if due > self._logged and wait_s > POLL_S:
            self._logged = due
            log("waiting", f"the next step is due in {wait_s:.0f} s", {"seconds": round(wait_s)})
        return min(POLL_S, wait_s)


def receive(settings: Pacs, on_series: Callable[[Swept], None], watch: ReceiverWatch) -> None:
    """Receive until interrupted; complete studies go into the ledger as they come.

    on_series: called with what became of series. watch: learns what was answered, and when.
    """
    source = open_source(settings)
    asked = None if isinstance(source, StudyFolderSource) else source  # a folder knows no more
    keep_private(settings)
    ledger, model = Ledger(settings.work), pin_version(settings.model)

    def on_refusal(peer: str, why: str) -> None:
        watch.on_refusal()
        log("refused", f"not taken from {peer}: {why}", {"peer": peer, "reason": why})

    receiver = Receiver(
        settings,
        ledger,
        model,
        installation_key(),
        asked,
        on_refusal=on_refusal,
        on_answer=watch.on_answer,
    )
    server, space = receiver.start(), WaitForSpace()
    watch.listens(server)
    try:
        while True:
            with space.tried():
                if swept := receiver.sweep():
                    on_series(swept)
                keep_private(settings)
            watch.on_sweep()
            time.sleep(POLL_S)
    finally:
        server.shutdown()


def _log_deleted(work: WorkItem) -> None:
    log("deleted", f"{work.id}: its result is kept no longer", {"id": work.id})


def log_step(work: WorkItem) -> None:
    """Log what became of a piece of work."""
    step = f"{work.id}: {work.state}{f', {work.note}' if work.note else ''}"
    log("step", step, work.to_dict())


def keep_private(settings: Pacs) -> None:
    """Close the work folder to all but its owner, and say so, where somebody opened it.

    Raises ConfigError where it cannot be closed.
    """
    if settings.work.exists() and (done := close_to_others(settings.work)):
        log("closed", done, {"reason": "the work folder was open to others"})


@dataclass(frozen=True)
class LedgerStatus:
    """counts: rows of the ledger by state. open: the work that is not done, oldest change first.
    not_shown: how many more there are of it.

    unmatched: received series that match no rule; kept in the folder of that name. deliveries: of
    open work that has several destinations, by its id.
    """

    counts: dict[str, int]
    open: list[WorkItem]
    unmatched: int = 0
    deliveries: dict[str, list[Delivery]] = field(default_factory=dict)
    not_shown: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As `ldct status --json` has it."""
        works = [work.to_dict() for work in self.open]
        sent = {id_: [each.to_dict() for each in rows] for id_, rows in self.deliveries.items()}
        return {
            "counts": self.counts,
            "open": works,
            "not_shown": self.not_shown,
            "unmatched": self.unmatched,
            "deliveries": sent,
        }


#: Rows of each state on a status page: a backlog of ten thousand is not read.
SHOWN_OF_A_STATE = 50


def status(settings: Pacs, *, everything: bool = False) -> LedgerStatus:
    """What the ledger says of work that is done, due, held and failed.

    everything: all open work, not only the SHOWN_OF_A_STATE oldest of each state.
    """
    ledger = Ledger(settings.work)
    states, counts = (*OPEN, State.HELD, State.REJECTED, State.DEAD), ledger.counts()
    most = max(counts.values()) if everything else SHOWN_OF_A_STATE
    works = [work for state in states for work in ledger.first(state, most)]
    works.sort(key=lambda work: (work.changed, work.id))
    rows = ledger.deliveries.known_of([work.id for work in works])
    several = {name: found for name, found in rows.items() if any(d.destination for d in found)}
    unmatched = WorkFolder(settings.work).unmatched_count()
    not_shown = sum(counts[state] for state in states) - len(works)
    return LedgerStatus(counts, works, unmatched, several, max(0, not_shown))


def retry_work(settings: Pacs, names: list[str]) -> list[WorkItem]:
    """Make work due now: by id, or all that is dead and all that waits after a failure."""
    ledger, places = Ledger(settings.work), WorkFolder(settings.work)
    if names:
        selected = [ledger.get(name) for name in names]
    else:
        failing = [work for work in ledger.all(*OPEN) if work.failures]
        selected = ledger.all(State.DEAD) + failing
    return [retry(ledger, places, work) for work in selected]


def release_work(settings: Pacs, names: list[str], reason: str) -> list[WorkItem]:
    """Let held work be sent, by id; the user and the reason are kept in the ledger.

    Raises ConfigError without a reason, and for work that is not held.
    """
    if not reason.strip():
        raise ConfigError("--reason: say why it may be sent; it is kept")
    ledger = Ledger(settings.work)
    selected = [ledger.get(name) for name in names]
    user, trail = getpass.getuser(), AtnaTrail(settings)
    note = f"released by {user}: {reason.strip()}"
    released = []
    for work in selected:
        ledger.require_held(work)
        trail.released(work, user)
        released.append(ledger.release(work, note))
    return released


def pin_version(reference: str) -> str:
    """The version that a reference such as NAME@champion resolves to now.

    Work is added with a version, so that it keeps it when the alias moves.
    """
    if reference.endswith(f"@{PRETRAINED}"):
        return reference
    version = Registry.default().find(reference)
    return f"models:/{version.name}/{version.version}"


def derive_with_models(settings: Pacs) -> Derive:
    """A function that applies a registered model to one series; each version is loaded once."""

    @functools.lru_cache(maxsize=2)
    def load(model: str) -> LoadedModel:
        return stages.load_stage(model, settings.strength, settings.dose)

    def derive(series: Path, model: str, out: Path) -> None:
        try:
            apply_loaded(
                load(model),
                series,
                Export(out, settings.compress, structured_report=settings.structured_report),
                intake=IngestOptions(),
                all_or_nothing=True,
            )
        except StageFailedError as failure:
            original = failure.original
        else:
            return
        raise original

    return derive


def peers(settings: Pacs) -> dict[str, Peer]:
    """The client of each configured destination, by its name."""
    return {each.name or "": _peer(each) for each in settings.destinations}


def _peer(destination: Destination) -> Peer:
    if destination.dicomweb:
        return DicomwebPeer(destination.dicomweb)
    if destination.folder:
        return StudyFolderDestination(destination.folder, installation_key())
    assert destination.dimse is not None
    return DimsePeer(destination.dimse)
