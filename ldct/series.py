"""A CT series in memory: its HU, where they were read, and what was done to them since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import ConfigError
from pipeline.core.refusals import Refusal, nothing_usable
from pipeline.core.volume import Volume
from pipeline.dicom.derived.write import Operation
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import read_volume
from pipeline.io.discover import Discovered, Source, discover
from pipeline.io.volume_files import read_image

#: Of the volumes that a folder holds, how many a message lists.
MAX_LISTED = 8


@dataclass(frozen=True)
class CTSeries:
    """A CT series, or an image file (NIfTI, NRRD, MetaImage), as it was read or processed.

    volume: HU and geometry. source: its DICOM series, or its file. operation: what was done to it,
    for the header of a derived series; None as it was read. details: figures of what was done, as
    in report.json. refusals: slices that were left out, with the reason.
    """

    source: Source = field(repr=False)
    volume: Volume = field(repr=False)
    operation: Operation | None = None
    details: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    refusals: tuple[Refusal, ...] = ()

    @property
    def image_hu(self) -> NDArray[np.float32]:
        """HU, float32 [slices, rows, columns]."""
        return self.volume.image_hu

    @property
    def valid(self) -> NDArray[np.bool_]:
        """[slices, rows, columns]; False where the scanner measured nothing."""
        return self.volume.valid

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Between slices, rows and columns, in mm."""
        return self.volume.spacing_mm

    @property
    def affine_lps(self) -> NDArray[np.float64]:
        """4 x 4, from (column, row, slice) to mm in DICOM's LPS axes (PS3.3 C.7.6.2)."""
        return self.volume.affine_lps

    @property
    def provenance(self) -> dict[str, Any]:
        """What was read and how, without identity: kernel, kVp, slice thickness, warnings."""
        return self.volume.provenance

    def processed(
        self, image_hu: NDArray[np.float32], operation: Operation, details: Mapping[str, object]
    ) -> CTSeries:
        """The same place in the patient with other HU [slices, rows, columns].

        operation: what was done, after what had been done before. Raises ConfigError for an array
        of another shape.
        """
        if image_hu.shape != self.image_hu.shape:
            raise ConfigError(
                f"image_hu is {image_hu.shape}, and the series {self.image_hu.shape} "
                "[slices, rows, columns]"
            )
        if self.operation is not None:
            operation = operation.after(self.operation)
        volume = replace(self.volume, image_hu=np.asarray(image_hu, np.float32))
        merged = MappingProxyType({**self.details, **details})
        return replace(self, volume=volume, operation=operation, details=merged)


def find(folder: str | Path) -> Discovered:
    """Every CT volume below a folder, zip archive or file: `.sources`; `.refusals` says of each
    other file why it was not used.

    Reads headers alone. Raises NothingUsableError, an LdctError, where the path does not exist.
    """
    return discover(Path(folder))


def read(source: str | Path | Series) -> CTSeries:
    """Read one CT series in HU, exactly as its rescale says (PS3.3 C.11.1).

    source: a folder, zip archive or file that holds one CT volume; or one of `find(...).sources`.
    A slice that cannot be decoded is left out and named in `.refusals`. Raises LdctError: for a
    path without a CT volume (NothingUsableError), with several (ConfigError, which lists them),
    and for a series of which nothing can be decoded (SeriesRefusedError).
    """
    refused: list[Refusal] = []
    if not isinstance(source, Series):
        source, refused = _only_volume(Path(source))
    if isinstance(source, Path):
        return CTSeries(source, read_image(source), refusals=tuple(refused))
    reading = read_volume(source)
    refusals = (*refused, *reading.refusals)
    return CTSeries(reading.series, reading.volume, refusals=refusals)


def _only_volume(path: Path) -> tuple[Source, list[Refusal]]:
    found = discover(path)
    if not found.sources:
        raise nothing_usable(found.root, found.refusals)
    if len(found.sources) > 1:
        listed = "; ".join(
            f"{number}: {_described(source)}"
            for number, source in enumerate(found.sources[:MAX_LISTED])
        )
        raise ConfigError(
            f"{path} holds {len(found.sources)} CT volumes ({listed}): read one of them by "
            "ldct.read(ldct.find(PATH).sources[NUMBER])"
        )
    return found.sources[0], found.refusals


def _described(source: Source) -> str:
    if isinstance(source, Path):
        return source.name
    kernel = source.header.get("ConvolutionKernel") or "unknown"
    return f"{len(source.instances)} slices, kernel {kernel}"
