"""A CT series in memory: its HU, where they were read, and what was done to them since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.core.errors import ConfigError
from pipeline.core.hu_scale import values_of
from pipeline.core.refusals import Refusal, nothing_usable
from pipeline.core.volume import Volume, even_origins_mm
from pipeline.dicom.derived.write import Operation
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import read_volume
from pipeline.io.discover import Discovered, Source, discover
from pipeline.io.volume_files import read_image

if TYPE_CHECKING:
    from pipeline.export.uncertainty import SeriesUncertainty

#: Of the volumes that a folder holds, how many a message lists.
MAX_LISTED = 8


@dataclass(frozen=True)
class CTSeries:
    """A CT series, an image file (NIfTI, NRRD, MetaImage) or an array, as it was read or processed.

    volume: HU and geometry. source: its DICOM series, or its file; None for an array. operation:
    what was done to it, for the header of a derived series; None as it was read. details: figures
    of what was done, as in report.json. refusals: slices that were left out, with the reason.
    uncertainty: of a denoised series how far its voxels may be off, where `denoise` was asked for
    it.
    """

    source: Source | None = field(repr=False)
    volume: Volume = field(repr=False)
    operation: Operation | None = None
    details: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    refusals: tuple[Refusal, ...] = ()
    uncertainty: SeriesUncertainty | None = field(default=None, repr=False)

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

    @property
    def uncertainty_hu(self) -> NDArray[np.float32] | None:
        """Of a denoised series the half width in HU of the 68 % interval about each voxel, float32
        [slices, rows, columns]; None where `denoise` was not asked for it."""
        return None if self.uncertainty is None else self.uncertainty.deviation_hu

    def processed(
        self,
        image_hu: NDArray[np.float32],
        operation: Operation,
        details: Mapping[str, object],
        uncertainty: SeriesUncertainty | None = None,
    ) -> CTSeries:
        """The same place in the patient with other HU [slices, rows, columns].

        operation: what was done, after what had been done before. uncertainty: of the new HU.
        Raises ConfigError for an array of another shape.
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
        return replace(
            self, volume=volume, operation=operation, details=merged, uncertainty=uncertainty
        )


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


def from_array(
    image_hu: ArrayLike,
    *,
    spacing_mm: tuple[float, float, float],
    valid: NDArray[np.bool_] | None = None,
) -> CTSeries:
    """A series of an array of your own, for `denoise`, `simulate`, `segment` and `evaluate`.

    image_hu: HU [slices, rows, columns], axial; slices go to the head, rows to the back, columns to
    the patient's left (DICOM's LPS axes). spacing_mm: between slices, rows and columns. valid:
    [slices, rows, columns], False where nothing was measured; None where all was. The values are
    copied. Raises ConfigError for another shape, for spacing that is not above 0, and for values
    that are not finite or no HU, such as stored values 1024 too high.
    """
    values = np.array(image_hu, np.float32)
    if values.ndim != 3 or not values.size:
        raise ConfigError(
            f"image_hu is {values.shape}: [slices, rows, columns] is needed; of one slice, "
            "image_hu[None]"
        )
    measured = np.ones(values.shape, np.bool_) if valid is None else np.array(valid, np.bool_)
    if measured.shape != values.shape:
        raise ConfigError(f"valid is {measured.shape}, and image_hu {values.shape}")
    spacing = np.array(spacing_mm, np.float64)
    if spacing.shape != (3,) or not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise ConfigError(f"spacing_mm {spacing_mm}: three distances above 0, slices first")
    if not np.isfinite(values).all():
        raise ConfigError("image_hu holds values that are not finite: set them to air, -1000 HU")
    if fault := values_of(values, measured).fault():
        raise ConfigError(f"image_hu is not in HU: {fault}")
    affine = np.diag([*spacing[::-1], 1.0])
    provenance = {"source": "array", "warnings": [], "evenly_spaced": True}
    origins_mm = even_origins_mm(affine, len(values))
    return CTSeries(None, Volume(values, measured, affine, origins_mm, provenance))


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
