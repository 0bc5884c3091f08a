"""Which series the Imaging Data Commons has: chosen from the index that comes with `idc-index`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.core.errors import ConfigError, NothingUsableError

INSTALL = "pip install 'ldct[fetch]'"
#: CT Image Storage and Enhanced CT Image Storage (PS3.4, B.5).
_CT_IMAGES = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1")
#: In SeriesDescription of raw measurements, which are stored as CT images (DICOM-CT-PD).
_NO_IMAGES = "projection"
_COLUMNS = {
    "collection": "collection_id",
    "patient": "PatientID",
    "uid": "SeriesInstanceUID",
    "description": "SeriesDescription",
    "vendor": "Manufacturer",
    "body_part": "BodyPartExamined",
    "files": "instanceCount",
    "megabytes": "series_size_MB",
    "licence": "license_short_name",
    "doi": "source_DOI",
}


@dataclass(frozen=True)
class Wanted:
    """What to choose by, all in any case; each of several values of a kind will do.

    collections: collection_id, whole. vendors: the beginning of Manufacturer. body_parts:
    BodyPartExamined, whole. words: each must be in SeriesDescription. kernels: ConvolutionKernel,
    whole. any_licence: not only CC BY.
    """

    collections: tuple[str, ...] = ()
    vendors: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    any_licence: bool = False

    def __post_init__(self) -> None:
        if not any((self.collections, self.vendors, self.body_parts, self.words, self.kernels)):
            raise ConfigError(
                "say what to fetch: --collection, --vendor, --body-part, --word or --kernel"
            )


@dataclass(frozen=True)
class RemoteSeries:
    """A series of the Imaging Data Commons, as its public index describes it."""

    collection: str
    patient: str
    uid: str
    description: str
    vendor: str
    body_part: str
    files: int
    megabytes: float
    licence: str
    doi: str

    @property
    def folder(self) -> Path:
        """Where it is laid, below the folder of all."""
        return Path(self.collection, self.patient, self.uid)

    def to_dict(self) -> dict[str, Any]:
        """As a report has it."""
        return asdict(self)


@dataclass(frozen=True)
class Selection:
    """The series chosen, by collection, patient and description; and how many others fitted but for
    their licence, by licence."""

    series: list[RemoteSeries]
    other_licences: dict[str, int]

    @property
    def megabytes(self) -> float:
        """Of all."""
        return sum(series.megabytes for series in self.series)

    @property
    def licences(self) -> dict[str, int]:
        """How many series have each."""
        return _counted(one.licence for one in self.series)


def index_file() -> Path:
    """The index of the installed idc-index; raises ConfigError where it is not installed."""
    try:
        from idc_index_data import IDC_INDEX_PARQUET_FILEPATH
    except ImportError as missing:
        raise ConfigError(f"`ldct fetch` needs idc-index: {INSTALL}") from missing
    return Path(IDC_INDEX_PARQUET_FILEPATH)


def ct_index_file() -> Path:
    """Where idc-index keeps the index of CT attributes, once it was downloaded."""
    import idc_index_data
    import platformdirs

    folder = platformdirs.user_data_dir("idc_index_data", "IDC", version=idc_index_data.__version__)
    return Path(folder) / "ct_index.parquet"


def select_series(wanted: Wanted, index: Path, ct_index: Path | None = None) -> Selection:
    """The CT image series of an index, a Parquet file, that are wanted.

    ct_index: the index of CT attributes, which alone has kernels. Raises ConfigError where
    kernels are wanted and it is not there, NothingUsableError where no series fits.
    """
    of_kernel = _of_kernels(wanted.kernels, ct_index) if wanted.kernels else None
    chosen: list[RemoteSeries] = []
    others: list[str] = []
    for row in _rows(index, wanted):
        series = _series_of(row)
        if not _fits(series, wanted) or (of_kernel is not None and series.uid not in of_kernel):
            continue
        if wanted.any_licence or is_cc_by(series.licence):
            chosen.append(series)
        else:
            others.append(series.licence)
    left_out = _counted(others)
    if not chosen:
        left = f"; {len(others)} fit but are not CC BY (--any-licence)" if others else ""
        raise NothingUsableError(f"no CT series of the Imaging Data Commons fits{left}")
    chosen.sort(key=lambda one: (one.collection, one.patient, one.description, one.uid))
    return Selection(chosen, left_out)


def is_cc_by(licence: str) -> bool:
    """Attribution alone: CC BY of any version, not CC BY-NC, CC BY-SA or CC BY-ND."""
    return licence.upper().startswith("CC BY ")


def _rows(index: Path, wanted: Wanted) -> Iterable[Mapping[str, Any]]:
    from pyarrow import parquet

    filters: list[tuple[str, str, Any]] = [("SOPClassUID", "in", list(_CT_IMAGES))]
    if wanted.collections:
        names = [_collection(name) for name in wanted.collections]
        filters.append(("collection_id", "in", names))
    for batch in parquet.read_table(
        index, columns=list(_COLUMNS.values()), filters=filters
    ).to_batches():
        yield from batch.to_pylist()


def _collection(name: str) -> str:
    """As the index writes it: TCIA's name in lower case, with underscores."""
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def _series_of(row: Mapping[str, Any]) -> RemoteSeries:
    texts = {field: str(row[column] or "").strip() for field, column in _COLUMNS.items()}
    numbers = {"files": int(row["instanceCount"]), "megabytes": float(row["series_size_MB"])}
    return RemoteSeries(**{**texts, **numbers})  # type: ignore[arg-type]


def _fits(series: RemoteSeries, wanted: Wanted) -> bool:
    description, vendor = series.description.casefold(), series.vendor.casefold()
    body_parts = [part.casefold() for part in wanted.body_parts]
    return (
        _NO_IMAGES not in description
        and all(word.casefold() in description for word in wanted.words)
        and (not wanted.vendors or vendor.startswith(_folded(wanted.vendors)))
        and (not body_parts or series.body_part.casefold() in body_parts)
    )


def _folded(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(word.casefold() for word in words)


def _of_kernels(kernels: tuple[str, ...], ct_index: Path | None) -> set[str]:
    """SeriesInstanceUIDs of the series with one of these kernels."""
    if ct_index is None or not ct_index.exists():
        raise ConfigError(
            "--kernel: the index that comes with idc-index has no kernels; download the "
            "index of CT attributes once, by `ldct fetch --ct-index`"
        )
    from pyarrow import parquet

    table = parquet.read_table(ct_index, columns=["SeriesInstanceUID", "ConvolutionKernel"])
    folded = _folded(kernels)
    return {
        row["SeriesInstanceUID"]
        for row in table.to_pylist()
        if str(row["ConvolutionKernel"] or "").strip().casefold() in folded
    }


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
