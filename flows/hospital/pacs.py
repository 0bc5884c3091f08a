"""The hospital's loop on Prefect: series from the ledger through a registered model.

Parameters stay out of Prefect, as in every flow here: what it sees are stages and their times.
"""

from __future__ import annotations

import functools
import getpass
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from flows import stages
from flows.commands import apply_loaded, in_flow
from flows.runtime.private_errors import StageFailedError
from flows.tracking.registry import Registry
from pipeline.core.errors import ConfigError
from pipeline.core.pseudonyms import installation_key
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.export.series import Export
from pipeline.models.adapters.card import LoadedModel
from pipeline.pacs.dicomweb import DicomwebPeer
from pipeline.pacs.dimse import DimsePeer
from pipeline.pacs.hospital_config import Destination, Pacs
from pipeline.pacs.ledger import Ledger
from pipeline.pacs.peer import Peer
from pipeline.pacs.query import Answer, ask, put_down
from pipeline.pacs.receiver import Receiver
from pipeline.pacs.work_folder import WorkFolder
from pipeline.pacs.work_item import OPEN, State, WorkItem
from pipeline.pacs.worker import Derive, Worker, retry

#: How often a worker without work, and a receiver, look again.
LOOK_S = 5.0


def pull_series(settings: Pacs, *, dry_run: bool) -> tuple[list[Answer], dict[str, int]]:
    """Ask the source by the rules; without dry_run, put what matches into the ledger."""
    if settings.source is None:
        raise ConfigError("source: name the DICOMweb service to ask, or use `ldct pacs receive`")
    answers = ask(DicomwebPeer(settings.source), list(settings.rules), today=date.today())
    if dry_run:
        matched = sum(answer.rule is not None for answer in answers)
        return answers, {"asked": len(answers), "matched": matched, "new": 0}
    model = pinned(settings.model)
    return answers, put_down(answers, Ledger(settings.work), settings, model=model)


def work_flow(
    settings: Pacs,
    tell: Callable[[WorkItem], None],
    *,
    forever: bool,
    looks: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Take what is due from the ledger until there is nothing, or for ever.

    tell: of each step that has ended; looks: the worker looks for work now.
    """

    def body() -> dict[str, Any]:
        worker = Worker(
            settings,
            Ledger(settings.work),
            deriving(settings),
            peer(settings.send),
            DicomwebPeer(settings.source) if settings.source else None,
        )
        looks()
        steps = worker.work_off(tell)
        while forever:
            time.sleep(LOOK_S)
            looks()
            steps += worker.work_off(tell)
        return {"steps": steps, **status(settings)}

    return in_flow("ldct-pacs-work", body)


def receive(settings: Pacs, tell: Callable[[int], None]) -> None:
    """Receive until interrupted; complete studies go into the ledger as they come."""
    source = DicomwebPeer(settings.source) if settings.source else None
    ledger, model = Ledger(settings.work), pinned(settings.model)
    receiver = Receiver(settings, ledger, model, installation_key(), source)
    server = receiver.start()
    try:
        while True:
            if taken := receiver.sweep():
                tell(taken)
            time.sleep(LOOK_S)
    finally:
        server.shutdown()


def status(settings: Pacs) -> dict[str, Any]:
    """What was done, is due, and failed: counts, and every piece of work that is not done."""
    ledger = Ledger(settings.work)
    waiting = ledger.all(*OPEN, State.HELD, State.DEAD)
    return {"counts": ledger.counts(), "open": [work.facts() for work in waiting]}


def retry_work(settings: Pacs, names: list[str]) -> list[WorkItem]:
    """The named work, or all dead letters and all that waits after a failure, due now."""
    ledger, places = Ledger(settings.work), WorkFolder(settings.work)
    if names:
        chosen = [ledger.get(name) for name in names]
    else:
        waiting = ledger.all(*OPEN)
        chosen = ledger.all(State.DEAD) + [work for work in waiting if work.failures]
    return [retry(ledger, places, work) for work in chosen]


def release_work(settings: Pacs, names: list[str], reason: str) -> list[WorkItem]:
    """What was held back for its drift goes on; who let it go, and why, is kept."""
    if not reason.strip():
        raise ConfigError("--reason: say why it may be sent; it is kept")
    ledger = Ledger(settings.work)
    chosen = [ledger.get(name) for name in names]
    told = f"released by {getpass.getuser()}: {reason.strip()}"
    return [ledger.release(work, told) for work in chosen]


def pinned(reference: str) -> str:
    """The version that a name stands for now: work that was begun with it ends with it."""
    if reference.endswith("@pretrained"):
        return reference
    version = Registry.default().find(reference)
    return f"models:/{version.name}/{version.version}"


def deriving(settings: Pacs) -> Derive:
    """Registered models over one series; each version is loaded once."""

    @functools.lru_cache(maxsize=2)
    def load(model: str) -> LoadedModel:
        return stages.load_stage(model, settings.strength)

    def derive(series: Path, model: str, out: Path) -> None:
        try:
            apply_loaded(
                load(model), series, Export(out, settings.compress), intake=IngestOptions()
            )
        except StageFailedError as failure:
            original = failure.original
        else:
            return
        raise original

    return derive


def peer(destination: Destination) -> Peer:
    if destination.dicomweb:
        return DicomwebPeer(destination.dicomweb)
    assert destination.dimse is not None
    return DimsePeer(destination.dimse)
