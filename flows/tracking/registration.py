"""A trained model becomes a version: its files, its figures as metrics, its card, its alias."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.entities.model_registry import ModelVersion

from flows.tracking.datasets import tags_of_run
from flows.tracking.mlflow_run import TrackedRun
from flows.tracking.model_files import FILES, FOLDER, log_model, model_id_of, write_files
from flows.tracking.registry import Registry, made_by_another
from flows.tracking.versions import Recorded, card_of
from pipeline.config.names import digest
from pipeline.config.run import RunConfig
from pipeline.core.json_numbers import JsonRecord
from pipeline.core.leftovers import scratch_folder
from pipeline.core.types import Json
from pipeline.core.verdicts import Verdict
from pipeline.models.adapters.card import CONFIG, ModelCard
from pipeline.report.model_card import CardFacts, model_card
from pipeline.store.published_splits import TRAIN

if TYPE_CHECKING:
    from pipeline.evaluation.stable_metrics import Metrics
    from pipeline.models.adapters.base import ModelAdapter

#: On a version: which training made it, by a name drawn for its folder.
TRAINING = "training"
#: The headline of a version without figures.
NOT_MEASURED = {"text": "not measured"}
#: Of a model card, what MLflow's UI has room for beside a version.
MAX_CARD = 5000


@dataclass(frozen=True)
class NewVersion:
    """What is registered, of a run's model by the name in its configuration.

    seen: what its training saw (pipeline.inference.traits). training: which one it was; a version
    with the weights that the same one ended with, as a run leaves that was killed after it
    registered, is taken in place of a new one. figures: None for a model from elsewhere that was
    not measured; its gate then cannot have passed.
    """

    model: ModelAdapter
    config: RunConfig
    data_digest: str
    figures: JsonRecord | None
    verdict: Verdict
    seen: Json | None = None
    training: str = ""

    @property
    def name(self) -> str:
        """The registered model's."""
        return self.config.register_.name

    @property
    def config_digest(self) -> str:
        """Of the whole configuration."""
        return digest(self.config.resolved())


def register(registry: Registry, run: TrackedRun, new: NewVersion) -> ModelCard:
    """Make a new version; the first that passes its gate becomes the champion."""
    from pipeline.models.adapters.weights import save_model  # torch: a look-up needs it not

    with scratch_folder() as scratch:
        folder = scratch / FOLDER
        weights_sha256 = save_model(new.model, new.config.resolved(), folder)
        version = _registered(registry, new, weights_sha256)
        if version is None:
            model_id = _store(run, new, folder, weights_sha256)
            version = _new_version(registry, run, new, model_id, weights_sha256)
        else:
            run.log_test(_metrics(new), model_id_of(version))
    run.log_version(version)
    if not version.aliases:  # a version that was there already may have its own
        registry.give_alias(registry.client, version, passed=new.verdict.passed)
    return replace(card_of(version), gate=new.verdict)


def _metrics(new: NewVersion) -> Metrics:
    from pipeline.tasks.base import task_of  # all stages: a look-up needs them not

    return {} if new.figures is None else task_of(new.config).metrics(new.figures)


def _headline(new: NewVersion) -> Json:
    from pipeline.tasks.base import task_of

    return NOT_MEASURED if new.figures is None else task_of(new.config).headline(new.figures)


def _registered(registry: Registry, new: NewVersion, weights_sha256: str) -> ModelVersion | None:
    """The newest version of a model, where this training made it, with these weights and by
    this configuration."""
    rows = registry.client.search_model_versions(f"name='{new.name}'")
    newest = max(rows, key=lambda row: int(row.version), default=None)
    if newest is None or not new.training:
        return None
    tags = (TRAINING, "weights_sha256", "config_digest")
    made = [new.training, weights_sha256, new.config_digest]
    same = [newest.tags.get(tag) for tag in tags] == made
    return registry.client.get_model_version(new.name, newest.version) if same else None


def _store(run: TrackedRun, new: NewVersion, folder: Path, weights_sha256: str) -> str:
    """The files and figures of a model; returns its ID in MLflow."""
    digests = {"weights_sha256": weights_sha256, "config_digest": new.config_digest}
    figures = {} if new.figures is None else new.figures.to_dict()
    recorded = Recorded(figures, new.verdict)
    write_files(folder, digests=digests, recorded=recorded, seen=new.seen)
    model, task = new.model, new.config.task
    shapes = {"input": list(model.input_shape), "output": list(model.output_shape)}
    model_id = log_model(run, folder, new.name, {"task": task, **shapes})
    run.log_test(_metrics(new), model_id)
    run.client.log_artifact(run.run_id, str(folder / CONFIG))
    run.log_environment()
    return model_id


def _new_version(
    registry: Registry, run: TrackedRun, new: NewVersion, model_id: str, weights_sha256: str
) -> ModelVersion:
    """A version of the model, which is made where it is the first, of a stored MLflow model."""
    client, headline = registry.client, _headline(new)
    about = {
        **tags_of_run(new.config, run.sides.get(TRAIN)),
        "parameters": str(sum(p.numel() for p in new.model.network.parameters())),
        "strength": str(new.model.strength),
        "weights_sha256": weights_sha256,
        "config_digest": new.config_digest,
        "data_digest": new.data_digest,
    }
    data = [side.line for side in run.sides.values()]
    facts = CardFacts(new.name, headline["text"], about, data, _metrics(new), new.verdict)
    card = model_card(facts)
    run.log_card(card)
    tags = {
        **about,
        "gate": "passed" if new.verdict.passed else "failed",
        "headline": json.dumps(headline),
        TRAINING: new.training,
        FILES: f"data/{FOLDER}",
    }
    with made_by_another():
        if not client.search_registered_models(filter_string=f"name='{new.name}'"):
            client.create_registered_model(new.name)
    return client.create_model_version(
        new.name,
        f"models:/{model_id}",
        run_id=run.run_id,
        tags=tags,
        model_id=model_id,
        description=card[:MAX_CARD],
    )
