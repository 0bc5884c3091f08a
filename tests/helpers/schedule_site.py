"""`ldct schedule` as a process of its own, over a folder of studies: for tests that end it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import temporary_settings
from prefect.states import Scheduled

from flows.hospital import local_server
from flows.runtime.prefect_server import PrefectServer, free_port
from helpers.images import run_data, tiny_store, tiny_train
from helpers.pacs import write_ct

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
#: In the environment of every process of a site, which is found by it.
MARK = "LDCT_TESTS_SITE"
#: Of a server: what holds a slot no longer is looked for at once.
OFTEN = {"PREFECT_SERVER_SERVICES_REPOSSESSOR_LOOP_SECONDS": "1"}
#: In the command line of a process that runs a job.
_JOB = "prefect.engine"
#: In that of a server of its own.
_SERVER = "run_with_parent.py"
#: Every minute; at no time that comes in a test.
EVERY_MINUTE, NEVER = "* * * * *", "0 4 29 2 *"


@dataclass(frozen=True)
class TeamServer:
    """A Prefect server that outlives what the tests end. home: its folder."""

    api: local_server.Api
    home: Path


@contextmanager
def team_server(home: Path) -> Iterator[TeamServer]:
    server = PrefectServer.start(HOST, free_port(HOST), {**OFTEN, "PREFECT_HOME": str(home)})
    try:
        assert server.wait_until_ready(300)
        yield TeamServer(local_server.Api(server.api_url, server.auth), home)
    finally:
        server.stop()


class ScheduleSite:
    """A hospital of two folders with `ldct schedule`, on a team's server or, without, on its own.

    retrain: whether it trains too, on a store of tiny images. The registry is that of the working
    folder, and has the model.
    """

    def __init__(self, root: Path, server: TeamServer | None, *, retrain: bool = False) -> None:
        self.root, self.retrain, self._server = root, retrain, server
        self._process: subprocess.Popen[bytes] | None = None
        self._ids: dict[str, Any] = {}
        self.series = self.trainings = 0
        for name in ("studies", "results", "tmp"):
            (root / name).mkdir(parents=True)
        if retrain:
            tiny_store(root / "store")
            self.next_training()
        self.hospital = root / "hospital.yaml"
        self.write()

    def write(self, **schedule: Any) -> None:
        """The YAML: with its own server by the minute, with a team's when it is asked."""
        cron = NEVER if self._server else EVERY_MINUTE
        if self.retrain:
            config, store = str(self.root / "config.yaml"), str(self.root / "store")
            schedule["retrain"] = {"cron": cron, "config": config, "store": store}
        described = {
            "model": "identity",
            "work": str(self.root / "work"),
            "source": {"folder": str(self.root / "studies")},
            "rules": [{"name": "any"}],
            "send": {"folder": str(self.root / "results")},
            "settle_s": 0,
            "schedule": {"time_zone": "UTC", "nightly": cron, "retry": None, **schedule},
        }
        self.hospital.write_text(yaml.safe_dump(described))

    def add_series(self, count: int = 1) -> None:
        for _ in range(count):
            self.series += 1
            write_ct(self.root / "new", self.series)
            os.replace(self.root / "new", self.root / "studies" / str(self.series))

    def next_training(self) -> None:
        """A configuration that was not trained yet."""
        self.trainings += 1
        train = tiny_train(iterations=40, checkpoint_every=10, seed=self.trainings)
        partial = self.root / "config.partial"
        partial.write_text(yaml.safe_dump(run_data(train=train)))
        partial.replace(self.root / "config.yaml")

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *options: str) -> None:
        """Start `ldct schedule`; returns at once."""
        own = {
            "PREFECT_HOME": str(self.root / "prefect"),
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.root / "tmp"),
            MARK: str(self.root),
            **OFTEN,
        }
        environment = {**os.environ, **own}
        for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
            environment.pop(name, None)
        if self._server:
            environment["PREFECT_API_URL"] = self._server.api.url
            environment["PREFECT_API_AUTH_STRING"] = self._server.api.auth
        command = [sys.executable, "-m", "ldct", "schedule", str(self.hospital), *options]
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def end(self) -> int:
        """End it as systemd does; its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(120)

    def stop(self) -> None:
        """Whatever lives of it, at the end of a test."""
        for number in self.processes():
            os.kill(number, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def log(self) -> str:
        """What it wrote last."""
        return (self.root / "log").read_text()[-3000:]

    def ask_for_jobs(self) -> None:
        """On a team's server, where its deployments are there: one run of each job."""
        if self._server and self._served():
            for job in ("nightly", "retrain") if self.retrain else ("nightly",):
                self.ask_for(job)

    def processes(self) -> dict[int, str]:
        """The command line of every process that lives, by its number."""
        found, mark = {}, f"{MARK}={self.root}\0".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes():
                    line = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(folder.name)] = line.decode()
            except OSError:  # another user's, or it ended
                continue
        return found

    def kill(self, chance: random.Random) -> int:
        """SIGKILL to `ldct schedule` alone, to a job alone, to its own server alone, or to all at
        once; how many processes."""
        found = self.processes()
        jobs = [number for number, line in found.items() if _JOB in line]
        server = [number for number, line in found.items() if _SERVER in line]
        assert self._process is not None
        kinds = [list(found), [self._process.pid], jobs or list(found), server or jobs]
        chosen = chance.choice([kind for kind in kinds if kind])
        for number in chosen:
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self._process.pid in chosen:
            self._process.wait()
        elif chosen == server:
            assert self._process.wait(120) == 1, self.log()
        return len(chosen)

    def jobs(self) -> list[int]:
        """The processes that run a job."""
        return [number for number, line in self.processes().items() if _JOB in line]

    def listening(self) -> list[str]:
        """On which addresses its processes listen, as Linux has them: 127.0.0.1 is 0100007F."""
        inodes = set()
        for number in self.processes():
            for handle in Path(f"/proc/{number}/fd").glob("*"):
                with suppress(OSError):
                    inodes.add(os.readlink(handle))
        rows = []
        for table in ("tcp", "tcp6"):
            rows += Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        fields = [row.split() for row in rows]
        listens = "0A"
        return [
            each[1].partition(":")[0]
            for each in fields
            if each[3] == listens and f"socket:[{each[9]}]" in inodes
        ]

    def kill_server(self) -> None:
        """SIGKILL to its own server alone."""
        (server,) = [number for number, line in self.processes().items() if _SERVER in line]
        os.kill(server, signal.SIGKILL)

    def ended(self, seconds: float) -> int:
        """Its exit code, once it has ended by itself."""
        assert self._process is not None
        return self._process.wait(seconds)

    def wait_gone(self) -> None:
        """What a process that was killed had started ends by itself."""
        wait_until(lambda: not self.processes(), lambda: f"there are still {self.processes()}")

    @contextmanager
    def client(self) -> Iterator[SyncPrefectClient]:
        """Of the team's server."""
        assert self._server is not None
        with temporary_settings(self._server.api.settings), get_client(sync_client=True) as client:
            yield client

    def ask_for(self, job: str, *, hours_ago: float = 0) -> FlowRun:
        """A run of a job, due now or before."""
        with self.client() as client:
            if job not in self._ids:
                self._ids[job] = next(
                    row.id
                    for row in client.read_deployments()
                    if row.parameters.get("hospital") == str(self.hospital) and job in row.tags
                )
            due = datetime.now(UTC) - timedelta(hours=hours_ago)
            return client.create_flow_run_from_deployment(
                self._ids[job], state=Scheduled(scheduled_time=due), tags=["ldct-schedule", job]
            )

    def state(self, run: FlowRun) -> tuple[str, str]:
        """(name, message) of a run's state."""
        with self.client() as client:
            state = client.read_flow_run(run.id).state
        assert state is not None
        return str(state.name), state.message or ""

    def wait_for(self, run: FlowRun, *names: str) -> None:
        wait_until(lambda: self.state(run)[0] in names, lambda: f"{self.state(run)}, not {names}")

    def wait_served(self) -> None:
        """Until its deployments are there, and looked for."""

        def is_served() -> bool:
            assert self.is_running, self.log()
            return "READY" in self._served()

        wait_until(is_served, self.log)

    def _served(self) -> list[str]:
        """The statuses of its deployments, where they are there."""
        with self.client() as client:
            found = client.read_deployments()
        own = str(self.hospital)
        return [str(row.status.value) for row in found if row.parameters.get("hospital") == own]

    def expire_leases(self) -> None:
        """What five minutes do: slots that a killed process held are held no longer."""
        home = self._server.home if self._server else self.root / "prefect"
        past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
        for path in (home / "concurrency_leases").glob("*.json"):
            found = json.loads(path.read_text())
            if path.stem == "expirations":
                found = dict.fromkeys(found, past)
            else:
                found["expiration"] = past
            partial = path.with_suffix(".new")
            partial.write_text(json.dumps(found))
            partial.replace(path)

    def age_leftovers(self) -> None:
        """What an hour does: what killed processes left is old enough to be removed."""
        before = time.time() - 2 * 3600
        for path in self.leftovers():
            for each in [path, *path.rglob("*")]:
                os.utime(each, (before, before))

    def leftovers(self) -> list[Path]:
        return [
            path
            for path in self.root.rglob("*")
            if path.name.startswith((".partial-", "ldct-scratch-"))
        ]


def wait_until(happened: Callable[[], bool], what: Callable[[], str], seconds: float = 900) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, what()
        time.sleep(0.3)
