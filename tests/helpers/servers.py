"""A PostgreSQL, an MLflow and a Prefect server for tests, by the commands of docs/servers.md."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from helpers.pacs import free_port

ROOT = Path(__file__).parents[2]
POSTGRES = Path(os.environ.get("LDCT_TEST_POSTGRES", "/usr/lib/postgresql/15/bin"))
START_S = 300


@dataclass(frozen=True)
class Servers:
    """Where they are, and what the environment of whoever uses them holds."""

    folder: Path
    mlflow_port: int
    prefect_port: int
    secrets: dict[str, str]
    database: dict[str, str]

    @property
    def client(self) -> dict[str, str]:
        """As docs/servers.md says under "Whoever uses them"."""
        names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "PREFECT_API_AUTH_STRING")
        return {
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self.mlflow_port}",
            "PREFECT_API_URL": f"http://127.0.0.1:{self.prefect_port}/api",
            **{name: self.secrets[name] for name in names},
        }


def commands(name: str) -> str:
    """The block of docs/servers.md that begins with `# name`."""
    text = (ROOT / "docs" / "servers.md").read_text()
    (block,) = re.findall(rf"```bash\n# {name}\n(.*?)```", text, flags=re.DOTALL)
    return block


def environment(**more: str) -> dict[str, str]:
    """Of a child: this Python's programs and packages, and none of this process's servers."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MLFLOW_", "PREFECT_"))
    }
    path = f"{Path(sys.executable).parent}:{POSTGRES}:{os.environ['PATH']}"
    packages = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "OMP_NUM_THREADS": "1"}
    return {**kept, "PATH": path, "PYTHONPATH": packages, **quiet, **more}


def run(block: str, *, folder: Path, env: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-euc", block], cwd=folder, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


@contextmanager
def running_postgres() -> Iterator[dict[str, str]]:
    """A new cluster on loopback; gives the environment of its superuser."""
    with (
        tempfile.TemporaryDirectory(prefix="ldct-postgres-", dir="/tmp") as name,
        ExitStack() as at_end,
    ):
        folder = Path(name)
        become: list[str] = []
        if os.geteuid() == 0:  # it refuses to run as root
            shutil.chown(folder, "postgres", pwd.getpwnam("postgres").pw_gid)
            become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        port, data = free_port(), folder / "data"
        user = ["--username", "postgres", "--auth-host", "scram-sha-256", "--auth-local", "trust"]
        subprocess.run(
            [*become, POSTGRES / "initdb", "--no-sync", *user, "--pgdata", data],
            check=True, capture_output=True, cwd=folder,
        )  # fmt: skip
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        control = [*become, POSTGRES / "pg_ctl", "--pgdata", data, "--wait"]
        log = ["--log", folder / "log", "--options", options]
        subprocess.run([*control, *log, "start"], check=True, capture_output=True, cwd=folder)
        stop = [*control, "--mode", "immediate", "stop"]
        at_end.callback(subprocess.run, stop, check=True, capture_output=True, cwd=folder)
        yield {"PGHOST": str(folder), "PGPORT": str(port), "PGUSER": "postgres"}


@contextmanager
def running_servers(folder: Path) -> Iterator[Servers]:
    """Both servers on a PostgreSQL of their own, set up and started as the documentation says."""
    run(commands("secrets"), folder=folder, env=environment())
    secrets = dict(line.split("=", 1) for line in (folder / ".env").read_text().splitlines())
    with running_postgres() as database, ExitStack() as at_end:
        run(commands("databases"), folder=folder, env=environment(**database, **secrets))
        servers = Servers(folder, free_port(), free_port(), secrets, database)
        given = {
            "LDCT_DB": f"127.0.0.1:{database['PGPORT']}",
            "MLFLOW_PORT": str(servers.mlflow_port),
            "MLFLOW_WORKERS": "1",
            "PREFECT_PORT": str(servers.prefect_port),
            "PREFECT_HOME": str(folder / "prefect"),
            **secrets,
        }
        started = [at_end.enter_context(_started(name, folder, given)) for name in PLACES]
        for process, (name, port) in zip(
            started,
            (("mlflow", servers.mlflow_port), ("prefect", servers.prefect_port)),
            strict=True,
        ):
            _wait_for(process, f"http://127.0.0.1:{port}{PLACES[name]}", folder / f"{name}.log")
        yield servers


#: Where each says that it is there, without a password.
PLACES = {"mlflow": "/health", "prefect": "/api/health"}


@contextmanager
def _started(name: str, folder: Path, given: dict[str, str]) -> Iterator[subprocess.Popen]:
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            ["bash", "-euc", commands(name)],
            cwd=folder, env=environment(**given), stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(process: subprocess.Popen, url: str, log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(url, timeout=5).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.3)
    raise AssertionError(f"{url} did not answer: {log.read_text()}")
