"""What MLflow copies, of a run or from a server, lies where a kill's leftovers are swept."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest

from flows.tracking import model_files
from pipeline.core import leftovers


@pytest.mark.parametrize(
    ("uri", "tags", "swept"),
    [
        ("http://127.0.0.1:5000", {model_files.FILES: "data/ldct"}, True),
        ("sqlite:///mlruns/mlflow.db", {}, True),
        ("sqlite:///mlruns/mlflow.db", {model_files.FILES: "data/ldct"}, False),
    ],
)
def test_files_that_are_copied_go_into_a_folder_of_the_process(
    monkeypatch: pytest.MonkeyPatch, uri: str, tags: dict[str, str], swept: bool
) -> None:
    asked: list[str | None] = []

    def download(place: str, dst_path: str | None) -> str:
        asked.append(dst_path)
        return "/"

    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: uri)
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", download)
    version: Any = SimpleNamespace(name="m", version=1, run_id="r", tags=tags)
    for _ in range(2):
        model_files.download(version)
    if not swept:
        assert asked == [None, None]  # read where they are
        return
    places = [Path(place or "") for place in asked]
    assert places[0] != places[1]
    (scratch,) = {place.parent for place in places}
    found = leftovers._SCRATCH.match(scratch.name)
    assert found
    assert int(found["pid"]) == os.getpid()
