"""A run that is killed, for real, ends as one that was not. Minutes long: `pytest -m slow`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CONFIG = Path(__file__).parents[1] / "configs" / "demo.yaml"
SETTINGS = [
    "train.iterations=300",
    "train.checkpoint_every=20",
    "model.args.channels=8",
    "degradation.args.views=240",
]


@pytest.mark.slow
def test_kill_9_in_the_middle_of_training(phantom_patients: Path, tmp_path: Path) -> None:
    unbroken = run(phantom_patients, tmp_path / "unbroken")
    unbroken.wait(300)
    killed = run(phantom_patients, tmp_path / "killed")
    wait_for_checkpoint(tmp_path / "killed")
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "report.json").exists()
    resumed = run(phantom_patients, tmp_path / "killed")
    assert resumed.wait(300) == 0
    models = [
        json.loads((tmp_path / name / "report.json").read_text())["model"]
        for name in ("unbroken", "killed")
    ]
    assert models[0]["weights_sha256"] == models[1]["weights_sha256"]
    assert [path for path in tmp_path.rglob(".partial*") if path.is_dir()] == []


def run(data: Path, out: Path) -> subprocess.Popen:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    command = [sys.executable, "-m", "flows.cli", "run", str(CONFIG), "--data", str(data)]
    environment = {**os.environ, "PREFECT_HOME": str(out.parent / "prefect")}
    return subprocess.Popen(
        [*command, "--out", str(out), *settings], cwd=out.parent, env=environment
    )


def wait_for_checkpoint(out: Path) -> None:
    for _ in range(1200):
        if list(out.glob("training/checkpoint-*.pt")):
            return
        time.sleep(0.1)
    pytest.fail("no checkpoint within two minutes")
