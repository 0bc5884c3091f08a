"""The work of `ldct pacs` as a Prefect flow: series from the ledger through a registered model.

Parameters stay out of Prefect, as in every flow here: it records stages and their times.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.hospital.endpoints import open_source, peers
from flows.hospital.ledger_status import status
from flows.hospital.private import keep_private
from flows.hospital.space import WaitForSpace
from flows.runtime.orchestration import in_flow
from flows.runtime.private_errors import StageFailedError
from flows.runtime.progress import log
from pipeline.pacs.settings.hospital import Pacs
from pipeline.pacs.steps.worker import Derive, Worker
from pipeline.pacs.work.item import WorkItem
from pipeline.pacs.work.ledger import Ledger

if TYPE_CHECKING:
    from pipeline.models.adapters.card import LoadedModel

#: How often a worker without work looks for some.
POLL_S = 5.0
#: For how long a worker that is to end waits for what needs time, in all: the next night's finds
#: what is left.
MAX_WAIT_S = 12 * 3600.0


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


def derive_with_models(settings: Pacs) -> Derive:
    """A function that applies a registered model to one series; each version is loaded once.

    What computes is imported at the first series: a worker that has none starts without.
    """

    @functools.lru_cache(maxsize=2)
    def load(model: str) -> LoadedModel:
        from flows import stages

        return stages.load_stage(model, settings.strength, settings.dose)

    def derive(series: Path, model: str, out: Path) -> None:
        from flows.commands import apply_loaded
        from pipeline.dicom.read.ingest_options import IngestOptions
        from pipeline.export.series import Export

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


def _log_deleted(work: WorkItem) -> None:
    log("deleted", f"{work.id}: its result is kept no longer", {"id": work.id})
