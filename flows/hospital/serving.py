"""Prefect's runner of a hospital's jobs: it goes on until SIGTERM, or until its server is gone."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence

import anyio
import httpx
from prefect.deployments.runner import RunnerDeployment
from prefect.runner import Runner

from flows.hospital.local_server import Api
from flows.runtime.progress import log
from pipeline.core.errors import LdctError

#: How often the process of a server of our own is looked at.
LOOK_S = 1.0
#: What Prefect's runner raises when its server has not answered for minutes.
_NO_ANSWER = (RuntimeError, httpx.HTTPError)


def serve_until_ended(jobs: Sequence[RunnerDeployment], api: Api) -> None:
    """Run the jobs at their times. At SIGTERM, those under way are ended in good order first.

    Raises LdctError where a server of our own ended, within seconds, and where another answered no
    more for minutes: jobs under way were ended.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        asyncio.run(_serve(jobs, api))
    except (httpx.HTTPError, ExceptionGroup) as fault:
        if isinstance(fault, ExceptionGroup) and fault.split(_NO_ANSWER)[1]:
            raise
        raise LdctError(
            f"the Prefect server at {api.url} answers no more; start `ldct schedule` again when it "
            "does"
        ) from fault
    finally:
        signal.signal(signal.SIGTERM, before)


async def _serve(jobs: Sequence[RunnerDeployment], api: Api) -> None:
    runner = _Runner()
    for job in jobs:
        await runner.aadd_deployment(job)
    async with anyio.create_task_group() as group:
        group.start_soon(runner.start)
        while not (runner.asked_to_end.is_set() or api.has_ended):
            with anyio.move_on_after(LOOK_S):
                await runner.asked_to_end.wait()
        if runner.started and not api.has_ended:
            await runner.astop()
        group.cancel_scope.cancel()
    if not runner.asked_to_end.is_set():
        raise LdctError(
            f"the Prefect server of this `ldct schedule` has ended ({api.ending}); start it again: "
            "jobs that were under way go on where they were"
        )
    log("ended", "ldct schedule: ended by SIGTERM", {"part": "schedule", "by": "SIGTERM"})


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
        self._own_loop.call_soon_threadsafe(self.asked_to_end.set)
