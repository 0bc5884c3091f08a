"""The code books of configs/vqvae_photographs.yaml, trained as by `ldct run`, not registered."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.load import load_config
from pipeline.config.task_runs import GenerateRun
from pipeline.core.pseudonyms import installation_key
from pipeline.generative.codec import Codec
from pipeline.models.adapters.base import HUModel
from pipeline.store.published_splits import TEST, TRAIN
from pipeline.store.store import Store
from pipeline.tasks.base import task_of
from pipeline.training.loop import train
from pipeline.training.precision import Precision

CONFIG = Path(__file__).parents[1] / "configs" / "vqvae_photographs.yaml"


@dataclass(frozen=True)
class Learned:
    """A codec, the photographs that it has not seen, and how it learned."""

    codec: Codec
    test: list[NDArray[np.float32]]
    facts: dict[str, Any]


def learned(folder: Path, iterations: int | None = None) -> Learned:
    """Trains by the YAML, or goes on from the folder's checkpoint; seconds are of all runs that
    came to an end. A package of photographs that is not installed is named on stderr."""
    settings = [] if iterations is None else [f"train.iterations={iterations}"]
    config = load_config(CONFIG, [*settings, "train.device=cpu"])
    assert isinstance(config, GenerateRun)
    store, task = Store(folder / "store"), task_of(config)
    report = task.ingest(None, store, config, key=installation_key())
    for missing in report.refusals:
        print(missing.reason, file=sys.stderr)
    patients, held_back = [row.patient for row in report.series], config.data.split.test
    assert isinstance(held_back, list)
    store.record_split({one: TEST if one in held_back else TRAIN for one in patients})
    keys = sorted(row.series for row in report.series if row.patient not in held_back)
    used: list[Precision] = []
    began, kept = time.process_time(), folder / "facts.json"
    before = json.loads(kept.read_text()) if kept.exists() else {"cpu_seconds": 0.0}
    train_config = config.train
    model = train(
        config,
        task.training_data(store, keys, config, train_config.iterations * train_config.batch),
        folder=folder / "training",
        log=_log,
        data_digest=store.data_digest(keys),
        on_precision=used.append,
    )
    assert isinstance(model, HUModel)
    facts = {
        "cpu_seconds": before["cpu_seconds"] + time.process_time() - began,
        "iterations": train_config.iterations,
        "precision": used[-1].used,
        "seed": train_config.seed,
        "learned_from": len(keys),
    }
    kept.write_text(json.dumps(facts))
    test = [np.asarray(store.load(key).image_hu[0], np.float32) for key in sorted(held_back)]
    return Learned(Codec(model), test, facts)


def _log(metrics: dict[str, float], iteration: int) -> None:
    if iteration % 200 == 0:
        shown = {name: float(f"{value:.4g}") for name, value in metrics.items()}
        print("photographs", iteration, shown, file=sys.stderr, flush=True)
