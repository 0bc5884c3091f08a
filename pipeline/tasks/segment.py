"""Segmentation: structures of a label map are learned, and found in other patients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import nn

from pipeline.config.segmentation import Segmentation
from pipeline.config.task_runs import SegmentRun
from pipeline.config.totalsegmentator import CLASSES
from pipeline.core.errors import ConfigError
from pipeline.core.label_groups import require_known
from pipeline.core.label_map import LabelMap
from pipeline.core.types import Json, Progress
from pipeline.core.verdicts import Verdict
from pipeline.data.label_patches import LabelPatches, cache_working, load_working
from pipeline.data.monai_transforms import named_label_transforms
from pipeline.data.planning import planned
from pipeline.degradations.cache import degrade_store
from pipeline.degradations.digest import degradation_digest
from pipeline.dicom.derived.structure_codes import codes_of
from pipeline.evaluation.gates import judge_segmentation
from pipeline.evaluation.segmentation import SegmentationResult, evaluate_labels
from pipeline.evaluation.segmentation_at_dose import DENOISED, FULL_DOSE, LOW_DOSE, low_dose_figures
from pipeline.evaluation.stable_metrics import Metrics, segmentation_metrics
from pipeline.export.segmentation import export_segmented
from pipeline.export.series import Export, Exported
from pipeline.inference.segment import is_even
from pipeline.io.discover import Source
from pipeline.models.adapters.card import ModelCard
from pipeline.report.formatting import fixed
from pipeline.report.segmentation import choose_overlays, save_overlay, write_segmentation_report
from pipeline.store.labels import BY_THRESHOLD, has_labels, stored_labels
from pipeline.store.published_splits import TEST, TRAIN
from pipeline.store.store import Store
from pipeline.tasks.base import Sides, Task

OVERVIEW = "overview.png"


class Segment(Task[SegmentRun, SegmentationResult]):
    """A series in, label maps of its structures out."""

    result = SegmentationResult
    measures = frozenset({"denoiser"})

    def usable(self, store: Store, key: str, config: SegmentRun) -> bool:
        """Whether a stored series has the label map that the run names, with a class of it, and
        slices on an even grid."""
        record, settings = store.record(key), config.segmentation
        even = is_even(np.array(record.affine_lps), np.array(record.slice_origins_mm))
        if not even or not has_labels(store, key, settings.labels):
            return False
        if settings.unlisted == "background" or settings.labels in BY_THRESHOLD:
            return True
        unknown = settings.not_listed(stored_labels(store, key, settings.labels))
        return len(unknown) < len(settings.classes)

    def nothing_usable(self, config: SegmentRun) -> str:
        """Which kind of labels no even series has, and what to do."""
        return (
            f"no evenly spaced series has labels of the kind {config.segmentation.labels!r}: put "
            "the label files beside the images before ingest, and see in its report why one was "
            "refused; --intake uneven=resample makes a series even; with unlisted: unknown, one "
            "class at least must be listed whole"
        )

    def plan(self, store: Store, keys: Sides, config: SegmentRun) -> SegmentRun:
        """Grid, patch, grey ranges and network by the training series, where they are left to
        planning."""
        return planned(store, keys[TRAIN], config)

    def prepare(
        self,
        store: Store,
        keys: Sides,
        config: SegmentRun,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Degraded inputs where the run has a degradation, and volumes on the working grid.

        Raises ConfigError for classes without DICOM codes, for structures that no label map has
        and that are none of the names of `label_names`, and for classes that training cannot learn.
        """
        settings, wanted = config.grid, [*keys[TRAIN], *keys[TEST]]
        for name in settings.classes:
            codes_of(name)  # after hours of training, no result must fail for want of a code
        labelmaps = {key: stored_labels(store, key, settings.labels) for key in wanted}
        groups = {**settings.classes, "ignored": list(settings.ignored)}
        listed = [settings.named(labelmap).names for labelmap in labelmaps.values()]
        if settings.unlisted == "unknown":
            table = CLASSES if settings.label_names else ()
            listed.append(dict(enumerate([*settings.classes, *table], start=1)))
        require_known(groups, listed)
        _require_taught(settings, [labelmaps[key] for key in keys[TRAIN]])
        if config.degradation is not None:
            degrade_store(store, dict.fromkeys(wanted, 1), config, progress)
        for key in keys[TRAIN]:
            cache_working(store, key, labelmaps[key], settings, degraded=_degraded(config))

    def training_data(
        self, store: Store, keys: list[str], config: SegmentRun, length: int
    ) -> LabelPatches:
        """Patches of HU and class numbers on the working grid, augmented."""
        settings = config.grid
        volumes = [
            load_working(
                store,
                key,
                stored_labels(store, key, settings.labels),
                settings,
                degraded=_degraded(config),
            )
            for key in keys
        ]
        named = named_label_transforms(config.transforms)
        return LabelPatches(volumes, settings, seed=config.train.seed, length=length, named=named)

    def passes(self, config: SegmentRun) -> int:
        """Once, and once more on low-dose images where the run has a degradation."""
        return 1 if config.degradation is None else 2

    def evaluate(
        self,
        model: nn.Module,
        store: Store,
        keys: list[str],
        config: SegmentRun,
        progress: Progress = lambda slices: None,
    ) -> SegmentationResult:
        """Figures on the series as they are; overall.doses has those beside the ones on what
        the run's degradation leaves, where there is one."""
        settings = config.grid
        figures = evaluate_labels(model, store, keys, settings, progress=progress)
        if config.degradation is not None:
            low = low_dose_figures(model, store, keys, config, progress=progress)
            return figures.with_doses({FULL_DOSE: figures.overall, LOW_DOSE: low})
        return figures

    def require_denoisable(self, config: SegmentRun) -> None:
        """Denoised are the low-dose images that the run's degradation makes."""
        if config.degradation is None:
            super().require_denoisable(config)

    def evaluate_denoised(
        self,
        model: nn.Module,
        denoiser: nn.Module,
        store: Store,
        keys: list[str],
        config: SegmentRun,
        figures: SegmentationResult,
        progress: Progress = lambda slices: None,
    ) -> SegmentationResult:
        """With those on low-dose images, denoised and then segmented."""
        found = low_dose_figures(model, store, keys, config, denoiser=denoiser, progress=progress)
        return figures.with_doses({DENOISED: found})

    def judge(self, figures: SegmentationResult, config: SegmentRun) -> Verdict:
        """Dice, the mean or of each class with a limit."""
        return judge_segmentation(figures.overall, config.register_.gate.min_dice)

    def metrics(self, figures: SegmentationResult) -> Metrics:
        """Of the held-back patients, by stable names."""
        return segmentation_metrics(figures.overall)

    def headline(self, figures: SegmentationResult) -> Json:
        """Mean Dice over the classes."""
        overall = figures.overall
        dice, count = overall.dice, len(overall.classes)
        return {"text": f"Dice {fixed(dice, 3)}, mean of {count} classes", "dice": dice}

    def export(
        self,
        model: nn.Module,
        card: ModelCard,
        source: Source,
        to: Export,
        config: SegmentRun,
        progress: Progress = lambda slices: None,
    ) -> Exported:
        """DICOM SEG or what `to.labels` asks for (export.segmentation)."""
        return export_segmented(model, card, source, to, config.grid, progress)

    def write_report(
        self,
        report: Json,
        model: nn.Module,
        store: Store,
        keys: list[str],
        config: SegmentRun,
        *,
        curve: list[dict[str, float]],
        path: Path,
    ) -> None:
        """report.html with label outlines on slices, and overview.png beside it."""
        overlays = choose_overlays(model, store, keys, config)
        write_segmentation_report(report, overlays=overlays, curve=curve, path=path)
        if overlays:
            save_overlay(overlays[0], path.with_name(OVERVIEW))


def _degraded(config: SegmentRun) -> str | None:
    return None if config.degradation is None else degradation_digest(config, 0)


def _require_taught(settings: Segmentation, training: list[LabelMap]) -> None:
    """ConfigError for a class that no label map of the training lists whole: nothing would teach
    where it is not, and it would be found anywhere."""
    of_maps = [settings.not_listed(labelmap) for labelmap in training]
    if of_maps and (never := set.intersection(*of_maps)):
        raise ConfigError(
            f"segmentation.classes: {', '.join(sorted(never))}: no label map of the training lists "
            "it whole, and what is not listed is unknown (segmentation.unlisted); give label maps "
            "that do, or leave it out of segmentation.classes"
        )


TASK = Segment()
