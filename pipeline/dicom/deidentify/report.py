"""What a de-identification reports: counts by pseudonym, warnings, and refused files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.core.refusals import Refusal, by_disposition, count_of


@dataclass(frozen=True)
class CopiedImage:
    """An image's pseudonyms, which name its copy, whether it may show a face, and remarks on what
    its file lacks or gets wrong."""

    patient: str
    series: str
    name: str
    may_show_face: bool
    remarks: tuple[str, ...]

    @property
    def path(self) -> Path:
        """patient/series/image.dcm, relative to the output folder."""
        return Path(self.patient, self.series, f"{self.name}.dcm")


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


def report_of(
    source: Path, images: Sequence[CopiedImage], refusals: list[Refusal]
) -> DeidentifyReport:
    """The report on the images that were copied from `source`."""
    counts = Counter((image.patient, image.series) for image in images)
    return DeidentifyReport(
        root=source,
        written=len(images),
        series=[DeidentifiedSeries(*names, count) for names, count in counts.items()],
        warnings=[*_warnings(images), *_remarks(images)],
        refusals=refusals,
    )


def _warnings(images: Sequence[CopiedImage]) -> list[str]:
    warnings = []
    if faces := {image.series for image in images if image.may_show_face}:
        warnings.append(
            f"{len(faces)} series show a head or do not name the body part: faces can be rendered"
        )
    patients = Counter(series for _, series in {(image.patient, image.series) for image in images})
    if divided := sum(count > 1 for count in patients.values()):
        warnings.append(
            f"{divided} series lie under several patients: PatientID differs or is missing among "
            "their images"
        )
    return warnings


def _remarks(images: Sequence[CopiedImage]) -> list[str]:
    counts = Counter(remark for image in images for remark in image.remarks)
    return [f"{count_of(count, 'image')}: {remark}" for remark, count in counts.items()]
