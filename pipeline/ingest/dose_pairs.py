"""Find and read pairs of a low-dose and a full-dose series of one scan.

A series' dose follows from words in its description or folder; two series belong together by
patient and by the positions of their slices. The full-dose series is the target and counts as a
series of the store; the low-dose one is its input.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.config.sections import Pairs
from pipeline.core.errors import LdctError
from pipeline.core.refusals import Disposition, Refusal, SeriesRefusedError, count_of
from pipeline.core.slice_matching import Match, match_slices
from pipeline.core.units import AIR_HU
from pipeline.core.volume import Volume
from pipeline.dicom.read.identifiers import patient_of
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import Reading, geometry_volume, read_volume

Dose = Literal["input", "target"]
DOSE_NAMES: dict[Dose, str] = {"input": "low-dose", "target": "full-dose"}

#: Of several low-dose series at the same positions, those with equal values of these attributes
#: are preferred, in this order.
PREFERRED_EQUAL = ("StudyInstanceUID", "ConvolutionKernel", "SliceThickness")
#: A pair that differs in these gets a warning: a network would learn the difference.
REPORTED_DIFFERENCES = ("ConvolutionKernel", "SliceThickness")
_PERCENT = re.compile(r"\b([1-9]\d?) ?(?:%|percent|pct)", re.IGNORECASE)


@dataclass(frozen=True)
class Pair:
    """The low-dose (input) and full-dose (target) series of one scan.

    one_of_several: the target has other inputs too, each at a dose of its own.
    """

    input: Series
    target: Series
    one_of_several: bool = False

    @property
    def dose_percent(self) -> int | None:
        """The input's dose in percent of the target's, as stated: in SeriesDescription or the
        name of its folder, or else by Exposure of both; None where it is not."""
        folder = self.input.instances[0].path.parent.name
        for text in (str(self.input.header.get("SeriesDescription") or ""), folder):
            if found := _PERCENT.search(text):
                return int(found[1])
        try:
            low, full = (float(each.header.get("Exposure")) for each in (self.input, self.target))
        except (TypeError, ValueError):
            return None
        return round(100 * low / full) if 0 < low < full else None


@dataclass(frozen=True)
class PairReading:
    """The slices that both series have, in one order; padding of either is masked in both.

    source: the low-dose series with all its slices. unmatched_*_mm: the first voxel [x, y, z] of
    each slice that only one of the two has.
    """

    input: Reading
    target: Reading
    source: Series
    unmatched_input_mm: list[list[float]]
    unmatched_target_mm: list[list[float]]

    @property
    def refusals(self) -> list[Refusal]:
        """The slices of either series that could not be decoded."""
        return [*self.target.refusals, *self.input.refusals]


def find_pairs(found: list[Series], words: Pairs, root: Path) -> tuple[list[Pair], list[Refusal]]:
    """Pairs among series, by their headers alone, and the files of series without a partner.

    words: those that mark low-dose (input) and full-dose (target) series. A series with neither
    is excluded; one without a partner is quarantined, with how it differs from the patient's
    other series.
    """
    pairs: list[Pair] = []
    refusals: list[Refusal] = []
    patients: dict[tuple[str, str], dict[Dose, list[Series]]] = defaultdict(
        lambda: {"input": [], "target": []}
    )
    for series in found:
        dose = dose_of(series, words, root)
        if dose is None:
            neither = f"neither {_quoted(words.input)} nor {_quoted(words.target)}"
            reason = f"{neither} in description or folder"
            refusals += [
                Refusal(instance.path, Disposition.EXCLUDED, reason, "SeriesDescription")
                for instance in series.instances
            ]
        else:
            patients[patient_of(series.header)][dose].append(series)
    for doses in patients.values():
        found_pairs, left = pair_series(doses["input"], doses["target"])
        pairs += found_pairs
        refusals += left
    return pairs, refusals


def pair_series(lows: list[Series], fulls: list[Series]) -> tuple[list[Pair], list[Refusal]]:
    """Pairs among one patient's low- and full-dose series, and the files of those without any.

    A target has one pair for each dose that was made of it.
    """
    pairs: list[Pair] = []
    refusals: list[Refusal] = []
    for target in fulls:
        try:
            partners = _partners(target, lows)
        except LdctError as why:
            refusals += _refused(target, f"no low-dose partner: {why}")
        else:
            pairs += [Pair(low, target, one_of_several=len(partners) > 1) for low in partners]
    for low in lows:
        if not any(low is pair.input for pair in pairs):
            mismatches = [_mismatch(low, full) for full in fulls]
            refusals += _refused(low, f"no full-dose partner: {_reason(mismatches)}")
    return pairs, refusals


def pair_folders(lows: list[Series], fulls: list[Series]) -> tuple[list[Pair], list[Refusal]]:
    """As find_pairs, of series whose folders say which dose they have."""
    pairs: list[Pair] = []
    refusals: list[Refusal] = []
    for patient in dict.fromkeys(patient_of(series.header) for series in (*fulls, *lows)):
        own = [[one for one in each if patient_of(one.header) == patient] for each in (lows, fulls)]
        found, left = pair_series(*own)
        pairs += found
        refusals += left
    return pairs, refusals


def dose_of(series: Series, words: Pairs, root: Path) -> Dose | None:
    """A series' dose, by the words in SeriesDescription, else by those in the folders below
    `root`; None where each has neither word, or both.
    """
    folder = series.instances[0].path.parent
    within = folder.relative_to(root) if folder.is_relative_to(root) else folder
    for text in (str(series.header.get("SeriesDescription") or ""), str(within)):
        found = {
            dose
            for dose in DOSE_NAMES
            if any(word.casefold() in text.casefold() for word in _words(getattr(words, dose)))
        }
        if len(found) == 1:
            return found.pop()
    return None


def read_pair(pair: Pair) -> PairReading:
    """Decode both series of a pair.

    Raises SeriesRefusedError with the files of both where one of them cannot be used, or the
    slices that are left do not match.
    """
    low = _read(pair.input, "input", partner=pair.target)
    full = _read(pair.target, "target", partner=pair.input)
    try:
        match = match_slices(low.volume, full.volume)
    except LdctError as mismatch:
        both = [*_refused(low.series, str(mismatch)), *_refused(full.series, str(mismatch))]
        raise SeriesRefusedError([*low.refusals, *full.refusals, *both]) from mismatch
    warnings, source = tuple(_warnings(pair, match)), low.series
    low, full = low.of_slices(match.input), full.of_slices(match.target)
    valid = low.volume.valid & full.volume.valid
    return PairReading(
        replace(low, volume=_masked(low.volume, valid)),
        replace(full, volume=_masked(_with_warnings(full.volume, warnings), valid)),
        source,
        match.unmatched_input_mm,
        match.unmatched_target_mm,
    )


def _words(given: str | list[str]) -> list[str]:
    return [given] if isinstance(given, str) else given


def _quoted(given: str | list[str]) -> str:
    return " or ".join(f"'{word}'" for word in _words(given))


def _partners(full: Series, lows: list[Series]) -> list[Series]:
    """The low-dose partners of a full-dose series: one, or several whose stated doses differ.

    Raises LdctError where none of the patient's low-dose series matches, or several do that
    no stated dose distinguishes.
    """
    mismatches = [_mismatch(low, full) for low in lows]
    fitting = [low for low, mismatch in zip(lows, mismatches, strict=True) if not mismatch]
    if not fitting:
        raise LdctError(_reason(mismatches))
    for name in PREFERRED_EQUAL:
        alike = [low for low in fitting if low.header.get(name) == full.header.get(name)]
        fitting = alike or fitting
    doses = {Pair(low, full).dose_percent for low in fitting}
    if len(fitting) > 1 and (None in doses or len(doses) < len(fitting)):
        raise LdctError(
            f"{len(fitting)} series match its positions: leave one of them in the data, or name "
            "the dose of each, such as 25 %, in SeriesDescription or folder"
        )
    return fitting


def _reason(mismatches: list[str]) -> str:
    """Why a series has no partner, from its mismatches with the patient's other series."""
    if not mismatches:
        return "the patient has no such series"
    return mismatches[0] if all(mismatches) else "the series at its positions has another partner"


