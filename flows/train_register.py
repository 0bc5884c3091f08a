"""Train, evaluate and register: the part that `ldct run` and `ldct train` share."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

from flows import stages
from flows.runtime.timings import StageTimings
from flows.tracking.datasets import sides_of_run
from flows.tracking.registration import NewVersion
from flows.tracking.registry import Registry
from pipeline.config.names import digest
from pipeline.config.run import RunConfig
from pipeline.core.atomic_files import write_text
from pipeline.core.json_numbers import JsonRecord
from pipeline.core.types import Json
from pipeline.core.verdicts import Verdict
from pipeline.models.adapters.card import ModelCard
from pipeline.store.published_splits import TEST, TRAIN, VALIDATION
from pipeline.store.store import Store
from pipeline.tasks.base import task_of
from pipeline.tasks.sides import keys_by_side
from pipeline.training.distributed import process_group
from pipeline.training.loop import require_step_for
from pipeline.training.precision import Precision


@dataclass(frozen=True)
class Trained:
    """A registered model version and what is known of it; run_id: of its training in MLflow."""

    card: ModelCard
    curve: stages.Curve
    precision: Precision
    figures: JsonRecord
    verdict: Verdict
    run_id: str

    def facts(self) -> Json:
        """What a report says of the model."""
        aliases = list(Registry.default().find(self.card.uri).aliases)
        return {
            "model": {
                "name": self.card.name,
                "version": self.card.version,
                "aliases": aliases,
                "weights_sha256": self.card.weights_sha256,
                "parameters": self.card.parameters,
                "strength": self.card.strength,
                "uri": self.card.uri,
            },
            "data_digest": self.card.data_digest,
            "config_digest": self.card.config_digest,
            "precision": self.precision.to_dict(),
            "metrics": self.figures.to_dict(),
            "gate": self.verdict.to_dict(),
        }


def known_version(store: Store, config: RunConfig, sides: dict[str, str]) -> str | None:
    """The newest version that was trained on the same data by the same configuration."""
    data_digest = store.data_digest(keys_by_side(store, config, sides)[TRAIN])
    wanted = config.register_.name, data_digest, digest(config.resolved())
    versions = [
        row.version
        for row in Registry.default().list(metrics=())
        if (row.name, row.data_digest, row.config_digest) == wanted
    ]
    return f"{config.register_.name}/{max(versions)}" if versions else None


def train_and_register(
    store: Store, config: RunConfig, sides: dict[str, str], *, folder: Path, clock: StageTimings
) -> Trained:
    """Degrade, train on one side of the split, evaluate on the other, register the result.

    folder keeps the checkpoint, from which an interrupted training goes on.
    """
    require_step_for(process_group(), config)  # before the data is made ready, which takes minutes
    keys = keys_by_side(store, config, sides)
    clock.run("degrade", stages.degrade_stage, store, config, sides)
    data_digest = store.data_digest(keys[TRAIN])
    data = sides_of_run(store, keys, config)
    with Registry.default().run(config, data_digest=data_digest, sides=data) as run:
        model, curve, precision = clock.run(
            "train",
            stages.train_stage,
            store,
            config,
            keys[TRAIN],
            validation=task_of(config).validation_keys(store, config, keys[VALIDATION]),
            folder=folder,
            run=run,
        )
        figures = clock.run("evaluate", stages.evaluate_stage, model, store, config, keys[TEST])
        verdict = task_of(config).judge(figures, config)
        seen = task_of(config).traits(store, keys[TRAIN], config)
        new = NewVersion(model, config, data_digest, figures, verdict, seen, _name_of(folder))
        card = clock.run("register", stages.register_stage, run, new)
    return Trained(card, curve, precision, figures, verdict, run.run_id)


def _name_of(folder: Path) -> str:
    """A name for the trainings in a folder, drawn at the first: it stays where a run goes on."""
    path = folder / "training.id"
    if not path.exists():
        write_text(path, uuid.uuid4().hex + "\n")
    return path.read_text(encoding="utf-8").strip()
