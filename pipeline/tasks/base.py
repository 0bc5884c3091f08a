"""What changes from task to task: everything else is shared by all.

A task is one module here, named as `task:` in a run's YAML; its TASK says what is made ready for
training, what an item of the training is, what is measured and judged, how a result goes back
to whoever sent the source, and what the report shows.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from torch import nn
from torch.utils.data import Dataset

from pipeline.config.run import RunConfig
from pipeline.core.errors import ConfigError
from pipeline.core.json_numbers import JsonRecord
from pipeline.core.types import Json, OpenProgress, Progress
from pipeline.core.verdicts import Check, Verdict
from pipeline.evaluation.real_pairs import RealPairs
from pipeline.evaluation.requests import EvaluateRequest
from pipeline.evaluation.stable_metrics import Metrics, plain_metrics
from pipeline.export.series import Export, Exported
from pipeline.ingest.ingest import IngestReport, ingest
from pipeline.ingest.ingest import Progress as IngestProgress
from pipeline.io.discover import Source
from pipeline.models.adapters.card import ModelCard
from pipeline.store.store import Store
from pipeline.training.best_weights import BestWeights

#: Keys of stored series by the side of the split that their patients are on.
Sides = dict[str, list[str]]
RunT = TypeVar("RunT", bound=RunConfig)
#: What a task measures of a model, with the fields `overall` and `patients`.
ResultT = TypeVar("ResultT", bound=JsonRecord)


def task_of(config: RunConfig) -> Task[Any, Any]:
    """The task that a run's configuration names: TASK of its module in pipeline.tasks."""
    return importlib.import_module(f"pipeline.tasks.{config.task}").TASK


