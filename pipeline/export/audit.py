"""What a denoiser changed by more than noise, over a series: written into report and headers.

Slices, rows and columns are counted from 1 here, as readers count them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.core.refusals import count_of
from pipeline.core.types import ImageHU, Json
from pipeline.core.volume import Volume
from pipeline.dicom.read.slice_requirements import numbers
from pipeline.dicom.read.volume import Slice
from pipeline.quality.difference_audit import Place, SliceAudit, audit_slice
from pipeline.quality.noise_threshold import FALSE_ALARMS

#: What the word "noise" covers, in figures.
BY_CHANCE = f"of noise alone at most {FALSE_ALARMS:.0%} of slices would be"


@dataclass
class SeriesAudit:
    """The audits of a series' slices, in their order."""

    slices: list[SliceAudit] = field(default_factory=list)

    @classmethod
    def of_volume(cls, source: Volume, result_hu: ImageHU) -> SeriesAudit:
        """Of a result [slices, rows, columns] in HU."""
        audit = cls()
        for source_hu, made_hu, valid in zip(source.image_hu, result_hu, source.valid, strict=True):
            audit._add(source_hu, made_hu, valid, source.spacing_mm[1:])
        return audit

    def audited(self, processed: Slice) -> Slice:
        """The next processed slice, with a remark for its header where it is flagged."""
        row_mm, column_mm = numbers(processed.source.dataset, "PixelSpacing", 2)
        pixels = processed.pixels
        found = self._add(pixels.image_hu, processed.image_hu, pixels.valid, (row_mm, column_mm))
        return replace(processed, remark=_remark(found)) if found.places else processed

    def _add(
        self,
        source_hu: ImageHU,
        result_hu: ImageHU,
        valid: NDArray[np.bool_],
        spacing_mm: tuple[float, float],
    ) -> SliceAudit:
        found = audit_slice(source_hu, result_hu, valid, spacing_mm)
        self.slices.append(found)
        return found

    def to_dict(self) -> Json:
        """As a row of report.json has it: `summary` in words, how many slices were `measured`, and
        each of the `flagged` ones with its strongest place."""
        return {
            "summary": self.summary(),
            "slices": len(self.slices),
            "measured": sum(found.threshold is not None for found in self.slices),
            "false_alarms": FALSE_ALARMS,
            "flagged": [_row(number, found) for number, found in self._flagged()],
        }

    def summary(self) -> str:
        """One sentence for tables and pages."""
        measured = sum(found.threshold is not None for found in self.slices)
        if not measured:
            return "audit: too little of a patient in the slices to distinguish changes from noise"
        flagged = self._flagged()
        of = f"{len(flagged)} of {count_of(measured, 'slice')}"
        if not flagged:
            return f"audit: no slice of {measured} was changed by more than noise"
        places = sum(len(found.places) for _, found in flagged)
        number, worst = max(flagged, key=lambda each: each[1].places[0].times_noise)
        return (
            f"audit: {of} changed by more than noise, in {count_of(places, 'place')}; strongest in "
            f"slice {number}: {described(worst.places[0])}; {BY_CHANCE}"
        )

    def _flagged(self) -> list[tuple[int, SliceAudit]]:
        """Number and audit of each slice that is flagged."""
        return [(number, found) for number, found in enumerate(self.slices, 1) if found.places]


def described(place: Place) -> str:
    """A place in words."""
    change = "taken away" if place.height_hu < 0 else "added"
    size = f"{place.kind} of {place.size_mm:g} mm"
    if place.kind == "edge":
        size, change = "edge", "shifted"
    return (
        f"{size}, {abs(place.height_hu):.0f} HU {change} at row {place.row + 1}, "
        f"column {place.column + 1}, {place.times_noise:.1f} times the noise"
    )


def _remark(found: SliceAudit) -> str:
    return (
        f"Audit: changed by more than noise in {count_of(len(found.places), 'place')}, most: "
        f"{described(found.places[0])}; {BY_CHANCE}."
    )


def _row(number: int, found: SliceAudit) -> Json:
    strongest = found.places[0]
    return {
        "slice": number,
        "places": len(found.places),
        "strongest": {
            "kind": strongest.kind,
            "size_mm": strongest.size_mm,
            "height_hu": round(strongest.height_hu, 1),
            "row": strongest.row + 1,
            "column": strongest.column + 1,
            "times_noise": round(strongest.times_noise, 2),
        },
    }
