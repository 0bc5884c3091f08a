"""Figures of all patients: their mean, how sure it is, and the slices that came out worst."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import NothingUsableError
from pipeline.core.json_numbers import finite
from pipeline.evaluation.per_patient import KINDS, PatientFigures, mean
from pipeline.metrics.bootstrap import (
    LEVEL,
    RESAMPLINGS,
    bootstrap_distribution,
    percentile_interval,
)
from pipeline.metrics.conventions import HOUSE, Convention

#: Of the bootstrap over patients.
SEED = 0
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
    confidence intervals over patients and the worst slices.

    Patients need not share their windows: each window's figures are of those who have it.
    """
    summaries = list(patients.values())
    by_slices = convention.aggregation == "slices"
    weights = [float(s["slices"]) if by_slices else 1.0 for s in summaries]
    return {
        **convention.stated(),
        "patients": len(summaries),
        "slices": sum(s["slices"] for s in summaries),
        "windows": {
            window: _of_window(window, summaries, weights)
            for window in _windows(summaries, list(convention.windows))
        },
        "hu_bias": _mean_tree([s["hu_bias"] for s in summaries], weights, may_lack=True),
        "intervals": intervals(patients, weights, generator or np.random.default_rng(SEED)),
        "worst_slices": worst_slices(patients),
    }


def _windows(summaries: list[dict[str, Any]], order: list[str]) -> list[str]:
    """Every window that a patient has, those of `order` first."""
    found = dict.fromkeys(window for s in summaries for window in s["windows"])
    return sorted(found, key=lambda name: order.index(name) if name in order else len(order))


def _of_window(
    window: str, summaries: list[dict[str, Any]], weights: list[float]
) -> dict[str, Any]:
    rows = [(s, w) for s, w in zip(summaries, weights, strict=True) if window in s["windows"]]
    mean_row = _mean_tree([s["windows"][window] for s, _ in rows], [w for _, w in rows])
    return {
        **mean_row,
        "patients": len(rows),
        "slices": sum(s["slices"] for s, _ in rows),
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
    `windows` is None, and `method` says why, for fewer than two patients. A figure that a patient
    lacks, or that one patient alone has, has [None, None].
    """
    stated = {"level": LEVEL, "patients": len(patients)}
    if len(patients) < 2:
        return {**stated, "method": "one patient", "windows": None}
    method = f"percentile bootstrap over patients, {RESAMPLINGS} resamplings"
    windows = _intervals_by_window(list(patients.values()), np.asarray(weights), generator)
    return {**stated, "method": method, "windows": windows}


def _intervals_by_window(
    summaries: list[dict[str, Any]], weights: NDArray[np.float64], generator: np.random.Generator
) -> dict[str, dict[str, dict[str, list[float | None]]]]:
    """By window, kind and figure; windows that the same patients have are resampled together."""
    sharing: dict[tuple[int, ...], list[str]] = {}
    windows = _windows(summaries, [])
    for name in windows:
        having = tuple(n for n, s in enumerate(summaries) if name in s["windows"])
        sharing.setdefault(having, []).append(name)
    found: dict[str, Any] = {}
    for having, names in sharing.items():
        columns = {
            (name, kind, figure): [summaries[n]["windows"][name][kind][figure] for n in having]
            for name in names
            for kind in (*KINDS, "change")
            for figure in summaries[having[0]]["windows"][name][kind]
        }
        bounds = _intervals_of(list(columns.values()), weights[list(having)], generator)
        for (name, kind, figure), interval in zip(columns, bounds, strict=True):
            found.setdefault(name, {}).setdefault(kind, {})[figure] = interval
    return {name: found[name] for name in windows}


def _intervals_of(
    columns: list[list[float | None]],
    weights: NDArray[np.float64],
    generator: np.random.Generator,
) -> list[list[float | None]]:
    """[low, high] of the weighted mean of each column, one value for each patient."""
    if len(weights) < 2:
        return [[None, None]] * len(columns)
    values = np.array(columns, dtype=np.float64)  # None becomes NaN

    def weighted_means(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        weight = weights[drawn].sum(axis=1)
        return np.stack([(row * weights)[drawn].sum(axis=1) / weight for row in values])

    means = bootstrap_distribution(weighted_means, len(weights), generator=generator)
    return [
        [finite(low), finite(high)] for low, high in zip(*percentile_interval(means), strict=True)
    ]


def worst_slices(patients: Summaries, count: int = WORST_SLICES) -> dict[str, Any]:
    """By window, the slices of the lowest output PSNR and of the lowest gain in PSNR.

    Each names its patient, series, index along the normal from 0, and figures.
    """
    worst = {}
    for window in _windows(list(patients.values()), []):
        having = {name: s for name, s in patients.items() if window in s["windows"]}
        slices = [row for name, s in having.items() for row in _slices(name, s, window)]
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
