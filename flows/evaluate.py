"""What `ldct evaluate` runs: one model, and whatever its user wants measured of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows import stages
from flows.commands import in_flow, only_series
from flows.runtime.progress import StageProgress
from pipeline.config.run import RunConfig, parse_config
from pipeline.config.sections import Split
from pipeline.core.atomic_files import write_json
from pipeline.core.errors import ConfigError
from pipeline.core.pseudonyms import installation_key
from pipeline.degradations.cache import degrade_store
from pipeline.evaluation.baselines import evaluate_baselines, tuning_keys
from pipeline.evaluation.denoising import evaluate_pair, evaluate_store
from pipeline.evaluation.phantoms import (
    SLICES,
    images_on_phantoms,
    measure_on_phantoms,
    sweep_doses,
)
from pipeline.evaluation.segmentation_at_dose import DENOISED
from pipeline.metrics.conventions import CONVENTIONS, Convention
from pipeline.models.adapters.base import ModelAdapter
from pipeline.quality.dose_sweep import Sweep
from pipeline.report import write_evaluation
from pipeline.report.slice_images import Panel
from pipeline.report.slice_selection import choose_panels
from pipeline.store.published_splits import TEST, TRAIN, listed_sides
from pipeline.store.store import Store

REPORT = "evaluation.json"
PAGE = "evaluation.html"


@dataclass(frozen=True)
class EvaluateRequest:
    """What to measure, of which model. Raises ConfigError where that is nothing, or half of it.

    convention, photons_per_ray (of the phantoms' scanner) and strength: None for those of the
    model's configuration.
    """

    model: str
    store: Path | None = None
    input: Path | None = None
    target: Path | None = None
    convention: Convention | None = None
    baselines: bool = False
    sweep: Sweep | None = None
    phantoms: bool = False
    photons_per_ray: float | None = None
    denoiser: str | None = None
    strength: float | None = None

    def __post_init__(self) -> None:
        if bool(self.input) != bool(self.target) or (self.store and self.input):
            raise ConfigError("give either --store, or --input together with --target")
        if self.baselines and not self.store:
            raise ConfigError("--baselines needs a --store, on whose training patients to tune")
        if self.photons_per_ray is not None and self.photons_per_ray <= 0:
            raise ConfigError(f"--photons must be positive, got {self.photons_per_ray:g}")
        if self.denoiser and not self.store:
            raise ConfigError("--denoiser needs a --store, whose test patients it denoises")
        if not (self.store or self.input or self.sweep or self.phantoms):
            raise ConfigError(
                "nothing to evaluate on: give --store, --input and --target, --dose-sweep or "
                "--phantoms"
            )


def evaluate_flow(wanted: EvaluateRequest, out: Path | None) -> dict[str, Any]:
    """{"model", "figures", "baselines", "dose_sweep", "phantoms"}, each where it was wanted.

    Written to OUT as evaluation.json, evaluation.html and PNG, if there is an OUT.
    """

    def body() -> dict[str, Any]:
        pair = [only_series(path) for path in (wanted.input, wanted.target) if path]
        model, card, raw = stages.load_stage(wanted.model, wanted.strength)
        config = parse_config(raw)
        if config.task != "denoise":
            return _of_other_task(model, card.uri, config, wanted, out)
        convention = wanted.convention or CONVENTIONS[config.convention]
        report: dict[str, Any] = {
            "model": card.uri,
            "strength": card.strength,
            "config": config.resolved(),
        }
        panels: list[Panel] = []
        if wanted.store:
            found, panels = _on_store(
                model, config, convention, Store.existing(wanted.store), baselines=wanted.baselines
            )
            report |= found
        if pair:
            with StageProgress("evaluate", unit="slices", total=len(pair[1].instances)) as stage:
                report["figures"] = evaluate_pair(
                    model,
                    pair[0],
                    pair[1],
                    windows=config.windows,
                    progress=stage.advance,
                    also=config.metrics,
                    convention=convention,
                )
        report |= _on_phantoms(model, config, wanted)
        if out:
            write_json(out / REPORT, report)
            write_evaluation(report, panels=panels, path=out / PAGE)
        return report

    return in_flow("ldct-evaluate", body)


def _of_other_task(
    model: ModelAdapter, uri: str, config: RunConfig, wanted: EvaluateRequest, out: Path | None
) -> dict[str, Any]:
    """Figures of the test patients, and of what a denoiser does for them."""
    if wanted.store is None or any(
        (wanted.sweep, wanted.phantoms, wanted.baselines, wanted.convention)
    ):
        raise ConfigError(
            f"{uri} is for the task {config.task}: give --store, and nothing that is for denoisers"
        )
    store = Store.existing(wanted.store)
    keys = _test_keys(store, config)
    figures = stages.evaluate_stage(model, store, config, keys)
    if wanted.denoiser:
        figures["overall"].setdefault("doses", {})[DENOISED] = stages.downstream_stage(
            model, wanted.denoiser, store, config, keys
        )
    report = {
        "model": uri,
        "config": config.resolved(),
        "denoiser": wanted.denoiser,
        "figures": figures,
    }
    if out:
        write_json(out / REPORT, report)
    return report


def _test_keys(store: Store, config: RunConfig) -> list[str]:
    """Series of the test patients, ready to be evaluated on."""
    sides = _sides(store, config)
    stages.degrade_stage(store, config, {p: s for p, s in sides.items() if s == TEST})
    return stages.keys_by_side(store, config, sides)[TEST]


def _on_store(
    model: ModelAdapter, config: RunConfig, convention: Convention, store: Store, *, baselines: bool
) -> tuple[dict[str, Any], list[Panel]]:
    """Figures of the test patients, of the baselines where they are wanted, and pictures."""
    sides = _sides(store, config)
    keys = stages.keys_by_side(store, config, sides)
    stages.degrade_stage(store, config, {p: s for p, s in sides.items() if s == TEST})
    slices = sum(store.record(key)["shape"][0] for key in keys[TEST])
    with StageProgress("evaluate", unit="slices", total=slices) as stage:
        figures = evaluate_store(
            model, store, keys[TEST], config, stage.advance, convention=convention
        )
    found: dict[str, Any] = {"figures": figures}
    if baselines:
        with StageProgress("degrade for tuning", unit="series") as stage:
            degrade_store(store, dict.fromkeys(tuning_keys(keys[TRAIN]), 1), config, stage.count)
        with StageProgress("baselines", unit="slices") as stage:
            found["baselines"] = evaluate_baselines(
                store,
                config,
                train=keys[TRAIN],
                test=keys[TEST],
                convention=convention,
                progress=stage.show,
            )
    return found, choose_panels(model, store, keys[TEST], config, figures)


def _sides(store: Store, config: RunConfig) -> dict[str, str]:
    """Side by patient of a store that need not be the one that the model was trained on.

    Of a published split, those cases that the store has; a store with none of them is split as
    any other is, since none of its patients was trained on.
    """
    patients = sorted({record["patient"] for record in store.records().values()})
    split = config.data.split
    if split.by == "patient":
        return stages.split_stage(store, config, patients)
    listed = listed_sides(patients, split, key=installation_key())
    if not listed:
        data = config.data.model_copy(update={"split": Split()})
        return stages.split_stage(store, config.model_copy(update={"data": data}), patients)
    if TEST not in listed.values():
        raise ConfigError(
            f"{store.path} has {len(listed)} cases of the split {split.by}, which the model was "
            "trained by, and no test case among them"
        )
    return listed


def _on_phantoms(model: ModelAdapter, config: RunConfig, wanted: EvaluateRequest) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if wanted.sweep:
        with StageProgress("dose sweep", unit="images", total=wanted.sweep.images) as stage:
            found["dose_sweep"] = sweep_doses(
                model,
                config,
                wanted.sweep,
                photons_per_ray=wanted.photons_per_ray,
                progress=stage.advance,
            )
    if wanted.phantoms:
        with StageProgress("phantoms", unit="images", total=images_on_phantoms(SLICES)) as stage:
            found["phantoms"] = measure_on_phantoms(
                model, config, photons_per_ray=wanted.photons_per_ray, progress=stage.advance
            )
    return found
