"""Is a challenger better than the champion? Asked of the same test patients, pair by pair."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluate_overall import LEVEL, RESAMPLINGS, SEED

#: Fewer patients than this say nothing of the next one.
LEAST_PATIENTS = 2
#: What two evaluations of the same undenoised images may differ by, in dB: rounding.
_SAME_DB = 1e-3

Check = dict[str, Any]
Patients = dict[str, dict[str, Any]]


def compare(challenger: Patients, champion: Patients) -> list[Check]:
    """The checks of a challenger's figures by patient against the champion's.

    In the first window its output PSNR must be higher, in no window lower: by the interval of
    the mean difference, paired bootstrap over patients (Efron & Tibshirani 1993). Where the two
    were not measured on the same images, one check that fails says so.
    """
    fault = _not_comparable(challenger, champion)
    if fault:
        return [_check("the same test patients", None, fault, passed=False)]
    windows = list(next(iter(challenger.values()))["windows"])
    return [
        _window_check(window, challenger, champion, must_gain=window == windows[0])
        for window in windows
    ]


def paired_interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """[low, high] of the mean of paired differences, one for each patient."""
    drawn = np.random.default_rng(SEED).integers(
        len(differences), size=(RESAMPLINGS, len(differences))
    )
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(differences[drawn].mean(axis=1), [tail, 1 - tail])
    return float(low), float(high)


def _not_comparable(challenger: Patients, champion: Patients) -> str:
    if challenger.keys() != champion.keys():
        shared = len(challenger.keys() & champion.keys())
        return (
            f"{len(challenger)} and {len(champion)} patients, {shared} in common: train both on "
            "one store"
        )
    if len(challenger) < LEAST_PATIENTS:
        return f"at least {LEAST_PATIENTS} patients, there are {len(challenger)}"
    for name, figures in challenger.items():
        if figures.get("windows", {}).keys() != champion[name].get("windows", {}).keys():
            return "the same windows"
        for window, row in figures["windows"].items():
            ours, theirs = row["input"]["psnr"], champion[name]["windows"][window]["input"]["psnr"]
            if not math.isclose(ours or 0, theirs or 0, abs_tol=_SAME_DB):
                return "the same undenoised images; their figures differ"
    return ""


def _window_check(
    window: str, challenger: Patients, champion: Patients, *, must_gain: bool
) -> Check:
    pairs = [
        (
            ours["windows"][window]["output"]["psnr"],
            champion[name]["windows"][window]["output"]["psnr"],
        )
        for name, ours in challenger.items()
    ]
    known = np.array([(one, other) for one, other in pairs if None not in (one, other)])
    told = f"PSNR against the champion in window {window}, dB"
    if len(known) < len(pairs):
        return _check(told, None, "a figure for every patient", passed=False)
    differences = known[:, 0] - known[:, 1]
    low, high = paired_interval(differences)
    limit = "interval above 0" if must_gain else "interval not below 0"
    passed = low > 0 if must_gain else high >= 0
    check = _check(told, float(differences.mean()), limit, passed=passed)
    return {**check, "interval": [low, high], "patients": len(known)}


def _check(name: str, figure: float | None, limit: str, *, passed: bool) -> Check:
    return {"check": name, "figure": figure, "limit": limit, "passed": passed}
