"""A stage that needs a server is tried again where it could not be reached, and only there."""

from __future__ import annotations

import pytest

from flows.runtime import orchestration
from flows.runtime.orchestration import in_flow, stage_task


def unreachable() -> None:
    """As MLflow puts it: its own error, raised while requests' was handled."""
    try:
        raise ConnectionRefusedError
    except OSError as error:
        raise RuntimeError("API request failed") from error


def wrong() -> None:
    raise ValueError("no such model")


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(
    ("fault", "over_network", "attempts"),
    [(unreachable, True, 3), (wrong, True, 1), (unreachable, False, 1)],
)
def test_only_what_may_pass_is_tried_again(monkeypatch, fault, over_network, attempts):
    monkeypatch.setattr(orchestration, "RETRY_AFTER_S", [0.0, 0.0])
    tried = []

    @stage_task("load", lambda: "m/1", over_network=over_network)
    def stage() -> None:
        tried.append(1)
        fault()

    with pytest.raises((RuntimeError, ValueError)):
        in_flow("of-a-test", stage, always=True)
    assert len(tried) == attempts


@pytest.mark.usefixtures("prefect_server")
def test_a_server_that_comes_back_costs_the_run_nothing(monkeypatch):
    monkeypatch.setattr(orchestration, "RETRY_AFTER_S", [0.0, 0.0])
    tried = []

    @stage_task("load", lambda: "m/1", over_network=True)
    def stage() -> str:
        tried.append(1)
        if len(tried) < 3:
            unreachable()
        return "loaded"

    assert in_flow("of-a-test", stage, always=True) == "loaded"
    assert len(tried) == 3
