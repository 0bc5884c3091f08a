"""The series below some folders, and what their headers say of their origin."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from pipeline.core.refusals import Refusal, Unreadable
from pipeline.dicom.derived.provenance import (
    ImageKey,
    is_difference,
    keys_of,
    likeness,
    own_equipment,
    references,
)
from pipeline.dicom.derived.structure_objects import DATE
from pipeline.dicom.read.files import read_dataset
from pipeline.dicom.read.header_tags import DESCRIPTIVE_KEYWORDS
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.series import Series, find_series
from pipeline.dicom.read.volume import patient_key

ORIGINAL, DENOISED, LOW_DOSE, DIFFERENCE = "original", "denoised", "low_dose", "difference"
PRIOR = "prior"
SIMULATED = "SIMULATED "
#: For readers of the page alone: these go into no file, log or other folder.
PAGE_ONLY_KEYWORDS = ("StudyDate", "StudyDescription")
#: Of a series, for readers.
SHOWN_KEYWORDS = (*PAGE_ONLY_KEYWORDS, *DESCRIPTIVE_KEYWORDS, "CTDIvol")
#: Missing slices are a warning here: a reader must see what there is.
LENIENT = IngestOptions(gaps="slices", rescale_type="hu")


@dataclass(frozen=True)
class IndexedSeries:
    """A series, and the whole header of its first slice, which names its source and equipment."""

    series: Series
    header: Dataset

    @property
    def kind(self) -> str:
        """ORIGINAL, DENOISED, LOW_DOSE or DIFFERENCE, by equipment and series description."""
        if is_difference(self.header):
            return DIFFERENCE
        if not own_equipment(self.header):
            return ORIGINAL
        description = str(self.header.get("SeriesDescription") or "")
        return LOW_DOSE if description.startswith(SIMULATED) else DENOISED


def found_in(roots: list[Path]) -> tuple[list[IndexedSeries], list[tuple[Path, Refusal]]]:
    """Every series below the roots, and every refused file with the root that it lies below."""
    found: list[IndexedSeries] = []
    refusals: list[tuple[Path, Refusal]] = []
    for root in roots:
        discovery = find_series(root, intake=LENIENT)
        refusals += [(root, refusal) for refusal in discovery.refusals]
        for series in discovery.series:
            try:
                found.append(IndexedSeries(series, _whole_header(series)))
            except Unreadable as fault:
                refusals.append((root, fault.refusal(series.instances[0].path)))
    return found, refusals


def _whole_header(series: Series) -> Dataset:
    first = series.instances[0]
    if first.frame is not None:
        return first.load()
    return read_dataset(first.path, stop_before_pixels=True)


def by_images(found: Iterable[IndexedSeries]) -> dict[ImageKey, list[IndexedSeries]]:
    """All series by their images: some archives hold several under the same UIDs."""
    holders: dict[ImageKey, list[IndexedSeries]] = defaultdict(list)
    for each in found:
        for image in keys_of(each.series):
            holders[image].append(each)
    return dict(holders)


def source_of(
    found: IndexedSeries, by_image: dict[ImageKey, list[IndexedSeries]]
) -> IndexedSeries | None:
    """The series that a derived one names as its source, None if it is not among `by_image`; of
    several under the same UIDs, the one that it is most like."""
    if not own_equipment(found.header):
        return None
    named = (by_image[image] for image in references(found.header) if image in by_image)
    holders = next(named, [])
    return max(holders, key=lambda each: likeness(found.header, each.series), default=None)


def prior_of(
    found: IndexedSeries, others: Iterable[IndexedSeries], key: bytes
) -> IndexedSeries | None:
    """An original of the same patient's last study before that of `found`; None without one.

    key: the installation's. Of several of that study one of the same kernel, then the one with
    most slices. A study without a date is before none.
    """
    date, patient = _date_of(found), patient_key(found.series, key)
    before = [
        each
        for each in others
        if each.kind == ORIGINAL
        and "" < _date_of(each) < date
        and patient_key(each.series, key) == patient
    ]
    kernel = found.header.get("ConvolutionKernel")

    def likeness_to_it(each: IndexedSeries) -> tuple[str, bool, int]:
        same_kernel = each.header.get("ConvolutionKernel") == kernel
        return _date_of(each), same_kernel, len(each.series.instances)

    return max(before, key=likeness_to_it, default=None)


def _date_of(found: IndexedSeries) -> str:
    """DICOM's YYYYMMDD, which sorts as dates do; "" for none, and for what is no such date."""
    date = str(found.header.get("StudyDate") or "")
    return date if DATE.fullmatch(date) else ""


@dataclass(frozen=True)
class DerivedBy:
    """The model that made a derived series, as its header says; empty for an original.

    name, version: Manufacturer's Model Name and Software Versions of the last item of Contributing
    Equipment Sequence that is ours. derivation: Derivation Description.
    """

    name: str = ""
    version: str = ""
    derivation: str = ""

    @classmethod
    def of(cls, header: Dataset) -> DerivedBy:
        """From the header of one image."""
        items = own_equipment(header)
        if not items:
            return cls()
        versions = items[-1].get("SoftwareVersions") or []
        return cls(
            name=str(items[-1].get("ManufacturerModelName") or ""),
            version=str(versions[-1] if versions else ""),
            derivation=str(header.get("DerivationDescription") or ""),
        )

    def to_dict(self) -> dict[str, str]:
        """As the page reads it; {} for an original."""
        return asdict(self) if self != DerivedBy() else {}


def facts_of(header: Dataset) -> dict[str, str]:
    """The attributes to show that a header has, by name."""
    found = {name: header.get(name) for name in SHOWN_KEYWORDS}
    return {
        name: str(value) if isinstance(value, str | int | float) else "\\".join(map(str, value))
        for name, value in found.items()
        if value not in (None, "")
    }
