"""Find the CT series in a folder tree, by their headers alone, and check them.

Pixels are read later, once (pipeline.dicom.read). A series is what may be stacked: one study,
series, orientation, matrix, pixel spacing, kernel and tube voltage (PS3.3 A.3, C.8.2.1).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, CTImageStorage, UID_dictionary

from pipeline.dicom.enhanced import single_frame
from pipeline.dicom.findings import Fate, Refusal, Unreadable
from pipeline.dicom.sources import files_below, opened, read_dataset, size_of
from pipeline.errors import NothingUsableError

#: Headers end long before this in any real file; the rest is read with the pixels.
DEFER_ABOVE_BYTES = 64 * 1024

#: Without these a slice has no place, no values or no name to refer to.
REQUIRED = (
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "RescaleSlope",
    "RescaleIntercept",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
)

#: What the stages need to know of a series besides; none of it identifies a patient.
DESCRIPTIVE = (
    "ImageType",
    "ConvolutionKernel",
    "KVP",
    "SliceThickness",
    "XRayTubeCurrent",
    "Exposure",
    "BodyPartExamined",
    "Manufacturer",
    "ManufacturerModelName",
    "PatientPosition",
    "GantryDetectorTilt",
    "LossyImageCompression",
)
OTHER = ("SOPClassUID", "Modality", "IssuerOfPatientID", "InstanceNumber", "PixelPaddingValue")

#: A slice may lie this far from its place on an even grid: scanners round positions.
POSITION_TOLERANCE_MM = 0.01
#: Direction cosines are written with five or six digits.
COSINE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Instance:
    """One slice's file, its header (no pixels) and its place along the series' normal.

    frame counts from 0 in a multi-frame file; None for a file that holds just this slice.
    """

    path: Path
    header: pydicom.Dataset
    position_mm: float
    frame: int | None = None

    def load(self) -> pydicom.Dataset:
        """The slice as a single-frame data set, with its pixels as they are stored."""
        dataset = read_dataset(self.path)
        return dataset if self.frame is None else single_frame(dataset, self.frame)

    @property
    def origin_mm(self) -> NDArray[np.float64]:
        return np.array([float(v) for v in self.header.ImagePositionPatient])


@dataclass(frozen=True)
class Series:
    """Slices of one acquisition, sorted along their normal.

    warnings say what a reader must know, without identity; `evenly_spaced` is False where the
    slices may be used one by one but not as a 3-D volume.
    """

    instances: tuple[Instance, ...]
    warnings: tuple[str, ...] = ()
    evenly_spaced: bool = True

    @property
    def header(self) -> pydicom.Dataset:
        return self.instances[0].header

    def keeping(self, instances: tuple[Instance, ...]) -> Series:
        """The same series of fewer slices, checked again."""
        return _checked(replace(self, instances=instances))


@dataclass(frozen=True)
class Discovery:
    """What a folder tree holds."""

    root: Path
    series: list[Series] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)


def find_series(root: Path, progress: Callable[[int], None] = lambda files: None) -> Discovery:
    """Every CT series below `root` (or the one file `root`), and every file refused.

    Raises NothingUsableError where `root` is not there or not readable.
    """
    if not root.exists():
        raise NothingUsableError(f"{root} does not exist")
    discovery = Discovery(root)
    groups: dict[tuple, list[Instance]] = defaultdict(list)
    for count, path in enumerate(files_below(root), start=1):
        progress(count)
        try:
            instance = _read_header(path)
        except Unreadable as fault:
            discovery.refusals.append(fault.refusal(path))
            continue
        if isinstance(instance, Refusal):
            discovery.refusals.append(instance)
        else:
            groups[group_of(instance.header)].append(instance)
    for instances in groups.values():
        _add(discovery, instances)
    return discovery


def _read_header(path: Path) -> Instance | Refusal:
    """The slice's header; a Refusal for what is no CT image; raises Unreadable for faults."""
    try:
        header = pydicom.dcmread(
            path,
            stop_before_pixels=True,
            specific_tags=[*REQUIRED, *DESCRIPTIVE, *OTHER],
            defer_size=DEFER_ABOVE_BYTES,
        )
    except InvalidDicomError:
        return _not_dicom(path)
    except Exception as error:  # pydicom raises many kinds on damaged streams
        raise Unreadable(f"damaged header ({type(error).__name__})") from error
    other = _other_object(header)
    if other:
        return Refusal(path, Fate.EXCLUDED, *other)
    missing = [name for name in REQUIRED if header.get(name) in (None, "")]
    if missing:
        raise Unreadable(
            f"{', '.join(missing)} missing or empty: the slice cannot be placed, valued or named",
            missing[0],
        )
    return Instance(path, header, _position_mm(header))


def _other_object(header: pydicom.Dataset) -> tuple[str, str, str] | None:
    """(reason, attribute, value) of an object that is whole but no CT slice, else None."""
    meta = header.file_meta.get("MediaStorageSOPClassUID", "")
    kind = UID(header.get("SOPClassUID") or meta or CTImageStorage)
    # A class that is not in the standard's list is a damaged one, not another object.
    if kind != CTImageStorage and kind in UID_dictionary:
        return f"not a CT image but {kind.name}", "SOPClassUID", str(kind)
    if "LOCALIZER" in (header.get("ImageType") or ()):
        return "a localizer", "ImageType", "LOCALIZER"
    return None


