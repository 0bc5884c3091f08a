"""Prefect's temporary server: started early, found by the flow, and gone with the process."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from flows.runtime import ephemeral_server
from flows.runtime.prefect_server import PrefectServer

ROOT = Path(__file__).parents[3]
FLOW = """
from flows.runtime import ephemeral_server
ephemeral_server.start()
from prefect.settings import PREFECT_API_URL
from flows.runtime.orchestration import in_flow
found = in_flow("of-a-test", lambda: {"url": PREFECT_API_URL.value()}, always=True)
server = ephemeral_server._server()
assert found["url"] == server.api_url, found
import httpx
assert httpx.get(f"{server.api_url}/version").status_code == 401, "strangers are answered"
assert httpx.get(f"{server.api_url}/version", auth=tuple(server.auth.split(":"))).is_success
print(server.port, PREFECT_API_URL.value())
"""
#: Starts the server, waits until it answers where asked to, and waits for a signal.
WAITING = """
import sys, time
from flows.runtime import ephemeral_server
ephemeral_server.start()
server = ephemeral_server._server()
assert not int(sys.argv[1]) or server.wait_until_ready(300)
print(server.process.pid, server.port, flush=True)
time.sleep(600)
"""
#: Imports every module of flows and prints the Python processes, threads and files that made.
IMPORTS = """
import os, pkgutil, sys, threading
started = []
sys.addaudithook(
    lambda event, arguments: started.append(arguments[1])
    if event == "subprocess.Popen" and "python" in str(arguments[0])
    else None
)
import flows
for module in pkgutil.walk_packages(flows.__path__, "flows."):
    if not module.name.endswith("__main__"):
        __import__(module.name)
print(started, threading.enumerate()[1:], os.listdir())
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a user whose Prefect is new."""
    home = {"PREFECT_HOME": str(tmp_path), "HOME": str(tmp_path)}
    return {**home, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}


def has_ended(pid: int) -> bool:
    """Whether a process is gone; one that nobody has waited for yet is."""
    listed = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, check=False, text=True
    )
    return listed.stdout.strip()[:1] in ("", "Z")


def refuses(port: int) -> bool:
    connection = http.client.HTTPConnection(ephemeral_server.HOST, port, timeout=5)
    try:
        connection.request("GET", "/api/health")
    except ConnectionRefusedError:
        return True
    finally:
        connection.close()
    return False


def test_a_flow_finds_the_server_that_was_started_and_nothing_of_it_stays(environment) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FLOW],
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
        env=environment,
    )
    assert ended.returncode == 0, ended.stderr
    port, outside = ended.stdout.split()
    assert outside == "None", "the setting holds within the flow alone"
    assert refuses(int(port))


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("ready", [False, True], ids=["while it starts", "once it answers"])
def test_a_killed_process_leaves_no_server_behind(environment, sent, ready) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, str(int(ready))],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    with process:
        assert process.stdout is not None
        pid, port = map(int, process.stdout.readline().split())
        assert not has_ended(pid)
        assert not ready or not refuses(port)
        os.kill(process.pid, sent)
    assert process.returncode == -sent
    latest = time.monotonic() + 60
    while not has_ended(pid) and time.monotonic() < latest:
        time.sleep(0.1)
    assert has_ended(pid)
    assert refuses(port)


def test_nothing_is_started_where_an_api_is_configured() -> None:
    before = ephemeral_server._server.cache_info().currsize
    with temporary_settings({PREFECT_API_URL: "http://prefect.example:4200/api"}):
        ephemeral_server.start()
        assert ephemeral_server._server.cache_info().currsize == before == 0
        with ephemeral_server.connected():
            assert PREFECT_API_URL.value() == "http://prefect.example:4200/api"


def test_a_server_that_died_is_left_to_prefect(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as process:
        process.wait()
    dead = PrefectServer(process, ephemeral_server.HOST, port=1, auth="ldct:x")
    assert not dead.wait_until_ready(60)

    def started() -> PrefectServer:
        return dead

    started.cache_info = lambda: type("Info", (), {"currsize": 1})  # type: ignore[attr-defined]
    monkeypatch.setattr(ephemeral_server, "_server", started)
    with temporary_settings({PREFECT_API_URL: None}), ephemeral_server.connected():
        assert PREFECT_API_URL.value() is None


def test_each_service_of_prefect_is_used_or_turned_off() -> None:
    """A version of Prefect with another service has to be looked at."""
    used = {"db_vacuum", "event_logger", "event_persister", "task_run_recorder", "triggers"}
    services = set(type(get_current_settings().server.services).model_fields)
    assert services - used == {name.lower() for name in ephemeral_server.UNUSED_SERVICES}


def test_importing_flows_starts_and_writes_nothing(environment, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    ended = subprocess.run(
        [sys.executable, "-c", IMPORTS],
        capture_output=True,
        check=True,
        text=True,
        timeout=300,
        cwd=folder,
        env=environment,
    )
    assert ended.stdout == "[] [] []\n", ended.stdout
