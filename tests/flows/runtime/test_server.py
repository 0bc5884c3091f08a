"""Prefect's temporary server: begun early, found by the flow, and gone with the process."""

from __future__ import annotations

import http.client
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.runtime import ephemeral_server as server

FLOW = """
from flows.runtime.ephemeral_server import _server, begin
begin()
from prefect.settings import PREFECT_API_URL
from flows.commands import in_flow
found = in_flow("of-a-test", lambda: {"url": PREFECT_API_URL.value()})
assert found["url"] == _server().url, found
print(_server().port, PREFECT_API_URL.value())
"""


def test_a_flow_finds_the_server_that_was_begun_and_nothing_of_it_stays(tmp_path: Path) -> None:
    environment = {"PREFECT_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-c", FLOW],
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[3],
        env=environment,
    )
    assert ended.returncode == 0, ended.stderr
    port, outside = ended.stdout.split()
    assert outside == "None", "the setting holds within the flow alone"
    with pytest.raises(OSError, match="refused"):
        http.client.HTTPConnection(server.HOST, int(port)).request("GET", "/api/health")


def test_nothing_is_started_where_an_api_is_configured() -> None:
    before = server._server.cache_info().currsize
    with temporary_settings({PREFECT_API_URL: "http://prefect.example:4200/api"}):
        server.begin()
        assert server._server.cache_info().currsize == before == 0
        with server.api():
            assert PREFECT_API_URL.value() == "http://prefect.example:4200/api"


def test_a_server_that_died_is_left_to_prefect(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as process:
        process.wait()
    dead = server._Server(process, port=1)
    assert not dead.is_ready()

    def begun() -> server._Server:
        return dead

    begun.cache_info = lambda: type("Info", (), {"currsize": 1})  # type: ignore[attr-defined]
    monkeypatch.setattr(server, "_server", begun)
    with temporary_settings({PREFECT_API_URL: None}), server.api():
        assert PREFECT_API_URL.value() is None
