"""Figures of all patients: their mean, how sure it is, and the slices that came out worst."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.core.errors import NothingUsableError
from pipeline.core.json_numbers import Figures, Interval, JsonRecord, finite
from pipeline.evaluation.classical_denoisers import Tuning
from pipeline.evaluation.pair_figures import MatchedPair, PairFigures, PairGroup
from pipeline.evaluation.per_patient import (
    KINDS,
    Bias,
    PatientFigures,
    PatientMeasurement,
    WindowFigures,
    difference,
    mean,
)
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

Patients = Mapping[str, PatientFigures]
#: By window, then input, output or change, then figure.
WindowIntervals = dict[str, dict[str, dict[str, Interval]]]


class MeanIntervals(JsonRecord):
    """Confidence intervals of the means in each window, at `level`, over so many patients.

    windows: None, and `method` says why, for fewer than two patients.
    """

    level: float
    patients: int
    method: str
    windows: WindowIntervals | None


class WorstSlice(JsonRecord):
    """One slice: its patient, series and index along the normal from 0; PSNR in dB."""

    patient: str
    series: str
    slice: int
    input_psnr: float | None
    output_psnr: float | None
    output_ssim: float | None
    psnr_change: float | None


class WorstSlices(JsonRecord):
    """The slices of the lowest output PSNR, and those of the lowest gain in PSNR."""

    output_psnr: list[WorstSlice]
    psnr_change: list[WorstSlice]


class Unmeasured(JsonRecord):
    """A series of an anatomy for which the convention has no window."""

    series: str
    anatomy: str


class DenoisingOverall(JsonRecord):
    """Means over patients, and what a reader of them must know.

    convention to rmse: how they were computed (Convention.stated). hu_bias: of input and
    output, by tissue. worst_slices: by window.
    """

    windows: dict[str, WindowFigures]
    convention: str = ""
    aggregation: str = ""
    psnr_and_ssim: str = ""
    rmse: str = ""
    patients: int = 0
    slices: int = 0
    hu_bias: dict[str, Bias] = Field(default_factory=dict)
    intervals: MeanIntervals | None = None
    worst_slices: dict[str, WorstSlices] = Field(default_factory=dict)
    unmeasured: list[Unmeasured] = Field(default_factory=list)


class DenoisingResult(JsonRecord):
    """Figures of a denoiser over patients and of each patient.

    pair: of a single real pair; pairs, groups: of real pairs, of each and by kernel and dose
    (evaluation.real_pairs). tuning: of evaluate_baselines.
    """

    overall: DenoisingOverall
    patients: dict[str, PatientFigures]
    pair: MatchedPair | None = None
    pairs: list[PairFigures] = Field(default_factory=list)
    groups: list[PairGroup] = Field(default_factory=list)
    tuning: Tuning | None = None


def summarise(measured: dict[str, PatientMeasurement]) -> DenoisingResult:
    """Over all patients, and of each whose slices show a body.

    Raises NothingUsableError where no slice does.
    """
    seen = {name: patient for name, patient in measured.items() if patient.slices}
    if not seen:
        raise NothingUsableError("no slice to evaluate shows a body")
    patients = {name: patient.summary() for name, patient in seen.items()}
    convention = next(iter(seen.values())).convention
    return DenoisingResult(overall=over_patients(patients, convention), patients=patients)


def over_patients(
    patients: Patients,
    convention: Convention = HOUSE,
    *,
    generator: np.random.Generator | None = None,
) -> DenoisingOverall:
    """The mean of several patients' figures, as the convention counts them, with confidence
    intervals over patients and the worst slices.

    Patients need not share their windows: each window's figures are of those who have it.
    """
    every = list(patients.values())
    by_slices = convention.aggregation == "slices"
    weights = [float(patient.slices) if by_slices else 1.0 for patient in every]
    stated = convention.stated()
    return DenoisingOverall(
        convention=stated["convention"],
        aggregation=stated["aggregation"],
        psnr_and_ssim=stated["psnr_and_ssim"],
        rmse=stated["rmse"],
        patients=len(every),
        slices=sum(patient.slices for patient in every),
        windows={
            window: _of_window(window, every, weights)
            for window in _windows(every, list(convention.windows))
        },
        hu_bias={
            kind: _mean_bias([patient.hu_bias[kind] for patient in every], weights)
            for kind in KINDS
        },
        intervals=intervals(patients, weights, generator or np.random.default_rng(SEED)),
        worst_slices=worst_slices(patients),
    )


def _windows(patients: list[PatientFigures], order: list[str]) -> list[str]:
    """Every window that a patient has, those of `order` first."""
    found = dict.fromkeys(window for patient in patients for window in patient.windows)
    return sorted(found, key=lambda name: order.index(name) if name in order else len(order))


def _of_window(window: str, patients: list[PatientFigures], weights: list[float]) -> WindowFigures:
    having = [(p, w) for p, w in zip(patients, weights, strict=True) if window in p.windows]
    rows, shares = [p.windows[window] for p, _ in having], [w for _, w in having]
    return WindowFigures(
        centre_hu=float(np.average([row.centre_hu for row in rows], weights=shares)),
        width_hu=float(np.average([row.width_hu for row in rows], weights=shares)),
        input=_mean_figures([row.input for row in rows], shares),
        output=_mean_figures([row.output for row in rows], shares),
        change=_mean_figures([row.change for row in rows], shares),
        hu_bias=_mean_bias([row.hu_bias for row in rows], shares),
        patients=len(rows),
        slices=sum(p.slices for p, _ in having),
    )


def _mean_figures(rows: list[Figures], weights: list[float]) -> Figures:
    """None where one patient has none: it would be a mean over other patients than its
    neighbour's."""
    found: Figures = {}
    for name in rows[0]:
        known = [figure for row in rows if (figure := row[name]) is not None]
        found[name] = mean(known, weights) if len(known) == len(rows) else None
    return found


