"""Real pairs of series, one or many: figures by pair, by kernel and dose, and by patient, each
beside the ceiling that the noise of the full dose sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import nn

from pipeline.config.dose import MAX_RATIO
from pipeline.config.task_runs import DenoiseRun
from pipeline.core.errors import LdctError, NothingUsableError
from pipeline.core.refusals import Disposition, Refusal, SeriesRefusedError
from pipeline.core.slice_matching import match_slices
from pipeline.core.types import Progress
from pipeline.core.units import Window
from pipeline.core.volume import Volume
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import patient_key, read_volume, series_key
from pipeline.evaluation.aggregate import DenoisingResult, summarise
from pipeline.evaluation.denoising import anatomy_of, no_window
from pipeline.evaluation.noise_ceiling import noise_ceiling
from pipeline.evaluation.pair_figures import MatchedPair, PairFigures, PairGroup
from pipeline.evaluation.per_patient import PatientMeasurement
from pipeline.inference.denoise import apply_model
from pipeline.inference.traits import noise_hu, words_of
from pipeline.ingest.dose_pairs import Pair
from pipeline.metrics.conventions import CONVENTIONS, HOUSE, Convention
from pipeline.models.adapters.any_dose import at_dose_ratio

#: The name of the only patient of a single pair, whose folders may be of two identities.
ONLY = "pair"


@dataclass(frozen=True)
class RealPairs:
    """Pairs of series to measure on. key: the installation's, for pseudonyms. refusals: what of
    their folders is not used, with what cannot be decoded once it was tried."""

    pairs: list[Pair]
    key: bytes
    refusals: list[Refusal] = field(default_factory=list)

    @property
    def slices(self) -> int:
        """Of all targets."""
        return sum(len(pair.target.instances) for pair in self.pairs)

    def patient_of(self, pair: Pair) -> str:
        """The patient's pseudonym."""
        return ONLY if len(self.pairs) == 1 else patient_key(pair.target, self.key)


def evaluate_pairs(
    model: nn.Module,
    pairs: RealPairs,
    config: DenoiseRun,
    progress: Progress = lambda slices: None,
) -> DenoisingResult:
    """Figures of pairs of real series, in the run's windows and by its convention.

    overall and patients are over all pairs, a patient's doses and kernels together; groups are by
    kernel and dose. What cannot be used of many pairs is added to `refusals`, of a single one it
    is raised, as by evaluate_pair. Raises NothingUsableError where no pair is left.
    """
    measured: list[_Measured] = []
    for pair in pairs.pairs:
        how = _How(config.windows, config.metrics, CONVENTIONS[config.convention], pairs.refusals)
        try:
            found = _measure(model, pair.input, pair.target, how, progress)
        except LdctError as failure:
            if len(pairs.pairs) == 1:
                raise
            pairs.refusals.extend(_refused(pair, failure))
            continue
        named = {
            "patient": pairs.patient_of(pair),
            "series": series_key(pair.target, pairs.key),
            "dose_percent": pair.dose_percent,
        }
        row = found.row.model_copy(update=named)
        if len(pairs.pairs) > 1:
            found.measurement.name_series(f"{row.series} at {row.dose}")
        measured.append(replace(found, row=row))
    if not measured:
        raise NothingUsableError(f"none of {len(pairs.pairs)} pairs can be used")
    return _result(measured)


def evaluate_pair(
    model: nn.Module,
    input_: Series,
    target: Series,
    *,
    windows: dict[str, Window],
    progress: Progress = lambda slices: None,
    also: Sequence[str] = (),
    convention: Convention = HOUSE,
    refusals: list[Refusal] | None = None,
) -> DenoisingResult:
    """Figures of a real pair of series of one scan.

    Slices are paired by position; one series may have more of them, which `pair` then names.
    Slice numbers in the figures are those of the target. A dose-conditioned model makes up for
    what the target has more of, by the noise of both. refusals: gets the slices that cannot be
    decoded. Raises SeriesRefusedError where that leaves no series, LdctError where the series do
    not show the same places, and NothingUsableError where the convention has no window for
    their anatomy.
    """
    how = _How(windows, also, convention, [] if refusals is None else refusals)
    return _result([_measure(model, input_, target, how, progress)])


@dataclass(frozen=True)
class _How:
    """Windows, figures beyond the usual, convention; and where refused slices go."""

    windows: dict[str, Window]
    also: Sequence[str]
    convention: Convention
    refusals: list[Refusal]


@dataclass(frozen=True)
class _Measured:
    """One pair: its row, and its slices' figures."""

    row: PairFigures
    measurement: PatientMeasurement


