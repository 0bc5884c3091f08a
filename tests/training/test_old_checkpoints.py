"""A training that the version before left at iteration 4 of 8 goes on there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.upgrade import in_todays_names, take_checkpoint, unpack

from pipeline.config.load import parse_config
from pipeline.config.names import with_current_keys
from pipeline.config.run import RunConfig
from pipeline.store.store import Store
from pipeline.tasks.base import task_of
from pipeline.training.loop import Loop, train


@pytest.fixture(scope="module")
def old_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("site"))


def trained(config: RunConfig, folder: Path, store: Store) -> list[int]:
    """Train on the old store's own training side; returns the iterations that were logged."""
    task, iterations = task_of(config), []
    keys = sorted(k for k, r in store.records().items() if store.split()[r.patient] == "train")
    task.prepare(store, {"train": keys, "validation": [], "test": []}, config)
    train(
        config,
        task.training_data(store, keys, config, config.train.iterations * config.train.batch),
        folder=folder,
        log=lambda metrics, iteration: iterations.append(iteration),
        data_digest=store.data_digest(keys),
    )
    return iterations


@pytest.mark.parametrize("name", ["interrupted", "adversarial"])
@pytest.mark.parametrize("names", ["old", "today's"])
def test_it_goes_on_by_old_names_and_by_todays(
    name: str, names: str, old_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = yaml.safe_load((old_site / "configs" / f"{name}.yaml").read_text(encoding="utf-8"))
    if names != "old":
        raw = in_todays_names(with_current_keys(raw)[0])
    checkpoint = take_checkpoint(name, tmp_path)
    begun: list[Any] = []
    resume = Loop.resume
    monkeypatch.setattr(Loop, "resume", lambda *given: begun.append(resume(*given)) or begun[-1])
    logged = trained(parse_config(raw), checkpoint.parent, Store.existing(old_site / "store"))
    assert begun == [4]
    every = raw["train"]["log_every"]
    assert logged == list(range(every, 9, every))  # of the first four, what the old code logged
    assert list(checkpoint.parent.glob("*.pt")) == [checkpoint]
    assert torch.load(checkpoint, weights_only=True)["iteration"] == 8
