"""Receive series by C-STORE until interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable

from flows.hospital.endpoints import open_source
from flows.hospital.private import keep_private
from flows.hospital.pull import pin_version
from flows.hospital.receiver_watch import ReceiverWatch
from flows.hospital.space import WaitForSpace
from flows.runtime.progress import log
from pipeline.core.pseudonyms import installation_key
from pipeline.pacs.incoming.receiver import Receiver, Swept
from pipeline.pacs.peers.study_folder import StudyFolderSource
from pipeline.pacs.settings.hospital import Pacs
from pipeline.pacs.work.ledger import Ledger

#: How often complete studies are looked for.
POLL_S = 5.0


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
