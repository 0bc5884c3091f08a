"""What `ldct evaluate` is asked to measure of a model, and how that is measured of a denoiser."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from pipeline.config.task_runs import DenoiseRun
from pipeline.core.errors import ConfigError
from pipeline.core.types import Json, OpenProgress
from pipeline.degradations.cache import degrade_store
from pipeline.evaluation.baselines import evaluate_baselines, tuning_keys
from pipeline.evaluation.contrast_table import TableRequest, contrast_table
from pipeline.evaluation.phantoms import (
    SLICES,
    images_on_phantoms,
    measure_on_phantoms,
    sweep_doses,
)
from pipeline.evaluation.real_pairs import RealPairs, evaluate_pairs
from pipeline.metrics.conventions import CONVENTIONS
from pipeline.metrics.conventions import convention as named_convention
from pipeline.quality.dose_sweep import Sweep
from pipeline.store.published_splits import TEST, TRAIN
from pipeline.store.store import Store


@dataclass(frozen=True)
class EvaluateRequest:
    """What to measure, of which model. Raises ConfigError where that is nothing, or half of it.

    input, target: folders of real pairs, low- and full-dose series. convention, photons_per_ray
    (of the phantoms' scanner) and strength: None for those of the model's configuration.
    """

    model: str
    store: Path | None = None
    input: Path | None = None
    target: Path | None = None
    convention: str | None = None
    baselines: bool = False
    sweep: Sweep | None = None
    phantoms: bool = False
    contrast: bool = False
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
        if self.convention is not None:
            named_convention(self.convention)
        if not (self.store or self.input or self.sweep or self.phantoms or self.contrast):
            raise ConfigError(
                "nothing to evaluate on: give --store, --input and --target, --dose-sweep, "
                "--phantoms or --contrast"
            )

    @property
    def settings(self) -> Json:
        """Of the model's configuration, what is to be measured otherwise."""
        return {} if self.convention is None else {"convention": self.convention}

    def require_measurable(self, measures: frozenset[str], *, uri: str, task: str) -> None:
        """Raises ConfigError where the model's task cannot be measured as asked.

        measures: Task.measures, the names of fields of this request.
        """
        asked = (
            "input",
            "convention",
            "baselines",
            "sweep",
            "phantoms",
            "contrast",
            "denoiser",
        )
        foreign = [name for name in asked if getattr(self, name) and name not in measures]
        if foreign:
            option = {"sweep": "dose-sweep"}.get(foreign[0], foreign[0])
            raise ConfigError(f"--{option}: not for {uri}, whose task is {task}")


def measure_denoiser(
    model: nn.Module,
    config: DenoiseRun,
    request: EvaluateRequest,
    *,
    store: Store | None,
    keys: dict[str, list[str]],
    pairs: RealPairs | None,
    progress: OpenProgress,
) -> Json:
    """{"figures" of pairs, "baselines", "dose_sweep", "phantoms", "contrast"}: those asked for.

    keys: series of the store by side, degraded on the test side. Raises what the measurements
    raise: LdctError for a single pair that does not show the same places.
    """
    found: Json = {}
    if pairs is not None:
        with progress("evaluate", unit="slices", total=pairs.slices) as stage:
            figures = evaluate_pairs(model, pairs, config, stage.advance)
        found["figures"] = figures.to_dict()
    if request.baselines and store is not None:
        found["baselines"] = _baselines(store, config, keys, progress)
    photons = request.photons_per_ray
    if request.sweep is not None:
        with progress("dose sweep", unit="images", total=request.sweep.images) as stage:
            sweep = sweep_doses(
                model, config, request.sweep, photons_per_ray=photons, progress=stage.advance
            )
        found["dose_sweep"] = sweep.to_dict()
    if request.phantoms:
        with progress("phantoms", unit="images", total=images_on_phantoms(SLICES)) as stage:
            phantoms = measure_on_phantoms(
                model, config, photons_per_ray=photons, progress=stage.advance
            )
        found["phantoms"] = phantoms.to_dict()
    if request.contrast:
        with progress("contrast kept", unit="images", total=TableRequest().images(model)) as stage:
            table = contrast_table(model, config, photons_per_ray=photons, progress=stage.advance)
        found["contrast"] = table.to_dict()
    return found


def _baselines(
    store: Store, config: DenoiseRun, keys: dict[str, list[str]], progress: OpenProgress
) -> Json:
    """Classical denoisers, each at the strength that is best on training patients."""
    with progress("degrade for tuning", unit="series") as stage:
        degrade_store(store, dict.fromkeys(tuning_keys(keys[TRAIN]), 1), config, stage.count)
    with progress("baselines", unit="slices") as stage:
        found = evaluate_baselines(
            store,
            config,
            train=keys[TRAIN],
            test=keys[TEST],
            convention=CONVENTIONS[config.convention],
            progress=stage.show,
        )
    return {name: result.to_dict() for name, result in found.items()}