def _measure(
    model: nn.Module, input_: Series, target: Series, how: _How, progress: Progress
) -> _Measured:
    readings = read_volume(input_), read_volume(target)
    how.refusals.extend(refusal for reading in readings for refusal in reading.refusals)
    low, full = (reading.volume for reading in readings)
    match = match_slices(low, full)
    low, full = low.slices(match.input), full.slices(match.target)
    anatomy = anatomy_of(full.provenance)
    shown = how.convention.windows_for(how.windows, anatomy)
    if not shown:
        raise NothingUsableError(no_window(how.convention, anatomy))
    measurement = PatientMeasurement(shown, how.also, how.convention)
    ratio = ratio_of_doses(low, full)
    asked = at_dose_ratio(model, min(MAX_RATIO, max(1.0, ratio or 1.0)))
    measurement.add(
        input_hu=low.image_hu,
        output_hu=apply_model(asked, low.image_hu, progress=progress),
        target_hu=full.image_hu,
        valid=low.valid & full.valid,
        numbers=match.target.tolist(),
    )
    matched = MatchedPair(
        slices=len(match.target),
        unmatched_input_mm=match.unmatched_input_mm,
        unmatched_target_mm=match.unmatched_target_mm,
    )
    return _Measured(_row(low, full, anatomy, ratio, matched, measurement), measurement)


def _row(
    low: Volume,
    full: Volume,
    anatomy: str,
    ratio: float | None,
    matched: MatchedPair,
    measurement: PatientMeasurement,
) -> PairFigures:
    means = measurement.summary()
    return PairFigures(
        patient=ONLY,
        series="",
        anatomy=anatomy,
        kernel=words_of(full)["kernel"],
        dose_percent=None,
        measured_dose_percent=None if ratio is None else 100 / ratio,
        matched=matched,
        windows=means.windows,
        hu_bias=means.hu_bias,
        ceiling=noise_ceiling(full, low.image_hu, full.image_hu),
    )


def ratio_of_doses(low: Volume, full: Volume) -> float | None:
    """How many times the dose of one volume another of the same scan has, by the noise of both in
    flat tissue; None where that cannot be measured."""
    noise = [noise_hu(volume, volume.image_hu) for volume in (low, full)]
    if not noise[0] or not noise[1]:
        return None
    return (noise[0] / noise[1]) ** 2


def _result(measured: list[_Measured]) -> DenoisingResult:
    result = summarise(_by_patient(measured))
    rows = [one.row for one in measured if one.measurement.slices]
    found = {"pairs": rows, "groups": _groups(measured)}
    if len(measured) == 1:
        found["pair"] = measured[0].row.matched
    return result.model_copy(update=found)


def _by_patient(measured: Iterable[_Measured]) -> dict[str, PatientMeasurement]:
    """A patient's pairs together, those of another anatomy's windows separately."""
    patients: dict[str, PatientMeasurement] = {}
    for one in measured:
        name, windows = one.row.patient, one.measurement.windows
        if name in patients and patients[name].windows != windows:
            name = f"{name} {one.row.anatomy}"
        first = one.measurement
        empty = PatientMeasurement(windows, first.also, first.convention)
        patients.setdefault(name, empty).extend(first)
    return patients


def _groups(measured: list[_Measured]) -> list[PairGroup]:
    groups: dict[tuple[str, str], list[_Measured]] = {}
    for one in measured:
        if one.measurement.slices:
            groups.setdefault((one.row.kernel, one.row.dose), []).append(one)
    return [_group(*names, groups[names]) for names in sorted(groups)]


def _group(kernel: str, dose: str, members: list[_Measured]) -> PairGroup:
    overall = summarise(_by_patient(members)).overall
    gains = [one.row.ceiling.gain_db if one.row.ceiling else None for one in members]
    known = [gain for gain in gains if gain is not None]
    return PairGroup(
        kernel=kernel,
        dose=dose,
        pairs=len(members),
        patients=len({one.row.patient for one in members}),
        slices=overall.slices,
        windows=overall.windows,
        hu_bias=overall.hu_bias,
        ceiling_gain_db=float(np.mean(known)) if len(known) == len(gains) else None,
    )


def _refused(pair: Pair, failure: LdctError) -> list[Refusal]:
    """The slices of both series, each with its own reason where the failure names it."""
    found = list(failure.refusals) if isinstance(failure, SeriesRefusedError) else []
    named = {refusal.path for refusal in found}
    left = [
        Refusal(instance.path, Disposition.QUARANTINED, str(failure))
        for series in (pair.input, pair.target)
        for instance in series.instances
        if instance.path not in named
    ]
    return [*found, *left]
