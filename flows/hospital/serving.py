"""Prefect's runner of a hospital's jobs: it goes on until SIGTERM, or until its server is gone."""

from __future__ import annotations

import asyncio
import faulthandler
import signal
import time
from collections.abc import Sequence
from contextlib import suppress

import anyio
import anyio.to_thread
import httpx
from prefect.deployments.runner import RunnerDeployment
from prefect.runner import Runner

from flows.hospital.local_server import Api
from flows.runtime.progress import log
from pipeline.core.errors import LdctError

#: How often the process of a server of our own is looked at.
LOOK_S = 1.0
#: For so long jobs may end in good order, where the server answers slowly: less than the units of
#: systemd allow.
END_S = 60.0
#: Where all of it has not ended by then, the log gets what each thread waits for, before systemd
#: kills it (TimeoutStopSec of deploy/systemd).
STUCK_S = 85.0
#: How often a server is asked whether it is there, and for how long it may be away, as while it is
#: started again: less than Prefect's own patience, which ends in tracebacks.
ASK_S, AWAY_S = 10.0, 150.0
#: What Prefect's runner raises when its server answers no more, or not as it should.
_NO_ANSWER = (RuntimeError, httpx.HTTPError)


def serve_until_ended(jobs: Sequence[RunnerDeployment], api: Api) -> None:
    """Run the jobs at their times. At SIGTERM, those under way are ended in good order first.

    Raises LdctError where a server of our own ended, within seconds, and where one did not answer
    for AWAY_S: jobs under way were ended.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        asyncio.run(_serve(jobs, api))
    except (httpx.HTTPError, ExceptionGroup) as fault:
        if isinstance(fault, ExceptionGroup) and fault.split(_NO_ANSWER)[1]:
            raise
        raise LdctError(
            f"the Prefect server at {api.url} answers no more, or not as it should; start "
            "`ldct schedule` again when it does"
        ) from fault
    finally:
        signal.signal(signal.SIGTERM, before)


async def _serve(jobs: Sequence[RunnerDeployment], api: Api) -> None:
    runner = _Runner()
    for job in jobs:
        await runner.aadd_deployment(job)
    lost = ""

    async def watch() -> None:
        nonlocal lost
        lost = await _until_lost(api)
        runner.asked_to_end.set()

    async with anyio.create_task_group() as group:
        group.start_soon(runner.start)
        group.start_soon(watch)
        await runner.asked_to_end.wait()
        if runner.started and not lost:
            with anyio.move_on_after(END_S):
                await runner.astop()
        group.cancel_scope.cancel()
    if lost:
        raise LdctError(
            f"the Prefect server at {api.url} {lost}; start `ldct schedule` again: jobs that were "
            "under way go on where they were"
        )
    log("ended", "ldct schedule: ended by SIGTERM", {"part": "schedule", "by": "SIGTERM"})


async def _until_lost(api: Api) -> str:
    """Wait until a server is no more; returns what became of it, in words."""
    answered = time.monotonic()
    while time.monotonic() - answered < AWAY_S:
        asked = time.monotonic()
        while time.monotonic() - asked < ASK_S:
            await anyio.sleep(LOOK_S)
            if api.has_ended:
                return f"has ended ({api.ending})"
        if await anyio.to_thread.run_sync(api.answers, abandon_on_cancel=True):
            answered = time.monotonic()
    return f"has not answered for {AWAY_S:.0f} s"


class _Runner(Runner):
    """A runner whose end at SIGTERM is awaited: Prefect's own raises SystemExit amid the event
    loop, which asyncio reports as an error, and leaves its jobs to themselves."""

    def __init__(self) -> None:
        super().__init__(pause_on_shutdown=False)
        self.asked_to_end = asyncio.Event()
        self._own_loop = asyncio.get_running_loop()
        signal.signal(signal.SIGTERM, self.handle_sigterm)

    def handle_sigterm(self, *_: object, **__: object) -> None:
        """Ask for the end (the system calls this between any two steps of the main thread)."""
        with suppress(RuntimeError):  # the loop has ended meanwhile
            self._own_loop.call_soon_threadsafe(self.asked_to_end.set)
        faulthandler.dump_traceback_later(STUCK_S)