class Task(ABC, Generic[RunT, ResultT]):
    """One kind of work on images, stage by stage; holds no state.

    result: the type of what `evaluate` measures. takes_series: whether a model's result for a
    source is an image of the same place. denoises: whether that image is the source with less
    noise, so that another task's model may follow. measures: what `ldct evaluate` can measure
    beyond a store's test patients, by the name of its option.
    """

    result: type[ResultT]
    takes_series: ClassVar[bool] = True
    denoises: ClassVar[bool] = False
    measures: ClassVar[frozenset[str]] = frozenset()

    def ingest(
        self,
        root: Path | None,
        store: Store,
        config: RunT,
        *,
        key: bytes,
        progress: IngestProgress = lambda what, done, total: None,
    ) -> IngestReport:
        """Store the run's images, as pipeline.ingest does what lies below `root`."""
        if root is None:
            raise ConfigError("--data: name a folder; this run learns from your data")
        data = config.data
        return ingest(root, store, key=key, intake=data.intake, pairs=data.pairs, progress=progress)

    def usable(self, store: Store, key: str, config: RunT) -> bool:
        """Whether a stored series has what training and evaluation need of it."""
        return True

    def nothing_usable(self, config: RunT) -> str:
        """The message where no series is usable."""
        return f"no series is usable for the task {config.task}"

    def plan(self, store: Store, keys: Sides, config: RunT) -> RunT:
        """The run with what it leaves to the training series filled in."""
        return config

    @abstractmethod
    def prepare(
        self,
        store: Store,
        keys: Sides,
        config: RunT,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Make and cache in the store what training and evaluation will read."""

    @abstractmethod
    def training_data(self, store: Store, keys: list[str], config: RunT, length: int) -> Dataset:
        """Items of the training, `length` of them; item i depends on the seed and i alone."""

    def validation_keys(self, store: Store, config: RunT, keys: list[str]) -> list[str]:
        """Those of the validation series `keys` that a training looks at (`selection`)."""
        return keys if config.train.validate_every is not None else []

    def selection(self, store: Store, config: RunT, keys: list[str]) -> BestWeights | None:
        """What measures a training on the series of `validation_keys`, and may choose its weights;
        None: nothing is measured, and the last ones are the result."""
        if config.train.validate_every is not None:
            raise ConfigError(f"train.validate_every: not for the task {config.task}")
        return None

    def traits(self, store: Store, keys: list[str], config: RunT) -> Json | None:
        """Traits of the training images that later inputs are compared with (inference.traits);
        None where inputs are not watched."""
        return None

    def passes(self, config: RunT) -> int:
        """How often `evaluate` goes over each slice, for its progress bar."""
        return 1

    @abstractmethod
    def evaluate(
        self,
        model: nn.Module,
        store: Store,
        keys: list[str],
        config: RunT,
        progress: Progress = lambda slices: None,
    ) -> ResultT:
        """Figures of stored series that training has not seen, over all and by patient."""

    def require_denoisable(self, config: RunT) -> None:
        """Raises ConfigError where a denoiser cannot go before this run's model."""
        raise ConfigError(
            "--denoiser: it goes before a segmenter whose run has a degradation, the low dose"
        )

    def evaluate_denoised(
        self,
        model: nn.Module,
        denoiser: nn.Module,
        store: Store,
        keys: list[str],
        config: RunT,
        figures: ResultT,
        progress: Progress = lambda slices: None,
    ) -> ResultT:
        """`figures`, with those on degraded images that another model has denoised beside them."""
        raise NotImplementedError(f"{type(self).__name__} refuses it in require_denoisable")

    def measure(
        self,
        model: nn.Module,
        config: RunT,
        request: EvaluateRequest,
        *,
        store: Store | None,
        keys: Sides,
        pairs: RealPairs | None,
        progress: OpenProgress,
    ) -> Json:
        """What `ldct evaluate` measures beyond a store's test patients, by name.

        store, keys: with the test side degraded; pair: of real series at two doses; both None
        where the request names none.
        """
        return {}

    @abstractmethod
    def judge(self, figures: ResultT, config: RunT) -> Verdict:
        """Each figure that the run limits against its limit."""

    def acceptance(
        self,
        model: nn.Module,
        card: ModelCard,
        config: RunT,
        *,
        figures: ResultT,
        champion: tuple[nn.Module, ResultT] | None,
    ) -> list[Check]:
        """Checks beyond the gate before a version may serve patients.

        figures: its own, as registered. champion: the version that serves now, and its figures.
        A task without such checks has one that fails, so that promotion needs --force.
        """
        limit = f"there is none for the task {config.task}: look at it, then --force"
        return [Check("acceptance", None, limit, passed=False)]

    def metrics(self, figures: ResultT) -> Metrics:
        """The figures over all patients by the stable names that models are ranked by; as long as
        a task says nothing else, `test.` and each number of `overall` itself."""
        return plain_metrics(figures.to_dict()["overall"])

    @abstractmethod
    def headline(self, figures: ResultT) -> Json:
        """What a list of models has room for; "text" says it in a few words."""

    def on_phantoms(
        self, model: nn.Module, config: RunT, progress: Progress = lambda images: None
    ) -> JsonRecord | None:
        """What phantoms show of the model, for the report; None where there is nothing."""
        return None

    def contrast_kept(
        self, model: nn.Module, config: RunT, progress: Progress = lambda images: None
    ) -> JsonRecord | None:
        """What of small discs survives, for the report; None where there is nothing."""
        return None

    def takes_pictures(self, config: RunT) -> bool:
        """Whether a model is applied to picture files (pipeline.export.pictures), not to CT."""
        return False

    @abstractmethod
    def export(
        self,
        model: nn.Module,
        card: ModelCard,
        source: Source,
        to: Export,
        config: RunT,
        progress: Progress = lambda slices: None,
    ) -> Exported:
        """The model over one source, written in the source's format; see pipeline.export."""

    @abstractmethod
    def write_report(
        self,
        report: Json,
        model: nn.Module,
        store: Store,
        keys: list[str],
        config: RunT,
        *,
        curve: list[dict[str, float]],
        path: Path,
    ) -> None:
        """The run's page at `path`, with pictures of the stored series `keys`.

        report: what report.json holds; curve: the training log (report.pages.write_report).
        """

    def write_evaluation(
        self,
        report: Json,
        model: nn.Module,
        store: Store | None,
        keys: list[str],
        config: RunT,
        *,
        path: Path,
    ) -> None:
        """The page of `ldct evaluate` at `path`; a task without one writes none.

        store, keys: of the series that were measured; None where there were none.
        """