def _mismatch(low: Series, full: Series) -> str:
    """How the slices' positions of two series differ, in words; "" where they match."""
    try:
        match_slices(geometry_volume(low), geometry_volume(full))
    except LdctError as mismatch:
        return str(mismatch)
    return ""


def _read(series: Series, dose: Dose, *, partner: Series) -> Reading:
    try:
        return read_volume(series).without_drawn()
    except SeriesRefusedError as refused:
        left = _refused(partner, f"its {DOSE_NAMES[dose]} partner cannot be used: {refused}")
        raise SeriesRefusedError([*refused.refusals, *left]) from refused


def _refused(series: Series, reason: str) -> list[Refusal]:
    return [
        Refusal(instance.path, Disposition.QUARANTINED, reason, "ImagePositionPatient")
        for instance in series.instances
    ]


def _warnings(pair: Pair, match: Match) -> list[str]:
    unmatched: dict[Dose, list[list[float]]] = {
        "input": match.unmatched_input_mm,
        "target": match.unmatched_target_mm,
    }
    warnings = [
        f"{count_of(len(places), 'slice')} of the {DOSE_NAMES[dose]} series left out: "
        "no partner there"
        for dose, places in unmatched.items()
        if places
    ]
    for name in REPORTED_DIFFERENCES:
        low, full = pair.input.header.get(name), pair.target.header.get(name)
        if low != full:
            warnings.append(f"{name} of the pair differs: low dose {low}, full dose {full}")
    return warnings


def _with_warnings(volume: Volume, added: tuple[str, ...]) -> Volume:
    warnings = [*volume.provenance["warnings"], *added]
    return replace(volume, provenance={**volume.provenance, "warnings": warnings})


def _masked(volume: Volume, valid: np.ndarray) -> Volume:
    if np.array_equal(valid, volume.valid):
        return volume
    return replace(volume, image_hu=np.where(valid, volume.image_hu, AIR_HU), valid=valid)
