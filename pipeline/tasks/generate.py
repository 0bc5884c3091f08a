"""Generation: images to codes and back, and synthetic images from random codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.config.component import build
from pipeline.config.task_runs import GenerateRun
from pipeline.core.errors import ConfigError
from pipeline.core.types import Json, Progress
from pipeline.core.verdicts import Verdict
from pipeline.data.images import ImageItems, jitter
from pipeline.degradations.base import Degradation
from pipeline.evaluation.gates import judge_generation
from pipeline.evaluation.generation import GenerationResult, evaluate_generation, stored_images
from pipeline.evaluation.stable_metrics import Metrics, generation_metrics
from pipeline.export.series import Export, Exported
from pipeline.ingest.bundled_pictures import store_pictures
from pipeline.ingest.idx_pictures import store_idx
from pipeline.ingest.ingest import IngestReport
from pipeline.ingest.ingest import Progress as IngestProgress
from pipeline.ingest.installed_photographs import store_installed
from pipeline.io.discover import Source
from pipeline.models.adapters.card import ModelCard
from pipeline.models.adapters.generative import Generative
from pipeline.report.formatting import fixed
from pipeline.report.generation import report_grids, write_generation
from pipeline.store.store import Store
from pipeline.tasks.base import Sides, Task


class Generate(Task[GenerateRun, GenerationResult]):
    """Images in or random codes, images out; no series of a patient is changed."""

    result = GenerationResult
    takes_series = False

    def ingest(
        self,
        root: Path | None,
        store: Store,
        config: GenerateRun,
        *,
        key: bytes,
        progress: IngestProgress = lambda what, done, total: None,
    ) -> IngestReport:
        """CT or IDX files in `root`, or the pictures that the run names; giving both is refused."""
        source = config.generation.source
        if source == "series":
            return super().ingest(root, store, config, key=key, progress=progress)
        if source == "idx":
            if root is None:
                raise ConfigError("--data: name the folder of your IDX files (generation.source)")
            return store_idx(root, store, progress)
        if root is not None:
            raise ConfigError(f"--data: this run learns from {source} (generation.source)")
        report = store_pictures(source, store, progress)
        store_installed(config.generation.installed, store, report, progress)
        return report

    def prepare(
        self,
        store: Store,
        keys: Sides,
        config: GenerateRun,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Nothing: images are resampled, turned and corrupted as they are drawn."""

    def training_data(
        self, store: Store, keys: list[str], config: GenerateRun, length: int
    ) -> ImageItems:
        """Images, whole or in pieces, turned and corrupted as they are drawn."""
        settings = config.generation
        images, labels = stored_images(store, keys, config)
        _require_known(labels, config)
        degradation: Degradation | None = None
        if config.degradation:
            degradation = build(config.degradation, key="degradation", base=Degradation)
        return ImageItems(
            images,
            labels,
            seed=config.train.seed,
            length=length,
            degradation=degradation,
            augment=jitter(settings.jitter),
            patch=config.data.patch if settings.image_size is None else None,
        )

    def evaluate(
        self,
        model: nn.Module,
        store: Store,
        keys: list[str],
        config: GenerateRun,
        progress: Progress = lambda slices: None,
    ) -> GenerationResult:
        """Reconstruction, samples and file size, as far as the network allows."""
        return evaluate_generation(_generative(model), store, keys, config, progress)

    def judge(self, figures: GenerationResult, config: GenerateRun) -> Verdict:
        """The run's `generation.limits`."""
        return judge_generation(figures.overall, config)

    def metrics(self, figures: GenerationResult) -> Metrics:
        """Of the held-back patients, by stable names."""
        return generation_metrics(figures.overall)

    def headline(self, figures: GenerationResult) -> Json:
        """Reconstruction in the first window, and how varied and good samples are."""
        overall = figures.overall
        parts = []
        for name, window in list(overall.windows.items())[:1]:
            if window.psnr is not None:
                parts.append(f"{name}: {window.psnr:.1f} dB, SSIM {fixed(window.ssim, 2)}")
        samples = overall.samples
        if samples and samples.precision is not None:
            parts.append(
                f"samples: precision {samples.precision:.2f}, recall {fixed(samples.recall, 2)}"
            )
        if overall.files:
            parts.append(f"{overall.files.bits_per_pixel:.3f} bits per pixel")
        return {"text": "; ".join(parts)}

    def export(
        self,
        model: nn.Module,
        card: ModelCard,
        source: Source,
        to: Export,
        config: GenerateRun,
        progress: Progress = lambda slices: None,
    ) -> Exported:
        """Raises ConfigError: a generative model changes no series."""
        raise ConfigError(f"{card.uri} draws images; it changes none: see `ldct latent`")

    def write_report(
        self,
        report: Json,
        model: nn.Module,
        store: Store,
        keys: list[str],
        config: GenerateRun,
        *,
        curve: list[dict[str, float]],
        path: Path,
    ) -> None:
        """report.html with grids of reconstructions, samples and walks through the codes."""
        images, labels = stored_images(store, keys, config)
        grids = report_grids(_generative(model), images, labels, config)
        write_generation(report, grids, config, curve=curve, path=path)


def _require_known(labels: NDArray[np.int64], config: GenerateRun) -> None:
    """Raises ConfigError for labels that a conditional network was not made for."""
    known, highest = int(config.model.args.get("labels", 0)), int(labels.max(initial=0))
    if known and highest >= known:
        raise ConfigError(
            f"generation.label: the images have labels up to {highest}, and the network takes 0 to "
            f"{known - 1}: --set model.args.labels={highest + 1}"
        )


def _generative(model: nn.Module) -> Generative:
    if not isinstance(model, Generative):
        raise TypeError(f"{type(model).__name__} is no adapter of the task generate")
    return model


TASK = Generate()
