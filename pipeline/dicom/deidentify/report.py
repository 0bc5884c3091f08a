"""What a de-identification reports: counts by pseudonym, warnings, and refused files."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.core.refusals import Refusal, by_disposition


@dataclass(frozen=True)
class DeidentifiedSeries:
    """A series of the copies: pseudonyms of patient and series, and its number of images."""

    patient: str
    series: str
    images: int


@dataclass(frozen=True)
class DeidentifyReport:
    """What was copied, with warnings, and the files of `root` that were refused.

    Refused files are named as they are in the source: the report is for the source's owner.
    """

    root: Path
    written: int
    series: list[DeidentifiedSeries]
    warnings: list[str]
    refusals: list[Refusal]

    def to_dict(self) -> dict[str, object]:
        """In JSON's types; refusals by what became of the file."""
        return {
            "written": self.written,
            "series": [asdict(series) for series in self.series],
            "warnings": self.warnings,
            **by_disposition(self.refusals, self.root),
        }
