"""`ldct run --compare` with several models: side by side, and what fails is named."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.images import run_config
from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from flows import run, stages
from flows.runtime.orchestration import stage_task
from flows.runtime.private_errors import run_flow
from pipeline.core.errors import LdctError
from pipeline.store.store import Store

#: Seconds that a stage waits for the one beside it.
PATIENCE_S = 60.0


class Stages:
    """In the place of loading and evaluating: the second needs another one beside it."""

    def __init__(self, broken: frozenset[str] = frozenset()) -> None:
        self.broken = broken
        self.beside = threading.Barrier(2)
        self.lock = threading.Lock()
        self.at_work = self.most = 0

    def load(self, reference: str) -> Any:
        if reference in self.broken:
            raise LdctError(f"no version of {reference.partition('/')[0]}")
        return SimpleNamespace(model=reference)

    def evaluate(
        self, model: str, store: Store, config: Any, keys: list[str], reference: str
    ) -> Any:
        assert reference == model, "each is called by its name"
        with self.lock:
            self.at_work += 1
            self.most = max(self.most, self.at_work)
        self.beside.wait(PATIENCE_S)
        with self.lock:
            self.at_work -= 1
        return SimpleNamespace(to_dict=lambda: {"model": model})


def compared(
    given: Stages, references: list[str], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> Any:
    monkeypatch.setattr(stages, "load_stage", stage_task("load")(given.load))
    monkeypatch.setattr(stages, "evaluate_stage", stage_task("evaluate")(given.evaluate))

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=run.MODELS_AT_ONCE))
    def compare() -> Any:
        return run._compare(references, Store(folder), run_config(), ["s-0"])

    return run_flow(compare)


@pytest.mark.usefixtures("prefect_server")
def test_models_are_measured_side_by_side_two_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given, references = Stages(), ["d/1", "a/2", "c@champion", "b/7"]
    found = compared(given, [*references, "a/2"], monkeypatch, tmp_path)
    assert list(found) == references
    assert found == {name: {"model": name} for name in references}
    assert given.most == run.MODELS_AT_ONCE


@pytest.mark.usefixtures("prefect_server")
def test_each_that_fails_is_named_after_the_others_were_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = Stages(broken=frozenset({"x/1", "y/1"}))
    with pytest.raises(LdctError) as failed:
        compared(given, ["x/1", "a/2", "y/1", "b/7"], monkeypatch, tmp_path)
    assert "--compare x/1: no version of x; --compare y/1: no version of y" in str(failed.value)
    assert given.most == 2
    assert given.at_work == 0
