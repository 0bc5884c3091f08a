"""Results are kept for so long after they were sent, then deleted; the ledger records that."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from pipeline.pacs.work.folder import WorkFolder
from pipeline.pacs.work.item import State, WorkItem
from pipeline.pacs.work.ledger import Ledger

_DAY_S = 86_400.0


def remove_results(
    ledger: Ledger,
    places: WorkFolder,
    keep_days: float | None,
    on_deleted: Callable[[WorkItem], None],
) -> None:
    """Delete the results of work that was sent `keep_days` ago or longer; None: keep all.

    What was not sent stays: held, rejected, failed and waiting results. It is recorded first, so
    that nothing is gone without a record; after a kill between the two it is recorded once more.
    """
    if keep_days is None:
        return
    folders = {path.name: path for path in places.results.glob("w-*")}
    if not folders:
        return
    before = ledger.now() - keep_days * _DAY_S
    for work in ledger.all(State.SENT):
        if work.id in folders and work.changed <= before:
            ledger.record(work, f"result deleted: sent {keep_days:g} days ago or longer")
            shutil.rmtree(folders[work.id])
            on_deleted(work)
