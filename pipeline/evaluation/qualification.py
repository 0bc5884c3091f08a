"""A denoiser on a hospital's own protocol, from its own full-dose series: what is kept and lost.

Noise and kernel are measured in the series themselves. Lower doses are simulated from there, on
slices of the patients (qualification_series) and on phantoms, whose truth is known.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config.names import digest
from pipeline.config.sections import SITE
from pipeline.config.task_runs import DenoiseRun
from pipeline.core.errors import ConfigError, LdctError, NothingUsableError
from pipeline.core.json_numbers import JsonRecord
from pipeline.core.refusals import reason_of
from pipeline.core.types import Json, OpenProgress
from pipeline.core.verdicts import Check, Verdict
from pipeline.core.versions import VERSION
from pipeline.evaluation.contrast_table import ContrastTable, TableRequest, contrast_table
from pipeline.evaluation.phantoms import SEED
from pipeline.evaluation.qualification_series import (
    MeasuredSeries,
    SeriesQualification,
    SliceError,
)
from pipeline.inference.denoise import apply_model
from pipeline.models.adapters.any_dose import at_dose_ratio
from pipeline.models.adapters.card import LoadedModel
from pipeline.quality.hu_accuracy import TissueBias
from pipeline.quality.phantom_metrics import PHANTOMS, PhantomFigures, phantom_figures
from pipeline.quality.phantom_scan import Scanner
from pipeline.store.store import Store

#: Worst slices that are named, of each dose.
WORST = 5
#: Scans of each phantom.
PHANTOM_SLICES = 8
#: Fewer voxels than these, and a tissue's bias is mostly noise.
MIN_VOXELS = 1000


class Qualification(JsonRecord):
    """All that was found, and what it was found with.

    digest: SHA-256 over model, data, version and what was asked, by which a qualification is known.
    refused: series whose dose could not be measured by their noise, with the reason. phantoms: at
    the lowest dose. contrast: with d' against dose, and the dose at which denoised equals full
    dose. checks: bias within the gate's limits, at every dose.
    """

    digest: str
    model: str
    weights_sha256: str
    config_digest: str
    strength: float
    data_digest: str
    version: str
    site: str
    doses: list[float]
    series: list[SeriesQualification]
    refused: dict[str, str]
    worst: list[SliceError]
    phantoms: PhantomFigures
    contrast: ContrastTable
    passed: bool
    checks: list[Json]

    @property
    def drift_lines(self) -> list[str]:
        """What of the series is unlike the model's training, each line once."""
        return list(dict.fromkeys(row.drift_line for row in self.series))

    @property
    def verdict(self) -> Verdict:
        """Whether the biases are within the gate's limits."""
        return Verdict.from_dict({"checks": self.checks})


@dataclass(frozen=True)
class QualifyRequest:
    """What to measure. site: the hospital, or a protocol of it, by which a registry keeps it."""

    doses: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
    site: str = ""
    phantom_slices: int = PHANTOM_SLICES
    table: TableRequest | None = None

    def __post_init__(self) -> None:
        if self.site and not re.fullmatch(SITE, self.site):
            raise ConfigError(f"--site: a word of letters, digits, - and _, got {self.site!r}")
        if not self.doses or not all(0 < dose <= 1 for dose in self.doses):
            raise ConfigError(f"doses must lie in (0, 1], got {self.doses}")
        if min(self.doses) == 1:
            raise ConfigError("--doses: give one below 1 at least, at which the model is to help")
        object.__setattr__(self, "doses", tuple(sorted({*self.doses, 1.0})))

    @property
    def contrast(self) -> TableRequest:
        """What of small discs is measured."""
        return self.table or TableRequest(doses=self.doses)