def _mean_bias(rows: list[Bias], weights: list[float]) -> Bias:
    """By tissue, over those patients who show it: not every one shows lung."""
    found: Bias = {}
    for tissue in rows[0]:
        pairs = [(row[tissue], weight) for row, weight in zip(rows, weights, strict=True)]
        known = [(bias_hu, weight) for bias_hu, weight in pairs if bias_hu is not None]
        biases_hu, shares = [bias_hu for bias_hu, _ in known], [weight for _, weight in known]
        found[tissue] = float(np.average(biases_hu, weights=shares)) if known else None
    return found


def intervals(
    patients: Patients, weights: list[float], generator: np.random.Generator
) -> MeanIntervals:
    """95 % confidence intervals [low, high] of the means in `windows`, by the bootstrap.

    Patients are drawn with replacement, all slices of one together, since slices of a patient
    resemble each other; every figure sees the same draws, so that `change` is paired. A figure
    that a patient lacks, or that one patient alone has, has [None, None].
    """
    if len(patients) < 2:
        return MeanIntervals(
            level=LEVEL, patients=len(patients), method="one patient", windows=None
        )
    return MeanIntervals(
        level=LEVEL,
        patients=len(patients),
        method=f"percentile bootstrap over patients, {RESAMPLINGS} resamplings",
        windows=_window_intervals(list(patients.values()), np.asarray(weights), generator),
    )


def _window_intervals(
    patients: list[PatientFigures], weights: NDArray[np.float64], generator: np.random.Generator
) -> WindowIntervals:
    """Windows that the same patients have are resampled together."""
    windows = _windows(patients, [])
    sharing: dict[tuple[int, ...], list[str]] = {}
    for name in windows:
        having = tuple(n for n, patient in enumerate(patients) if name in patient.windows)
        sharing.setdefault(having, []).append(name)
    found: WindowIntervals = {name: {} for name in windows}
    for having, names in sharing.items():
        columns = {
            (name, kind, figure): [_kind(patients[n].windows[name], kind)[figure] for n in having]
            for name in names
            for kind in (*KINDS, "change")
            for figure in _kind(patients[having[0]].windows[name], kind)
        }
        bounds = _intervals_of(list(columns.values()), weights[list(having)], generator)
        for (name, kind, figure), interval in zip(columns, bounds, strict=True):
            found[name].setdefault(kind, {})[figure] = interval
    return found


def _kind(window: WindowFigures, kind: str) -> Figures:
    return {"input": window.input, "output": window.output, "change": window.change}[kind]


def _intervals_of(
    columns: list[list[float | None]],
    weights: NDArray[np.float64],
    generator: np.random.Generator,
) -> list[Interval]:
    """Of the weighted mean of each column, which has one value for each patient."""
    if len(weights) < 2:
        return [(None, None)] * len(columns)
    values = np.array(columns, dtype=np.float64)  # None becomes NaN

    def weighted_means(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        """[columns, resamplings] of the patients drawn."""
        weight = weights[drawn].sum(axis=1)
        return np.stack([(row * weights)[drawn].sum(axis=1) / weight for row in values])

    means = bootstrap_distribution(weighted_means, len(weights), generator=generator)
    low, high = percentile_interval(means)
    return [(finite(one), finite(other)) for one, other in zip(low, high, strict=True)]


def worst_slices(patients: Patients, count: int = WORST_SLICES) -> dict[str, WorstSlices]:
    """By window, `count` slices of the lowest output PSNR and of the lowest gain in PSNR."""
    worst = {}
    for window in _windows(list(patients.values()), []):
        slices = [
            row
            for name, patient in patients.items()
            if window in patient.windows
            for row in _slices(name, patient, window)
        ]
        worst[window] = WorstSlices(
            output_psnr=_lowest([(row.output_psnr, row) for row in slices], count),
            psnr_change=_lowest([(row.psnr_change, row) for row in slices], count),
        )
    return worst


def _lowest(slices: list[tuple[float | None, WorstSlice]], count: int) -> list[WorstSlice]:
    """Those of the lowest figures; a slice without the figure is none of the worst."""
    known = [(figure, row) for figure, row in slices if figure is not None]
    return [row for _, row in sorted(known, key=lambda pair: pair[0])[:count]]


def _slices(name: str, patient: PatientFigures, window: str) -> list[WorstSlice]:
    columns = patient.per_slice
    if columns is None:
        return []
    before, after = (columns.windows[window][kind] for kind in KINDS)
    return [
        WorstSlice(
            patient=name,
            series=columns.series[row],
            slice=columns.slice[row],
            input_psnr=before["psnr"][row],
            output_psnr=after["psnr"][row],
            output_ssim=after["ssim"][row],
            psnr_change=difference(after["psnr"][row], before["psnr"][row]),
        )
        for row in range(patient.slices)
    ]
