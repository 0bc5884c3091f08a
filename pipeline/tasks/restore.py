"""Restoration: a model brings degraded pictures and slices back, beside classical methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from monai.transforms import Compose, RandFlip, RandRotate90
from torch import nn
from torch.utils.data import Dataset

from pipeline.config.task_runs import RestoreRun
from pipeline.core.errors import ConfigError
from pipeline.core.types import Json, Progress
from pipeline.core.verdicts import Verdict
from pipeline.data.images import ImageItems, Images
from pipeline.data.patches import PatchPairs
from pipeline.data.stored_pictures import SmallerPictures, StoredPictures, StoredSteps
from pipeline.degradations.cache import degrade_store
from pipeline.evaluation.gates import judge_restoration
from pipeline.evaluation.restoration import INPUT, OUTPUT, RestorationResult, evaluate_restoration
from pipeline.evaluation.stable_metrics import Metrics, restoration_metrics
from pipeline.export.denoised import export_denoised
from pipeline.export.series import Export, Exported
from pipeline.ingest.ingest import IngestReport
from pipeline.ingest.ingest import Progress as IngestProgress
from pipeline.ingest.picture_ingest import store_bundled, store_picture_files
from pipeline.ingest.picture_pairs import store_pairs
from pipeline.ingest.sequences import store_frames, store_moving
from pipeline.ingest.stereo import store_stereo
from pipeline.io.discover import Source
from pipeline.models.adapters.card import ModelCard
from pipeline.models.adapters.restorer import (
    Restorer,
    degradation_of,
    restorer,
    target_of,
)
from pipeline.report.formatting import fixed
from pipeline.report.restoration import restoration_strips, write_restoration
from pipeline.store.published_splits import TEST, TRAIN
from pipeline.store.store import Store
from pipeline.tasks.base import Sides, Task


class Restore(Task[RestoreRun, RestorationResult]):
    """A degraded picture or slice in, the restored one out."""

    result = RestorationResult

    def ingest(
        self,
        root: Path | None,
        store: Store,
        config: RestoreRun,
        *,
        key: bytes,
        progress: IngestProgress = lambda what, done, total: None,
    ) -> IngestReport:
        """CT or pictures below `root`, or shipped photographs, as the run's source says."""
        settings = config.restoration
        restorer(config)  # what does not fit together is refused before any picture is read
        if settings.source == "series":
            return super().ingest(root, store, config, key=key, progress=progress)
        if settings.source in ("shipped", "moving", "stereo"):
            if root is not None:
                raise ConfigError(f"--data: this run learns from {settings.source} pictures")
            if settings.source == "stereo":
                return store_stereo(store, settings.colour, progress)
            if settings.source == "moving":
                return store_moving(store, progress, installed=settings.installed)
            return store_bundled(store, settings.colour, progress, installed=settings.installed)
        if root is None:
            raise ConfigError("--data: name a folder of pictures; this run learns from them")
        if settings.source == "frames":
            return store_frames(root, store, key=key, progress=progress)
        if settings.source == "pairs":
            return store_pairs(root, store, settings.colour, key=key, progress=progress)
        return store_picture_files(root, store, settings.colour, key=key, progress=progress)

    def usable(self, store: Store, key: str, config: RestoreRun) -> bool:
        """Seen as the run sees pictures, and no smaller than its patches."""
        record, settings = store.record(key), config.restoration
        large = all(side >= p for side, p in zip(record.shape[1:], config.data.patch, strict=True))
        return large and record.provenance.get("colour", "series") == settings.seen

    def prepare(
        self,
        store: Store,
        keys: Sides,
        config: RestoreRun,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Inputs of the test side; of the training side too where pieces cannot be degraded."""
        degrade_store(store, dict.fromkeys(keys.get(TEST, []), 1), config.as_tested(), progress)
        if degradation_of(config).reach is None:
            trained = dict.fromkeys(keys.get(TRAIN, []), config.data.realisations)
            degrade_store(store, trained, config, progress)

    def training_data(
        self, store: Store, keys: list[str], config: RestoreRun, length: int
    ) -> Dataset:
        """Pieces of pictures, degraded as they are drawn, or of degraded ones where pieces
        cannot be degraded by themselves."""
        degradation, neighbours = degradation_of(config), config.restoration.neighbours
        pictures = StoredPictures(store, keys, config)
        if degradation.reach is None:
            for key in ("neighbours", "training_side"):
                if getattr(config.restoration, key) is not None:
                    raise ConfigError(
                        f"restoration.{key}: not with {type(degradation).__name__}, of which no "
                        "piece can be degraded by itself"
                    )
            return PatchPairs(store, keys, config, length)
        images: Images = pictures if neighbours is None else StoredSteps(pictures)
        if sides := config.restoration.training_sides:
            images = SmallerPictures(pictures, sides, config.data.patch)
        return ImageItems(
            images,
            [0] * len(images),
            seed=config.train.seed,
            length=length,
            degradation=degradation,
            augment=_turns(config) if config.data.augment else None,
            patch=config.data.patch,
            make_target=target_of(config),
        )

    def evaluate(
        self,
        model: nn.Module,
        store: Store,
        keys: list[str],
        config: RestoreRun,
        progress: Progress = lambda slices: None,
    ) -> RestorationResult:
        """PSNR and SSIM in each window, beside classical references (evaluation.restoration)."""
        return evaluate_restoration(_restorer(model), store, keys, config.as_tested(), progress)

    def judge(self, figures: RestorationResult, config: RestoreRun) -> Verdict:
        """The run's `restoration.limits`."""
        return judge_restoration(figures.overall, config)

    def metrics(self, figures: RestorationResult) -> Metrics:
        """Of the held-back patients, by stable names."""
        return restoration_metrics(figures.overall)

    def headline(self, figures: RestorationResult) -> Json:
        """The figures of the first window."""
        name, window = next(iter(figures.overall.windows.items()))
        before, after = (window.answers[which] for which in (INPUT, OUTPUT))
        changes = [
            f"{fixed(before[figure], digits)} → {fixed(after[figure], digits)}"
            for figure, digits in (("psnr", 1), ("ssim", 3))
        ]
        return {"text": f"{name}: {changes[0]} dB, SSIM {changes[1]}"}

    def takes_pictures(self, config: RestoreRun) -> bool:
        """Whether the run learned from pictures, not from CT."""
        return config.restoration.source != "series"

    def export(
        self,
        model: nn.Module,
        card: ModelCard,
        source: Source,
        to: Export,
        config: RestoreRun,
        progress: Progress = lambda slices: None,
    ) -> Exported:
        """One CT volume; pictures go by pipeline.export.pictures."""
        if self.takes_pictures(config):
            raise ConfigError(f"{card.uri} restores pictures: give a folder of them")
        operation = card.operation()
        operation = replace(
            operation,
            label=operation.label.replace("DENOISED", "RESTORED"),
            description=operation.description.replace("Noise reduction", "Artefact reduction"),
        )
        return export_denoised(model, card, source, to, progress, operation=operation)

    def write_report(
        self,
        report: Json,
        model: nn.Module,
        store: Store,
        keys: list[str],
        config: RestoreRun,
        *,
        curve: list[dict[str, float]],
        path: Path,
    ) -> None:
        """report.html with strips of input, references, output and target."""
        tuning = RestorationResult.from_dict(report["metrics"]).overall.tuning
        tested = config.as_tested()
        strips = restoration_strips(_restorer(model), store, keys, tested, tuning=tuning)
        write_restoration(report, strips, curve=curve, path=path)


def _turns(config: RestoreRun) -> Compose:
    """Quarter turns of square pieces, and mirrored ones."""
    square = config.data.patch[0] == config.data.patch[1]
    return Compose(
        [
            RandRotate90(prob=0.75 if square else 0.0),
            RandFlip(prob=0.5, spatial_axis=0),
            RandFlip(prob=0.5, spatial_axis=1),
        ]
    )


def _restorer(model: nn.Module) -> Restorer:
    if not isinstance(model, Restorer):
        raise TypeError(f"{type(model).__name__} is no adapter of the task restore")
    return model


TASK = Restore()
