"""What changes from task to task: everything else is shared by all.

A task is one module here, named by `task:` in a run's YAML. It says what is made ready for
training, what an item of the training is, what is measured and judged, how a result goes back
to whoever sent the source, and what the report shows.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from pipeline.config.run import RunConfig
from pipeline.core.errors import ConfigError
from pipeline.core.types import Progress
from pipeline.evaluation.gates import Verdict
from pipeline.export.series import Export, Exported
from pipeline.ingest.ingest import IngestReport, ingest
from pipeline.ingest.ingest import Progress as IngestProgress
from pipeline.io.discover import Source
from pipeline.models.adapters.card import ModelCard
from pipeline.store.store import Store
from pipeline.training.best_weights import BestWeights

#: Keys of stored series by the side of the split that their patients are on.
Sides = dict[str, list[str]]

_TASKS = {
    "denoise": "pipeline.tasks.denoise.Denoise",
    "generate": "pipeline.tasks.generate.Generate",
    "restore": "pipeline.tasks.restore.Restore",
    "segment": "pipeline.tasks.segment.Segment",
}


def task_of(config: RunConfig) -> Task:
    """The task that a run's configuration names."""
    module, _, name = _TASKS[config.task].rpartition(".")
    return getattr(importlib.import_module(module), name)()


class Task(ABC):
    """One kind of work on images, stage by stage; holds no state.

    takes_series: whether a model's result for a source is an image of the same place.
    """

    takes_series = True

    def ingest(
        self,
        root: Path | None,
        store: Store,
        config: RunConfig,
        *,
        key: bytes,
        progress: IngestProgress = lambda what, done, total: None,
    ) -> IngestReport:
        """Store the run's images, as pipeline.ingest.ingest does what lies below `root`."""
        if root is None:
            raise ConfigError("--data: name a folder; this run learns from your data")
        data = config.data
        return ingest(root, store, key=key, intake=data.intake, pairs=data.pairs, progress=progress)

    def usable(self, store: Store, key: str, config: RunConfig) -> bool:
        """Whether a stored series has what training and evaluation need of it."""
        return True

    def nothing_usable(self, config: RunConfig) -> str:
        """What to tell where no series is usable."""
        return f"no series is usable for the task {config.task}"

    def plan(self, store: Store, keys: Sides, config: RunConfig) -> RunConfig:
        """The run with what it leaves to the training series filled in."""
        return config

    @abstractmethod
    def prepare(
        self,
        store: Store,
        keys: Sides,
        config: RunConfig,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Make and cache in the store what training and evaluation will read."""

    @abstractmethod
    def training_data(
        self, store: Store, keys: list[str], config: RunConfig, length: int
    ) -> Dataset:
        """Items of the training, `length` of them; item i depends on the seed and i alone."""

    def selection(self, store: Store, config: RunConfig, keys: list[str]) -> BestWeights | None:
        """What chooses the weights on validation series; None: the last ones are the result."""
        if config.train.validate_every is not None:
            raise ConfigError(f"train.validate_every: not for the task {config.task}")
        return None

    def passes(self, config: RunConfig) -> int:
        """How often `evaluate` goes over each slice, and tells its progress."""
        return 1

    @abstractmethod
    def evaluate(
        self,
        model: nn.Module,
        store: Store,
        keys: list[str],
        config: RunConfig,
        progress: Progress = lambda slices: None,
    ) -> dict[str, Any]:
        """{"overall", "patients"} of stored series that training has not seen."""

    @abstractmethod
    def judge(self, figures: dict[str, Any], config: RunConfig) -> Verdict:
        """Each figure that the run limits against its limit."""

    @abstractmethod
    def headline(self, figures: dict[str, Any]) -> dict[str, Any]:
        """What a list of models has room for; "text" says it in a few words."""

    def on_phantoms(
        self, model: nn.Module, config: RunConfig, progress: Progress = lambda images: None
    ) -> dict[str, Any] | None:
        """What phantoms show of the model, for the report; None where there is nothing."""
        return None

    def takes_pictures(self, config: RunConfig) -> bool:
        """Whether a model is applied to picture files (pipeline.export.pictures), not to CT."""
        return False

    @abstractmethod
    def export(
        self,
        model: nn.Module,
        card: ModelCard,
        source: Source,
        to: Export,
        config: RunConfig,
        progress: Progress = lambda slices: None,
    ) -> Exported:
        """The model over one source, handed over as it came; see pipeline.export.series."""

    @abstractmethod
    def write_report(
        self,
        report: dict[str, Any],
        model: nn.Module,
        store: Store,
        keys: list[str],
        config: RunConfig,
        *,
        curve: list[dict[str, float]],
        path: Path,
    ) -> None:
        """The run's page at `path`, with pictures of the stored series `keys`.

        report: what report.json holds; curve: the training log (pipeline.report.write_report).
        """
