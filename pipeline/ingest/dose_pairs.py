"""Real pairs: which low-dose series shows the places of which full-dose series.

What dose a series has, its description or its folder says; which two belong together, the
patient and the places of their slices. Of a pair the full-dose series is the target and counts
as a series; the low-dose one is its input, as the scanner itself degraded it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.config.sections import Pairs
from pipeline.core.errors import LdctError
from pipeline.core.refusals import Disposition, Refusal, SeriesRefusedError, count_of
from pipeline.core.slice_matching import Match, match_slices
from pipeline.core.units import AIR_HU
from pipeline.core.volume import Volume
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import Reading, outline, read_volume

Dose = Literal["input", "target"]
NAMES: dict[Dose, str] = {"input": "low-dose", "target": "full-dose"}

#: Where several series show the places of one, those like it in these are preferred, in turn.
ALIKE = ("StudyInstanceUID", "ConvolutionKernel", "SliceThickness")
#: A pair that differs in these is told: a network would learn the difference.
TOLD = ("ConvolutionKernel", "SliceThickness")


@dataclass(frozen=True)
class Pair:
    """One scan at two doses."""

    input: Series
    target: Series


@dataclass(frozen=True)
class PairReading:
    """The slices that both have, in one order; padding of either is masked in both.

    source: the low-dose series with all its slices. facts: what a report says of the pair.
    """

    input: Reading
    target: Reading
    source: Series
    facts: dict[str, Any]

    @property
    def refusals(self) -> list[Refusal]:
        return [*self.target.refusals, *self.input.refusals]


def find_pairs(found: list[Series], words: Pairs, root: Path) -> tuple[list[Pair], list[Refusal]]:
    """Pairs among series, by their headers alone, and the files of those that have no partner.

    A series that is told to be neither low- nor full-dose is excluded; one without a partner
    is quarantined, with what sets it apart from the patient's others.
    """
    pairs: list[Pair] = []
    refusals: list[Refusal] = []
    patients: dict[tuple[str, str], dict[Dose, list[Series]]] = defaultdict(
        lambda: {"input": [], "target": []}
    )
    for series in found:
        dose = dose_of(series, words, root)
        if dose is None:
            reason = f"neither told to be '{words.input}' nor '{words.target}'"
            refusals += [
                Refusal(instance.path, Disposition.EXCLUDED, reason, "SeriesDescription")
                for instance in series.instances
            ]
        else:
            patients[_patient(series)][dose].append(series)
    for doses in patients.values():
        for target in doses["target"]:
            try:
                pairs.append(Pair(_partner(target, doses["input"]), target))
            except LdctError as why:
                refusals += _refused(target, f"no low-dose partner: {why}")
        taken = [pair.input for pair in pairs]
        for low in doses["input"]:
            if not any(low is one for one in taken):
                apart = [_apart(low, full) for full in doses["target"]]
                refusals += _refused(low, f"no full-dose partner: {_why(apart)}")
    return pairs, refusals


def dose_of(series: Series, words: Pairs, root: Path) -> Dose | None:
    """By the words in SeriesDescription, else by those in the folders below `root`.

    None where neither says so, or says both.
    """
    folder = series.instances[0].path.parent
    within = folder.relative_to(root) if folder.is_relative_to(root) else folder
    for text in (str(series.header.get("SeriesDescription") or ""), str(within)):
        told = {dose for dose in NAMES if getattr(words, dose).casefold() in text.casefold()}
        if len(told) == 1:
            return told.pop()
    return None


def read_pair(pair: Pair) -> PairReading:
    """Decode both; raises SeriesRefusedError, which names the files of both, where one cannot be
    used or what is left of them does not match."""
    low = _read(pair.input, "input", partner=pair.target)
    full = _read(pair.target, "target", partner=pair.input)
    try:
        match = match_slices(low.volume, full.volume)
    except LdctError as mismatch:
        both = [*_refused(low.series, str(mismatch)), *_refused(full.series, str(mismatch))]
        raise SeriesRefusedError([*low.refusals, *full.refusals, *both]) from mismatch
    told, source = tuple(_remarks(pair, match)), low.series
    low, full = low.of_slices(match.input), full.of_slices(match.target)
    valid = low.volume.valid & full.volume.valid
    return PairReading(
        replace(low, volume=_masked(low.volume, valid)),
        replace(full, volume=_masked(_warned(full.volume, told), valid)),
        source,
        {
            "unmatched_input_mm": match.unmatched_input_mm,
            "unmatched_target_mm": match.unmatched_target_mm,
        },
    )


def _patient(series: Series) -> tuple[str, str]:
    told = (series.header.get(name) for name in ("PatientID", "IssuerOfPatientID"))
    patient, issuer = (str(value or "").strip() for value in told)
    return patient, issuer


def _partner(full: Series, lows: list[Series]) -> Series:
    """Raises LdctError, saying why, where no low-dose series can be it, or more than one."""
    apart = [_apart(low, full) for low in lows]
    fitting = [low for low, why in zip(lows, apart, strict=True) if not why]
    if not fitting:
        raise LdctError(_why(apart))
    for name in ALIKE:
        alike = [low for low in fitting if low.header.get(name) == full.header.get(name)]
        fitting = alike or fitting
    if len(fitting) > 1:
        raise LdctError(f"{len(fitting)} series show its places, and nothing tells which is meant")
    return fitting[0]


def _why(apart: list[str]) -> str:
    """Why a series has no partner among the patient's others, by what sets each apart from it."""
    if not apart:
        return "the patient has no such series"
    return apart[0] if all(apart) else "another series belongs to the one at its places"


def _apart(low: Series, full: Series) -> str:
    """What sets the places of two series apart; "" where they share them."""
    try:
        match_slices(outline(low), outline(full))
    except LdctError as mismatch:
        return str(mismatch)
    return ""


def _read(series: Series, dose: Dose, *, partner: Series) -> Reading:
    try:
        return read_volume(series)
    except SeriesRefusedError as refused:
        left = _refused(partner, f"its {NAMES[dose]} partner cannot be used: {refused}")
        raise SeriesRefusedError([*refused.refusals, *left]) from refused


def _refused(series: Series, reason: str) -> list[Refusal]:
    return [
        Refusal(instance.path, Disposition.QUARANTINED, reason, "ImagePositionPatient")
        for instance in series.instances
    ]


def _remarks(pair: Pair, match: Match) -> list[str]:
    lonely: dict[Dose, list[list[float]]] = {
        "input": match.unmatched_input_mm,
        "target": match.unmatched_target_mm,
    }
    told = [
        f"{count_of(len(places), 'slice')} of the {NAMES[dose]} series left out: no partner there"
        for dose, places in lonely.items()
        if places
    ]
    for name in TOLD:
        low, full = pair.input.header.get(name), pair.target.header.get(name)
        if low != full:
            told.append(f"{name} of the pair differs: low dose {low}, full dose {full}")
    return told


def _warned(volume: Volume, told: tuple[str, ...]) -> Volume:
    warnings = [*volume.provenance["warnings"], *told]
    return replace(volume, provenance={**volume.provenance, "warnings": warnings})


def _masked(volume: Volume, valid: np.ndarray) -> Volume:
    if np.array_equal(valid, volume.valid):
        return volume
    return replace(volume, image_hu=np.where(valid, volume.image_hu, AIR_HU), valid=valid)
