"""Commands of one shot are plain functions, unless a server is configured or --flow asks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Ended
from helpers.dicom import write_series
from helpers.flows import identity_config, register
from helpers.images import tiny_store

from flows.runtime import orchestration

Ldct = Callable[..., Ended]


@pytest.fixture
def flows_run(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the flows that began, as on a computer without a configured API."""
    began: list[str] = []
    as_flow = orchestration.redact_errors

    def noted(name: str) -> Callable[[Callable], Callable]:
        def decorate(body: Callable) -> Callable:
            @functools.wraps(body)
            def in_run(*given: Any, **named: Any) -> Any:
                began.append(name)
                return body(*given, **named)

            return as_flow(name)(in_run)

        return decorate

    monkeypatch.setattr(orchestration, "redact_errors", noted)
    monkeypatch.setattr(orchestration, "api_is_configured", lambda: False)
    return began


@pytest.fixture
def words(tmp_path: Path, own_registry: None) -> dict[str, list[object]]:
    write_series(tmp_path / "in", 2)
    model = register(identity_config()).uri
    store = tiny_store(tmp_path / "figures", patients=4).path
    return {
        "apply": [model, tmp_path / "in", "--out", tmp_path / "out"],
        "ingest": [tmp_path / "in", "--store", tmp_path / "store"],
        "evaluate": [model, "--store", store],
        "models": [],
    }


@pytest.mark.parametrize("command", ["apply", "ingest", "evaluate", "models"])
def test_a_flow_only_where_it_is_asked_for(
    command: str, words: dict[str, list[object]], ldct: Ldct, flows_run: list[str]
) -> None:
    plain = ldct(command, *words[command], "--json")
    assert plain.code == 0, plain.err
    assert flows_run == []
    flow = ldct(command, *words[command], "--flow", "--json")
    assert flow.code == 0, flow.err
    assert flows_run[0] == f"ldct-{command}", "and its tasks after it"
    assert flow.json.keys() == plain.json.keys()
