"""What ingest says of each series: what was stored, and what was refused."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.core.refusals import Refusal, by_disposition
from pipeline.io.discover import Source


@dataclass(frozen=True)
class PairedInput:
    """The low-dose partner of a stored full-dose series: its key, and the first voxel [x, y, z]
    in mm of each slice that only one of the two series has."""

    input: str
    unmatched_input_mm: list[list[float]]
    unmatched_target_mm: list[list[float]]


@dataclass(frozen=True)
class IngestedSeries:
    """A series of the store, by the pseudonyms of series and patient.

    new: whether the store did not have it before. description: attributes of DESCRIPTION.
    warnings: what a user should know of it. source_file: of an image file, its path below the
    source. pair: its low-dose partner, if it has one.
    """

    series: str
    patient: str
    slices: int
    new: bool
    description: dict[str, object]
    warnings: list[str] = field(default_factory=list)
    source_file: str = ""
    pair: PairedInput | None = None

    def to_dict(self) -> dict[str, object]:
        """As a report has it, in JSON's types."""
        empty = {name for name in ("pair", "source_file") if not getattr(self, name)}
        return {name: value for name, value in asdict(self).items() if name not in empty}


@dataclass(frozen=True)
class IngestedLabels:
    """The label map of a stored series: the series' key, the kind of its files (one of
    pipeline.labels.read's), its structures, and whether the store did not have it before."""

    series: str
    labels: str
    structures: list[str]
    new: bool
    warnings: list[str]


@dataclass
class IngestReport:
    """What was stored, and which files of `root` were refused.

    sources: each series' source, in memory only, since the store and the report have keys and
    no paths; of a pair it is the low-dose series, which a model is applied to. stored: likewise,
    but of a pair the full-dose series, which labels belong to. skipped: how many series were not
    read again, since the store has them from the same files.
    """

    root: Path
    series: list[IngestedSeries] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    sources: dict[str, Source] = field(default_factory=dict)
    stored: dict[str, Source] = field(default_factory=dict)
    labels: list[IngestedLabels] = field(default_factory=list)
    skipped: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As report.json has it; refusals by what became of the file."""
        return {
            "series": [series.to_dict() for series in self.series],
            "labels": [asdict(labels) for labels in self.labels],
            **by_disposition(self.refusals, self.root),
        }
