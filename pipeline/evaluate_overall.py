"""Figures of all patients: their mean, how sure it is, and the slices that came out worst."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.conventions import HOUSE, Convention
from pipeline.errors import NothingUsableError
from pipeline.evaluate_patients import KINDS, PatientFigures, finite, mean

#: Of the bootstrap over patients (Efron & Tibshirani 1993, percentile interval).
RESAMPLINGS, LEVEL, SEED = 2000, 0.95, 0
WORST_SLICES = 5

Summaries = dict[str, dict[str, Any]]


def summarise(figures: dict[str, PatientFigures]) -> dict[str, Any]:
    """{"overall", "patients"}; raises NothingUsableError where no slice showed a body."""
    seen = {name: patient for name, patient in figures.items() if patient.slices}
    if not seen:
        raise NothingUsableError("no slice to evaluate shows a body")
    patients = {name: patient.summary() for name, patient in seen.items()}
    convention = next(iter(seen.values())).convention
    return {"overall": over_patients(patients, convention), "patients": patients}


def over_patients(
    patients: Summaries,
    convention: Convention = HOUSE,
    *,
    generator: np.random.Generator | None = None,
) -> dict[str, Any]:
    """The mean of several patients' summaries, as the convention counts them, with
    confidence intervals over patients and the worst slices."""
    summaries = list(patients.values())
    by_slices = convention.aggregation == "slices"
    weights = [float(s["slices"]) if by_slices else 1.0 for s in summaries]
    trees = [{k: s[k] for k in ("windows", "hu_bias")} for s in summaries]
    return {
        **convention.stated(),
        "patients": len(summaries),
        "slices": sum(s["slices"] for s in summaries),
        **_mean_tree(trees, weights),
        "intervals": intervals(patients, weights, generator or np.random.default_rng(SEED)),
        "worst_slices": worst_slices(patients),
    }


def _mean_tree(trees: list[Any], weights: list[float], *, may_lack: bool = False) -> Any:
    """Mean of equally shaped trees of numbers, None where one of them is None.

    Only a tissue may be lacking: not every patient shows lung. A figure that one patient
    lacks would be a mean over other patients than its neighbour's.
    """
    if isinstance(trees[0], dict):
        return {
            key: _mean_tree(
                [tree[key] for tree in trees], weights, may_lack=may_lack or key == "hu_bias"
            )
            for key in trees[0]
        }
    known = [(n, w) for n, w in zip(trees, weights, strict=True) if n is not None]
    if not known or not (may_lack or len(known) == len(trees)):
        return None
    return mean([n for n, _ in known], [w for _, w in known])


def intervals(
    patients: Summaries, weights: list[float], generator: np.random.Generator
) -> dict[str, Any]:
    """95 % confidence intervals [low, high] of the means in `windows`, by the bootstrap.

    Patients are drawn with replacement, all slices of one together, since slices of a patient
    resemble each other; every figure sees the same draws, so that `change` is paired.
    `windows` is None, and `method` says why, for fewer than two patients.
    """
    stated = {"level": LEVEL, "patients": len(patients)}
    if len(patients) < 2:
        return {**stated, "method": "one patient", "windows": None}
    drawn = generator.integers(len(patients), size=(RESAMPLINGS, len(patients)))
    summaries = list(patients.values())

    def of(window: str, kind: str, figure: str) -> list[float | None]:
        values = [s["windows"][window][kind][figure] for s in summaries]
        return _interval(values, np.asarray(weights), drawn)

    windows = {
        name: {
            kind: {figure: of(name, kind, figure) for figure in window[kind]}
            for kind in (*KINDS, "change")
        }
        for name, window in summaries[0]["windows"].items()
    }
    method = f"percentile bootstrap over patients, {RESAMPLINGS} resamplings"
    return {**stated, "method": method, "windows": windows}


def _interval(
    values: list[float | None], weights: NDArray[np.float64], drawn: NDArray[np.int64]
) -> list[float | None]:
    figures = np.array([math.nan if value is None else value for value in values])
    means = (figures * weights)[drawn].sum(axis=1) / weights[drawn].sum(axis=1)
    tail = (1 - LEVEL) / 2
    return [finite(float(bound)) for bound in np.quantile(means, [tail, 1 - tail])]


def worst_slices(patients: Summaries, count: int = WORST_SLICES) -> dict[str, Any]:
    """By window, the slices of the lowest output PSNR and of the lowest gain in PSNR.

    Each names its patient, series, index along the normal from 0, and figures.
    """
    first = next(iter(patients.values()))
    worst = {}
    for window in first["windows"]:
        slices = [row for name, s in patients.items() for row in _slices(name, s, window)]
        known = [row for row in slices if row["output_psnr"] is not None]
        gained = [row for row in known if row["psnr_change"] is not None]
        worst[window] = {
            "output_psnr": sorted(known, key=lambda row: row["output_psnr"])[:count],
            "psnr_change": sorted(gained, key=lambda row: row["psnr_change"])[:count],
        }
    return worst


def _slices(patient: str, summary: dict[str, Any], window: str) -> list[dict[str, Any]]:
    columns = summary["per_slice"]
    before, after = (columns["windows"][window][kind] for kind in KINDS)
    return [
        {
            "patient": patient,
            "series": columns["series"][row],
            "slice": columns["slice"][row],
            "input_psnr": before["psnr"][row],
            "output_psnr": after["psnr"][row],
            "output_ssim": after["ssim"][row],
            "psnr_change": None
            if before["psnr"][row] is None or after["psnr"][row] is None
            else after["psnr"][row] - before["psnr"][row],
        }
        for row in range(summary["slices"])
    ]
