"""/health of every long-running part says when it hangs, and systemd learns it."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable

import pytest
from helpers.dicom import KEY
from helpers.pacs import free_port, settings, write_ct
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from flows.hospital import receiver_watch
from flows.hospital.receiver_watch import ReceiverWatch
from flows.hospital.review_watch import ReviewWatch
from flows.hospital.watched import Health, Part, serve_part, watched
from pipeline.core.errors import ConfigError
from pipeline.pacs.incoming.receiver import Receiver
from pipeline.pacs.peers.dimse import DimsePeer
from pipeline.pacs.peers.peer import Refused
from pipeline.pacs.settings.endpoints import Dimse
from pipeline.pacs.work.ledger import Ledger


def asked(port: int, path: str = "health") -> tuple[int, str]:
    try:
        answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    return answer.status, answer.read().decode()


def figures(port: int) -> dict[str, float]:
    _, text = asked(port, "metrics")
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def wait_until(happened: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < until, what
        time.sleep(0.05)


def test_a_receiver_that_hangs_is_unhealthy_and_what_it_answers_is_counted(tmp_path, monkeypatch):
    port = free_port()
    chosen = settings(tmp_path / "work", receive={"port": port})
    watch = ReceiverWatch(chosen)
    receiver = Receiver(chosen, Ledger(chosen.work), "m", KEY, on_answer=watch.on_answer)
    server = receiver.start()
    watch.listens(server)
    entity = DimsePeer(Dimse(host="127.0.0.1", port=port, called="LDCT", timeout_s=10))
    with serve_part(watch, "0") as asked_here:
        own = asked_here.server_port
        assert asked(own)[0] == 200
        entity.send(write_ct(tmp_path / "in", 1))
        monkeypatch.setattr("pipeline.pacs.incoming.receiver.require_bounded", no_image)
        with pytest.raises(Refused, match="0xC000"):
            entity.send(write_ct(tmp_path / "in", 2))
        found = figures(own)
        assert found["ldct_received_images_total 0000"] == 3
        assert found["ldct_received_images_total C000"] == 1
        assert found["ldct_healthy receive"] == 1
        assert found["ldct_series found"] == 0
        wait_until(lambda: figures(own)["ldct_associations"] == 0, "associations are left open")

        watch._last_sweep -= receiver_watch.MAX_UNSWEPT_S + 1
        assert asked(own)[0] == 503
        watch.on_sweep()
        assert asked(own)[0] == 200
        server.shutdown()  # the thread that accepts associations is gone
        monkeypatch.setattr(receiver_watch, "MAX_DEAF_S", 0.2)
        wait_until(lambda: asked(own)[0] == 503, "nobody listens, and that is not said")
        assert figures(own)["ldct_healthy receive"] == 0


def no_image(stream: object) -> None:
    raise ValueError


def test_a_review_server_that_does_not_answer_is_unhealthy():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        watch = ReviewWatch("127.0.0.1", silent.getsockname()[1])
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("flows.hospital.review_watch.TIMEOUT_S", 0.2)
            assert watch.health() == Health(False, {"server": "TimeoutError"})
    assert watch.health().facts == {"server": "ConnectionRefusedError"}


class Ailing(Part):
    """A part whose health a test chooses."""

    name = "ailing"

    def __init__(self) -> None:
        self.well, self.registry = True, CollectorRegistry()

    def health(self) -> Health:
        return Health(self.well, {"why": "a test"})


@pytest.fixture
def systemd(tmp_path, monkeypatch) -> socket.socket:
    """The socket that systemd listens on for what a service says of itself."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path)
        listening.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        monkeypatch.setenv("WATCHDOG_USEC", "400000")
        yield listening


def test_systemd_hears_of_a_part_until_it_hangs(systemd, capfd):
    part = Ailing()
    with watched(part, None):
        assert systemd.recv(100) == b"READY=1"
        assert systemd.recv(100) == b"WATCHDOG=1"
        part.well = False
        systemd.settimeout(1)
        with pytest.raises(TimeoutError):
            receive_more(systemd)
        systemd.settimeout(60)
        part.well = True
        assert systemd.recv(100) == b"WATCHDOG=1"
    while (said := systemd.recv(100)) == b"WATCHDOG=1":
        pass
    assert said == b"STOPPING=1"
    assert capfd.readouterr().err.splitlines() == [
        "ailing does not work: {'why': 'a test'}",
        "ailing works again: {'why': 'a test'}",
    ]


def receive_more(listening: socket.socket) -> None:
    """More than what was under way."""
    for _ in range(3):
        listening.recv(100)


def test_a_part_ends_in_good_order_at_sigterm():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, watched(Ailing(), None):
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 0
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_process_s_watchdog_is_not_ours(systemd, monkeypatch):
    monkeypatch.setenv("WATCHDOG_PID", "1")
    with watched(Ailing(), None):
        assert systemd.recv(100) == b"READY=1"
    assert systemd.recv(100) == b"STOPPING=1"


def test_a_host_is_given_where_another_container_asks():
    with serve_part(Ailing(), "0.0.0.0:0") as server:
        assert server.server_address[0] == "0.0.0.0"
    for wrong in ("nine", "127.0.0.1:", "99999", "no.such.host.invalid:9108"):
        with pytest.raises(ConfigError, match="--metrics"), serve_part(Ailing(), wrong):
            pass


def test_a_collector_that_fails_is_answered_and_nobody_else_waits(capfd):
    part = Ailing()
    with serve_part(part, "0") as server:
        with socket.create_connection(("127.0.0.1", server.server_port)):  # says nothing
            assert json.loads(asked(server.server_port)[1]) == {"why": "a test"}
        part.health = None  # type: ignore[method-assign, assignment]
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            asked(server.server_port)
    assert "a request for /metrics or /health failed" in capfd.readouterr().err


def test_threads_of_a_part_end_with_it():
    before = threading.active_count()
    with watched(Ailing(), "0"):
        pass
    wait_until(lambda: threading.active_count() <= before, "a thread stays")
