"""Where the registry is, as a run's closing table tells it, and its first use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.tracking.registry import Registry

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("uri", "where", "how"),
    [
        (
            "sqlite:////data/m.db",
            "/data/m.db",
            "mlflow ui --backend-store-uri sqlite:////data/m.db",
        ),
        ("https://me:secret@host:5000/m?key=secret", "https://host:5000/m", "open it in a browser"),
        ("postgresql+pg8000://me:secret@host/mlflow", "postgresql+pg8000://host/mlflow", ""),
    ],
)
def test_it_is_told_without_passwords(uri: str, where: str, how: str) -> None:
    assert Registry(uri, None).location == (where, how)


def test_it_is_the_one_that_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/own.db")
    assert Registry.default().location[0] == f"{tmp_path}/own.db"


FIRST_USE = """
from flows.tracking.registry import Registry
print(len(Registry.default().list()))
"""


def test_the_first_use_of_a_registry_by_two_at_once(tmp_path: Path) -> None:
    """MLflow alone fails: each process makes the tables that the other is making."""
    place = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/new.db", "PYTHONPATH": str(ROOT)}
    env = os.environ | place
    command = [sys.executable, "-c", FIRST_USE]
    running = [
        subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    ended = [(process.communicate(timeout=300), process.returncode) for process in running]
    assert [(out.strip(), code) for (out, _), code in ended] == [("0", 0)] * 3, ended
