"""/metrics and /health scraped from a worker that works, and lines for a hospital's log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from helpers.pacs import FolderPeer, derive, free_port, series_of, settings, write_ct
from prometheus_client.parser import text_string_to_metric_families

from flows.hospital import prometheus as metrics
from flows.hospital.prometheus import WorkerMetrics
from flows.hospital.watched import serve_part
from pipeline.core.errors import ConfigError
from pipeline.pacs.steps.worker import Worker
from pipeline.pacs.work.ledger import Ledger

SECRETS = ("SECRET-4711", "Geheim", "826.0.1.3680043")


def scraped(port: int) -> dict[str, float]:
    """Figures by name and labels, read as Prometheus reads them."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    assert not any(secret in text for secret in SECRETS)
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def asked(port: int) -> tuple[int, dict]:
    try:
        answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/health")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())
    return answer.status, json.loads(answer.read())


def test_a_worker_is_scraped_before_and_after_its_work(tmp_path):
    source, destination = FolderPeer(tmp_path / "from"), FolderPeer(tmp_path / "to")
    chosen = settings(tmp_path / "work", retry={"attempts": 2, "first_s": 1e6})
    ledger, began = Ledger(chosen.work), time.time()
    for number in (1, 2):
        paths = write_ct(tmp_path / "in", number)
        source.send(paths)
        ledger.add(series_of(paths), "m", origin="test", rule="any", due=ledger.now() - 50)
    worker = Worker(chosen, ledger, derive, {"": destination}, source)
    worker_metrics = WorkerMetrics(chosen)
    with serve_part(worker_metrics, "0") as server:
        port = server.server_port
        before = scraped(port)
        assert (before["ldct_series found"], before["ldct_queue"]) == (2, 2)
        assert 50 <= before["ldct_queue_wait_seconds"] <= 50 + time.time() - began
        assert before["ldct_series_per_hour"] == 0
        destination.answers = [OSError("disk full")]  # of the first series' sending
        worker_metrics.on_poll()
        worker.run_due(worker_metrics.on_step)
        after = scraped(port)
        assert (after["ldct_series sent"], after["ldct_series derived"]) == (1, 1)
        assert (after["ldct_queue"], after["ldct_queue_wait_seconds"]) == (0, 0)
        assert (after["ldct_failing"], after["ldct_failures_total derived"]) == (1, 1)
        assert after["ldct_series_per_hour"] == 1
        counts = {s: after[f"ldct_step_seconds_count {s}"] for s in ("retrieve", "derive", "send")}
        assert counts == {"retrieve": 2, "derive": 2, "send": 1}
        assert 0 < after["ldct_step_seconds_sum derive"] < 60


def test_health_fails_for_a_worker_that_hangs_and_a_ledger_that_is_gone(tmp_path, monkeypatch):
    chosen = settings(tmp_path / "work")
    worker_metrics = WorkerMetrics(chosen)
    with serve_part(worker_metrics, "0") as server:
        assert asked(server.server_port) == (200, {"ledger": "ok", "silent_s": 0})
        worker_metrics._last_alive -= metrics.MAX_SILENCE_S + 1
        assert asked(server.server_port)[0] == 503
        worker_metrics.on_poll()
        assert asked(server.server_port)[0] == 200
        (tmp_path / "work" / "ledger.db").write_bytes(b"no database")
        code, answer = asked(server.server_port)
        assert (code, answer["ledger"]) == (503, "ConfigError")


def test_it_is_reached_from_this_computer_alone(tmp_path):
    with serve_part(WorkerMetrics(settings(tmp_path / "work")), "0") as server:
        assert server.server_address[0] == "127.0.0.1"
        taken = str(server.server_port)
        with pytest.raises(ConfigError, match="--metrics"):
            serve_part(WorkerMetrics(settings(tmp_path / "work")), taken).__enter__()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/etc/passwd")


def test_a_log_of_json_lines_has_facts_and_no_names(tmp_path):
    """The command as a service: its steps are lines that a machine reads; paths stay out."""
    patient = tmp_path / "Geheim"
    chosen = {
        "model": "redcnn@pretrained",
        "work": str(patient / "work"),
        "rules": [{"name": "any"}],
    }
    chosen["send"] = {"dimse": {"host": "127.0.0.1", "port": 1, "called": "X"}}
    ledger = Ledger(patient / "work")
    paths = write_ct(tmp_path / "in", 1)
    ledger.add(series_of(paths), "redcnn@pretrained", origin="test", rule="any", due=0)
    (patient / "hospital.yaml").write_text(json.dumps(chosen))
    port = free_port()
    command = ["-m", "flows.cli.app", "pacs", "work", patient / "hospital.yaml", "--forever"]
    environment = {**os.environ, "LDCT_LOG": "json", "PYTHONPATH": os.pathsep.join(sys.path)}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *command, "--metrics", str(port)],
            stderr=log,
            env=environment,
            start_new_session=True,  # Prefect's server of its own goes with it
        )
        try:
            lines = wait_for_lines(tmp_path / "log", 2, process)
            assert asked(port)[0] == 200
            assert scraped(port)["ldct_failing"] == 1
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert [line["event"] for line in lines] == ["serving", "step"]
    assert lines[1]["state"] == "found"
    assert lines[1]["failures"] == 1
    assert "not moved its files" in lines[1]["note"]
    text = (tmp_path / "log").read_text()
    assert not any(secret in text for secret in SECRETS)


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_wrong_use_of_the_command_line_is_a_line_too(tmp_path, more):
    command = [sys.executable, "-m", "flows.cli.app", "status", "Geheim.yaml", "--bogus", *more]
    paths = os.pathsep.join(sys.path)
    environment = {**os.environ, "LDCT_LOG": "json", "PYTHONPATH": paths, "TMPDIR": str(tmp_path)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    (line,) = map(json.loads, ended.stderr.splitlines())
    assert (line["event"], line["code"]) == ("failed", 2)
    assert "Geheim" not in ended.stderr
    assert "--bogus" in Path(line["details"]).read_text()
    if more:
        assert json.loads(ended.stdout)["error"]["code"] == 2


def wait_for_lines(path: Path, count: int, process: subprocess.Popen) -> list[dict]:
    until = time.monotonic() + 300
    while (lines := path.read_text().splitlines())[count - 1 :] == []:
        assert process.poll() is None, path.read_text()
        assert time.monotonic() < until
        time.sleep(0.2)
    return [json.loads(line) for line in lines]