def _not_dicom(path: Path) -> Refusal:
    if path.stat().st_size == 0:
        return Refusal(path, Fate.QUARANTINED, "an empty file")
    if path.suffix.lower() in (".dcm", ".ima", ".dicom"):
        return Refusal(path, Fate.QUARANTINED, "not DICOM, though its name says so")
    return Refusal(path, Fate.EXCLUDED, "not a DICOM file")


def normal_of(header: pydicom.Dataset) -> NDArray[np.float64]:
    """Unit normal of the slice (PS3.3 C.7.6.2.1.1)."""
    cosines = np.array([float(v) for v in header.ImageOrientationPatient])
    row, column = cosines[:3], cosines[3:]
    products = np.array([row @ row, column @ column, row @ column])
    if np.abs(products - [1, 1, 0]).max() > COSINE_TOLERANCE:
        raise Unreadable(
            "the row and column directions are not orthogonal unit vectors",
            "ImageOrientationPatient",
            np.round(cosines, 4).tolist(),
        )
    normal = np.cross(row, column)
    return normal / np.linalg.norm(normal)


def _position_mm(header: pydicom.Dataset) -> float:
    for name, count in (
        ("ImageOrientationPatient", 6),
        ("ImagePositionPatient", 3),
        ("PixelSpacing", 2),
    ):
        try:
            values = np.array(header.get(name), dtype=float)
        except (TypeError, ValueError) as error:
            raise Unreadable(f"{name} must hold {count} numbers", name) from error
        if values.shape != (count,) or not np.isfinite(values).all():
            raise Unreadable(f"{name} must hold {count} numbers", name, header.get(name))
    if min(float(v) for v in header.PixelSpacing) <= 0:
        raise Unreadable("spacing must be positive", "PixelSpacing", header.PixelSpacing)
    return float(np.array([float(v) for v in header.ImagePositionPatient]) @ normal_of(header))


def group_of(header: pydicom.Dataset) -> tuple:
    """What slices must have in common to be stacked."""
    return (
        header.StudyInstanceUID,
        header.SeriesInstanceUID,
        header.PatientID,
        tuple(round(float(v), 3) + 0.0 for v in header.ImageOrientationPatient),
        (header.Rows, header.Columns),
        tuple(round(float(v), 4) for v in header.PixelSpacing),
        str(header.get("ConvolutionKernel", "")),
        str(header.get("KVP", "")),
    )


def _add(discovery: Discovery, instances: list[Instance]) -> None:
    """Check a group and take it as a series, or refuse all its files."""
    ordered = sorted(instances, key=lambda i: (i.position_mm, str(i.header.SOPInstanceUID)))
    try:
        discovery.series.append(_checked(Series(tuple(ordered))))
    except Unreadable as fault:
        discovery.refusals.extend(fault.refusal(instance.path) for instance in ordered)


def _checked(series: Series) -> Series:
    positions = np.array([instance.position_mm for instance in series.instances])
    steps = np.diff(positions)
    shared = int((steps < POSITION_TOLERANCE_MM).sum())
    if shared:
        raise Unreadable(
            f"{shared} slices of the series share a position: several acquisitions or copies "
            "in one series; separate them first",
            "ImagePositionPatient",
        )
    warnings = []
    off_grid_mm = _off_grid_mm(series)
    even = len(steps) > 0 and off_grid_mm <= POSITION_TOLERANCE_MM
    if len(steps) == 0:
        warnings.append("a single slice: no spacing along the patient")
    elif not even:
        warnings.append(
            f"uneven spacing, {steps.min():.2f} to {steps.max():.2f} mm, slices up to "
            f"{off_grid_mm:.2f} mm off an even grid: they are used one by one, not as a 3-D volume"
        )
    tilt = _tilt_degrees(series)
    if tilt > 0.1:
        warnings.append(f"gantry tilt of {tilt:.1f} degrees, from the positions")
    if "DERIVED" in (series.header.get("ImageType") or ()):
        warnings.append("the source is itself a derived series (ImageType DERIVED)")
    if any(i.header.get("LossyImageCompression") == "01" for i in series.instances):
        warnings.append("the source was compressed with loss")
    return replace(series, warnings=tuple(warnings), evenly_spaced=even)


def _off_grid_mm(series: Series) -> float:
    """How far, at most, a slice lies from its place between the first and the last."""
    origins = np.stack([instance.origin_mm for instance in series.instances])
    along = np.linspace(0, 1, len(origins))[:, None]
    grid = origins[0] + along * (origins[-1] - origins[0])
    return float(np.linalg.norm(origins - grid, axis=1).max())


def _tilt_degrees(series: Series) -> float:
    """Angle between the way the slices march and their normal."""
    if len(series.instances) < 2:
        return 0.0
    way = series.instances[-1].origin_mm - series.instances[0].origin_mm
    cosine = abs(way @ normal_of(series.header)) / np.linalg.norm(way)
    return float(np.degrees(np.arccos(np.clip(cosine, 0.0, 1.0))))
