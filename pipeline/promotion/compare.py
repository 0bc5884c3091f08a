"""Is a challenger better than the champion? On the same test patients, and on phantoms."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.config.sections import DenoiseGate
from pipeline.core.verdicts import Check
from pipeline.evaluation.aggregate import SEED
from pipeline.evaluation.per_patient import PatientFigures, difference
from pipeline.metrics.bootstrap import bootstrap_distribution, percentile_interval
from pipeline.quality.nps import NoiseFigures
from pipeline.quality.phantom_metrics import PhantomFigures

#: Fewer patients than this say nothing of the next one.
MIN_PATIENTS = 2
#: What two evaluations of the same undenoised images may differ by, in dB: rounding.
_SAME_DB = 1e-3
#: Of full dose's mean noise frequency, what denoised noise must keep: below, noise is as coarse as
#: the structures that a reader searches for. RED-CNN keeps 0.43 (docs/quality.md). And of the
#: champion's.
MIN_OF_FULL_DOSE, MIN_OF_CHAMPION = 0.33, 0.9
#: Rounding in the adapter.
_SAME_NOISE = 1.001
#: The tissue whose limit of the gate holds for a rod.
ROD_TISSUES = {"-1000 HU": "lung", "-100 HU": "fat", "60 HU": "soft_tissue", "900 HU": "bone"}

Patients = Mapping[str, PatientFigures]


def compare(challenger: Patients, champion: Patients) -> list[Check]:
    """The checks of a challenger's figures by patient against the champion's.

    In the first window its output PSNR must be higher, in no window lower: by the interval of
    the mean difference, paired bootstrap over patients (Efron & Tibshirani 1993). Where the two
    were not measured on the same images, one check that fails says so.
    """
    fault = _not_comparable(challenger, champion)
    if fault:
        return [Check("the same test patients", None, fault, passed=False)]
    windows = list(next(iter(challenger.values())).windows)
    return [
        _window_check(window, challenger, champion, must_gain=window == windows[0])
        for window in windows
    ]


def within_bounds(
    figures: PhantomFigures, gate: DenoiseGate, champion: PhantomFigures | None
) -> list[Check]:
    """Noise power in water, and the HU bias that a model adds.

    Noise must not grow nor become too coarse, by the mean frequency of its spectrum (TG-233);
    each rod's bias keeps the gate's limit for its tissue. champion: its figures at the same dose.
    """
    noise_hu, max_hu = _noise(figures).noise_hu, figures.undenoised.noise_power.noise_hu
    frequency = _noise(figures).mean_frequency_per_mm
    full_dose = figures.full_dose.noise_power.mean_frequency_per_mm
    name = "mean frequency of the noise in water, 1/mm"
    checks = [
        Check.at_most("noise in water, HU", noise_hu, _SAME_NOISE * (max_hu or 0), spec=".3g"),
        Check.at_least(name, frequency, MIN_OF_FULL_DOSE * (full_dose or math.inf), spec=".3g"),
    ]
    if champion is not None:
        theirs = _noise(champion).mean_frequency_per_mm
        bound = MIN_OF_CHAMPION * (theirs or 0)
        checks.append(Check.at_least(f"{name}, against the champion", frequency, bound, spec=".3g"))
    return checks + _bias_checks(figures, gate)


def _noise(figures: PhantomFigures) -> NoiseFigures:
    """Of the model's images."""
    if figures.denoised is None:
        raise ValueError("phantoms measured without a model have nothing to check")
    return figures.denoised.noise_power


def _bias_checks(figures: PhantomFigures, gate: DenoiseGate) -> list[Check]:
    checks = []
    for rod, tissue in ROD_TISSUES.items():
        limit_hu = gate.max_abs_bias_hu(tissue)
        if limit_hu is None:
            continue
        before, after = (
            arm.rod_bias[rod].bias_hu if arm else None
            for arm in (figures.undenoised, figures.denoised)
        )
        name = f"HU bias added in a rod of {rod}"
        checks.append(Check.bias_within(name, difference(after, before), limit_hu, spec="g"))
    return checks


def paired_interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """[low, high] of the mean of paired differences, one for each patient."""
    means = bootstrap_distribution(
        lambda drawn: differences[drawn].mean(axis=1),
        len(differences),
        generator=np.random.default_rng(SEED),
    )
    low, high = percentile_interval(means)
    return float(low), float(high)


def _not_comparable(challenger: Patients, champion: Patients) -> str:
    if challenger.keys() != champion.keys():
        shared = len(challenger.keys() & champion.keys())
        return (
            f"{len(challenger)} and {len(champion)} patients, {shared} in common: train both on "
            "one store"
        )
    if len(challenger) < MIN_PATIENTS:
        return f"at least {MIN_PATIENTS} patients, there are {len(challenger)}"
    for name, figures in challenger.items():
        if figures.windows.keys() != champion[name].windows.keys():
            return "the same windows"
        for window, row in figures.windows.items():
            ours, theirs = row.input["psnr"], champion[name].windows[window].input["psnr"]
            if not math.isclose(ours or 0, theirs or 0, abs_tol=_SAME_DB):
                return (
                    "the same undenoised images; their figures differ: another degradation or "
                    "seed, or noise that an earlier version drew (docs/upgrading.md)"
                )
    return ""


def _window_check(
    window: str, challenger: Patients, champion: Patients, *, must_gain: bool
) -> Check:
    pairs = [
        (
            ours.windows[window].output["psnr"],
            champion[patient].windows[window].output["psnr"],
        )
        for patient, ours in challenger.items()
    ]
    known = np.array([(one, other) for one, other in pairs if None not in (one, other)])
    name = f"PSNR against the champion in window {window}, dB"
    if len(known) < len(pairs):
        return Check(name, None, "a figure for every patient", passed=False)
    differences = known[:, 0] - known[:, 1]
    low, high = paired_interval(differences)
    limit = "interval above 0" if must_gain else "interval not below 0"
    passed = low > 0 if must_gain else high >= 0
    return Check(
        name,
        float(differences.mean()),
        limit,
        passed,
        interval=(low, high),
        patients=len(known),
    )
