"""One training in MLflow: its settings, its data, its figures as they come, and its files."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import mlflow
from mlflow.entities import Metric, Param
from mlflow.entities.model_registry import ModelVersion
from mlflow.utils.validation import (
    MAX_METRICS_PER_BATCH,
    MAX_PARAM_VAL_LENGTH,
    MAX_PARAMS_TAGS_PER_BATCH,
)

from flows.tracking.datasets import SideOfRun
from pipeline.core.metric_names import metric_name
from pipeline.core.types import Json
from pipeline.core.versions import environment
from pipeline.report.shared_page import without_files
from pipeline.store.published_splits import TEST

if TYPE_CHECKING:  # which takes a second to import
    from pipeline.config.run import RunConfig

RowT = TypeVar("RowT")
REPORT, ENVIRONMENT, MODEL_CARD = "report.html", "environment.txt", "model-card.md"
#: Of what the task's page has beside it.
PICTURES = ("overview.png",)
#: The tag that MLflow's UI shows as the run's description, in Markdown.
DESCRIPTION = "mlflow.note.content"


@dataclass(frozen=True)
class TrackedRun:
    """One MLflow run, written to by its ID: no global active run to get wrong.

    sides: the data, by side of the split.
    """

    client: mlflow.MlflowClient
    run_id: str
    sides: Mapping[str, SideOfRun] = field(default_factory=dict)

    def log_config(self, config: RunConfig) -> None:
        """Every setting as a parameter, sections joined by dots."""
        settings = flat(config.resolved())
        params = [Param(key, str(value)[:MAX_PARAM_VAL_LENGTH]) for key, value in settings.items()]
        for some in _requests(params, MAX_PARAMS_TAGS_PER_BATCH):
            self.client.log_batch(self.run_id, params=some)

    def log_data(self) -> None:
        """Each side of the split as a dataset."""
        if self.sides:
            datasets = [side.to_mlflow() for side in self.sides.values()]
            self.client.log_inputs(self.run_id, datasets=datasets)

    def log_environment(self) -> None:
        """Python, and every installed package with its version."""
        self.client.log_text(self.run_id, environment(), ENVIRONMENT)

    def log_precision(self, used: str) -> None:
        """fp32 or bf16, whatever the configuration left open."""
        self.client.set_tag(self.run_id, "precision", used)

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Figures of one iteration."""
        rows = [Metric(key, value, 0, step) for key, value in metrics.items()]
        self.client.log_batch(self.run_id, metrics=rows)

    def log_test(self, metrics: Mapping[str, float], model_id: str | None) -> None:
        """Figures of the test patients, of this run and of its model."""
        now, test = int(time.time() * 1000), self.sides.get(TEST)
        rows = [
            Metric(
                key,
                value,
                now,
                0,
                model_id=model_id,
                dataset_name=test.name if test else None,
                dataset_digest=test.short_digest if test else None,
                run_id=self.run_id,
            )
            for key, value in metrics.items()
        ]
        for some in _requests(rows, MAX_METRICS_PER_BATCH):
            self.client.log_batch(self.run_id, metrics=some)

    def log_version(self, version: ModelVersion) -> None:
        """Which version of which model came of it, and whether its gate passed."""
        found = {"model": version.name, "version": version.version}
        for tag, value in (found | {"gate": version.tags.get("gate", "")}).items():
            self.client.set_tag(self.run_id, tag, value)

    def log_card(self, text: str) -> None:
        """The model card, as a file and as the run's description."""
        self.client.log_text(self.run_id, text, MODEL_CARD)
        self.client.set_tag(self.run_id, DESCRIPTION, text)


def _requests(rows: list[RowT], most: int) -> Iterator[list[RowT]]:
    """The rows, so many at a time: as many as MLflow takes in a request."""
    for first in range(0, len(rows), most):
        yield rows[first : first + most]


def log_report(client: mlflow.MlflowClient, run_ids: Iterable[str], page: Path) -> None:
    """A run's page, without the names and values of refused files, and the picture beside it."""
    text = without_files(page.read_text(encoding="utf-8"))
    for run_id in run_ids:
        client.log_text(run_id, text, REPORT)
        for picture in (page.with_name(name) for name in PICTURES):
            if picture.exists():
                client.log_artifact(run_id, str(picture))


def flat(tree: Json, prefix: str = "") -> Json:
    """Nested settings by names with dots, with `_` for what MLflow does not take in a name."""
    found: Json = {}
    for key, value in tree.items():
        name = f"{prefix}{metric_name(key)}"
        found |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found