def qualify(
    loaded: LoadedModel, store: Store, request: QualifyRequest, progress: OpenProgress
) -> Qualification:
    """A denoiser on the full-dose series of a store, all of one protocol.

    Raises ConfigError for a model of another task, and NothingUsableError where the dose of no
    series could be measured by its noise.
    """
    if not isinstance(loaded.config, DenoiseRun):
        raise ConfigError(f"{loaded.card.uri}: qualify is for denoisers, not {loaded.config.task}")
    keys = sorted(store.records())
    series: list[SeriesQualification] = []
    worst: list[SliceError] = []
    refused: dict[str, str] = {}
    with progress("qualify", unit="series", total=len(keys)) as stage:
        for number, key in enumerate(keys):
            try:
                found = MeasuredSeries.of(key, store.load(key), loaded, request.doses, seed=number)
            except LdctError as error:
                refused[key] = reason_of(error)
            else:
                series.append(found.figures)
                worst += found.errors
            stage.advance(1)
    if not series:
        reason = next(iter(refused.values()), "there is none")
        raise NothingUsableError(f"no series can be qualified: {reason}")
    scanner = _scanner(series)
    phantoms, contrast = _on_phantoms(loaded, scanner, request, progress)
    checks = _checks(series, loaded.config, request.doses)
    known: dict[str, Any] = {
        "weights_sha256": loaded.card.weights_sha256,
        "config_digest": loaded.card.config_digest,
        "strength": loaded.card.strength,
        "data_digest": store.data_digest(keys),
        "version": VERSION,
        "site": request.site,
        "doses": list(request.doses),
    }
    return Qualification(
        digest=digest(known),
        model=loaded.card.uri,
        **known,
        series=series,
        refused=refused,
        worst=_worst(worst, request.doses),
        phantoms=phantoms,
        contrast=contrast,
        passed=checks.passed,
        checks=checks.to_dict()["checks"],
    )


def _scanner(series: list[SeriesQualification]) -> Scanner:
    """One that scans as the series were, on the average of them."""
    photons = math.exp(float(np.mean([math.log(row.photons_per_ray) for row in series])))
    cutoffs = [math.inf if row.kernel_cutoff is None else row.kernel_cutoff for row in series]
    return Scanner(photons_per_ray=photons, cutoff=sorted(cutoffs)[len(cutoffs) // 2])


def _on_phantoms(
    loaded: LoadedModel, scanner: Scanner, request: QualifyRequest, progress: OpenProgress
) -> tuple[PhantomFigures, ContrastTable]:
    """Noise texture, sharpness and bias at the lowest dose; discs and d' at every dose."""
    lowest, model = request.doses[0], loaded.model
    total = PHANTOMS * request.phantom_slices
    with progress("phantoms", unit="images", total=total) as stage, _no_division_warnings():
        phantoms = phantom_figures(
            lambda image_hu: apply_model(
                at_dose_ratio(model, 1 / lowest), image_hu, progress=stage.advance
            ),
            scanner=scanner,
            generator=np.random.default_rng(SEED),
            dose_fraction=lowest,
            slices=request.phantom_slices,
        )
    asked = request.contrast
    with progress("contrast kept", unit="images", total=asked.images(model)) as stage:
        table = contrast_table(model, loaded.config, asked, scanner=scanner, progress=stage.advance)
    return phantoms, table


def _no_division_warnings() -> np.errstate:
    """A broken image has figures that are not numbers."""
    return np.errstate(divide="ignore", invalid="ignore")


def _checks(
    series: list[SeriesQualification], config: DenoiseRun, doses: tuple[float, ...]
) -> Verdict:
    """The bias of each tissue over all series, at every dose, within the limits of the model's
    gate."""
    checks = []
    for number, dose in enumerate(doses):
        for tissue, bias_hu in _pooled([row.doses[number].bias for row in series]).items():
            limit_hu = config.register_.gate.max_abs_bias_hu(tissue)
            if limit_hu is not None:
                name = f"HU bias in {tissue} at {100 * dose:g} % dose"
                checks.append(Check.bias_within(name, bias_hu, limit_hu))
    return Verdict.of(checks)


def _pooled(found: list[dict[str, TissueBias]]) -> dict[str, float]:
    """Bias over all voxels, of tissues that have enough of them."""
    pooled = {}
    for tissue in dict.fromkeys(name for one in found for name in one):
        rows = [one[tissue] for one in found if one[tissue].bias_hu is not None]
        voxels = sum(row.voxels for row in rows)
        if voxels >= MIN_VOXELS:
            pooled[tissue] = sum((row.bias_hu or 0.0) * row.voxels for row in rows) / voxels
    return pooled


def _worst(errors: list[SliceError], doses: tuple[float, ...]) -> list[SliceError]:
    """Of each dose those farthest from full dose after denoising."""
    return [
        error
        for dose in doses
        for error in sorted(
            (each for each in errors if each.dose_fraction == dose),
            key=lambda each: -(each.rmse_left_hu or 0.0),
        )[:WORST]
    ]
