"""From a checked series to a Volume in HU: exact, slice by slice."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pydicom
from numpy.typing import NDArray

from pipeline.dicom.findings import Refusal, SeriesRefusedError, Unreadable
from pipeline.dicom.series import DESCRIPTIVE, Instance, Series, group_of
from pipeline.identity import pseudonym
from pipeline.units import AIR_HU, LOWEST_CT_HU
from pipeline.volume import Volume


@dataclass(frozen=True)
class Reading:
    """A series as a volume; `series` holds the slices that made it, the rest were refused."""

    volume: Volume
    series: Series
    refusals: list[Refusal]


@dataclass(frozen=True)
class StoredPixels:
    """One slice as it is stored, and how to get to HU and back (PS3.3 C.11.1.1.2)."""

    stored: NDArray
    valid: NDArray[np.bool_]
    slope: float
    intercept: float
    padding: tuple[int, ...] = ()

    @property
    def image_hu(self) -> NDArray[np.float32]:
        """HU, with air where nothing was measured."""
        image_hu = self.stored * np.float64(self.slope) + self.intercept
        return np.where(self.valid, image_hu, AIR_HU).astype(np.float32)


def read_volume(series: Series) -> Reading:
    """Decode every slice; a damaged one is refused and the others go on.

    Raises SeriesRefusedError where no slice is left, or what is left does not make a series.
    """
    pixels: list[StoredPixels] = []
    kept: list[Instance] = []
    refusals: list[Refusal] = []
    for instance in series.instances:
        try:
            pixels.append(read_pixels(instance.load()))
        except Unreadable as fault:
            refusals.append(fault.refusal(instance.path))
        except Exception as error:  # decoders raise many kinds on damaged streams
            refusals.append(Unreadable(f"cannot be read ({error})").refusal(instance.path))
        else:
            kept.append(instance)
    if refusals:
        series = _remaining(series, kept, refusals)
    volume = Volume(
        image_hu=np.stack([slice_.image_hu for slice_ in pixels]),
        valid=np.stack([slice_.valid for slice_ in pixels]),
        affine_lps=affine_lps(series),
        slice_origins_mm=np.stack([instance.origin_mm for instance in series.instances]),
        provenance=_provenance(series),
    )
    return Reading(volume, series, refusals)


def _remaining(series: Series, kept: list[Instance], refusals: list[Refusal]) -> Series:
    if not kept:
        raise SeriesRefusedError(refusals)
    try:
        return series.keeping(tuple(kept))
    except Unreadable as fault:
        rest = [fault.refusal(instance.path) for instance in kept]
        raise SeriesRefusedError(refusals + rest) from fault


def read_pixels(dataset: pydicom.Dataset) -> StoredPixels:
    """Decode one slice; raises Unreadable for pixels that are missing, short or undecodable."""
    if "PixelData" not in dataset:
        raise Unreadable("no pixel data", "PixelData")
    try:
        stored = dataset.pixel_array
    except Exception as error:  # decoders raise many kinds on damaged streams
        syntax = dataset.file_meta.TransferSyntaxUID.name
        reason = " ".join(str(error).split())
        raise Unreadable(f"pixels cannot be decoded: {reason}", "PixelData", syntax) from error
    if stored.shape != (dataset.Rows, dataset.Columns):
        raise Unreadable("expected one grey frame of Rows x Columns", "PixelData", stored.shape)
    slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
    if slope == 0 or not np.isfinite([slope, intercept]).all():
        raise Unreadable("the rescale is not invertible", "RescaleSlope", slope)
    found = (declared_padding(dataset), _undeclared_padding(stored, slope, intercept))
    padding = tuple(value for value in found if value is not None)
    valid = ~np.isin(stored, padding)
    return StoredPixels(stored, valid, slope, intercept, padding)


def declared_padding(dataset: pydicom.Dataset) -> int | None:
    """PixelPaddingValue in the pixels' own sign: 63536 means -2000 in signed data.

    Its own VR often has the other sign: the value means its bits.
    """
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    value = int(value)
    limit = 1 << int(dataset.BitsAllocated)
    value %= limit
    return value - limit if dataset.PixelRepresentation == 1 and value >= limit // 2 else value


def _undeclared_padding(stored: NDArray, slope: float, intercept: float) -> int | None:
    """A corner value below any CT number: scanners fill what lies outside their circle."""
    corner = stored[0, 0]
    below = corner * slope + intercept < LOWEST_CT_HU
    corners = (stored[0, -1], stored[-1, 0], stored[-1, -1])
    return int(corner) if below and all(value == corner for value in corners) else None


def affine_lps(series: Series) -> NDArray[np.float64]:
    """(column, row, slice) to LPS mm (PS3.3 C.7.6.2.1.1); sheared for a tilted gantry.

    With uneven spacing the slice axis is the mean step; Volume.slice_origins_mm is exact.
    """
    header = series.header
    cosines = np.array([float(v) for v in header.ImageOrientationPatient])
    row_mm, column_mm = (float(v) for v in header.PixelSpacing)
    origins = [instance.origin_mm for instance in series.instances]
    if len(origins) > 1:
        step = (origins[-1] - origins[0]) / (len(origins) - 1)
    else:
        thickness_mm = float(header.get("SliceThickness") or 1.0)
        step = np.cross(cosines[:3], cosines[3:]) * thickness_mm
    affine = np.eye(4)
    affine[:3, 0] = cosines[:3] * column_mm
    affine[:3, 1] = cosines[3:] * row_mm
    affine[:3, 2] = step
    affine[:3, 3] = origins[0]
    return affine


def patient_key(series: Series, key: bytes) -> str:
    """The patient's pseudonym on this installation."""
    issuer = str(series.header.get("IssuerOfPatientID") or "")
    return pseudonym(key, "p", str(series.header.PatientID), issuer)


def series_key(series: Series, key: bytes) -> str:
    """The series' pseudonym: of all that sets it apart from other series."""
    return pseudonym(key, "s", *(str(part) for part in group_of(series.header)))


def _provenance(series: Series) -> dict:
    facts = {name: _plain(series.header.get(name)) for name in DESCRIPTIVE}
    return {
        "source": "DICOM",
        **{name: value for name, value in facts.items() if value not in (None, "")},
        "warnings": list(series.warnings),
        "evenly_spaced": series.evenly_spaced,
    }


def _plain(value: object) -> object:
    """A header's value as JSON can hold it."""
    if isinstance(value, (int, float)):
        return float(value) if math.isfinite(value) else str(value)
    if value is None or isinstance(value, str):
        return value
    return [str(part) for part in value] if hasattr(value, "__iter__") else str(value)
