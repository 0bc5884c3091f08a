"""What a CT slice needs to be placed, valued and named; each fault by its attribute."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from pipeline.core.refusals import Unreadable
from pipeline.core.sanitise import printable_line

#: Values by keyword: a data set, or its values in a plain mapping, which is faster to look up.
Header: TypeAlias = Dataset | Mapping[str, Any]

#: Without these a slice has no place, no values or no identifier to refer to.
REQUIRED_KEYWORDS = (
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

#: The identifiers of study, series and instance: one value each.
UID_KEYWORDS = REQUIRED_KEYWORDS[:3]

#: The remedy for files without identifiers.
FOR_TRAINING = "use them for training with intake.unidentified: folder (unidentified=folder)"

#: What may say how pixels are to be read: one whole number each, where they are there.
OPTIONAL_INTEGERS = ("HighBit", "PixelPaddingValue", "PixelPaddingRangeLimit")

#: Letters of RescaleType that mean HU: PS3.3 C.11.1.1.2 has `HU`, and GE wrote `Houndsfield Unit`.
HU_SPELLINGS = re.compile("hu|hound?sfield(units?)?")
#: Defined terms of RescaleType that name another quantity.
OTHER_QUANTITIES = ("OD", "MGML", "Z_EFF", "ED", "EDW", "PCT")
#: How much of a damaged value a reason shows.
SHOWN_LENGTH = 48

#: Direction cosines are written with three digits or more: rounding alone makes up to 1.7e-3.
COSINE_TOLERANCE = 2e-3
#: No scanner reconstructs larger; a damaged header may claim anything.
MAX_MATRIX = 8192


def require_slice(header: Header, *, rescale_type: str = "refuse") -> list[str]:
    """Remarks on what is odd in the header of a slice that can be used.

    rescale_type: as IngestOptions has it. Raises Unreadable where a required attribute is missing
    or its value cannot be right.
    """
    missing = [name for name in REQUIRED_KEYWORDS if is_empty(header, name)]
    if missing:
        reason = (
            f"{', '.join(missing)} missing or empty: the slice cannot be placed, valued or named"
        )
        nameless = set(missing) <= set(UID_KEYWORDS)
        raise Unreadable(f"{reason}; {FOR_TRAINING}" if nameless else reason, missing[0])
    for name in ("PatientID", *UID_KEYWORDS):
        if not isinstance(header.get(name) or "", str):
            raise Unreadable("expected one name", name)
    _require_pixels(header)
    if (modality := header.get("Modality", "CT")) != "CT":
        raise Unreadable("a CT image by its class, but not by this", "Modality", modality)
    if "ModalityLUTSequence" in header:
        raise Unreadable("HU through a look-up table are not supported", "ModalityLUTSequence")
    rescale_of(header)
    return _require_hu(header, rescale_type)


def _require_pixels(header: Header) -> None:
    """Raises Unreadable where matrix, bits or padding are not as a CT image has them."""
    allocated = _integer(header, "BitsAllocated", 8, 16)
    for name, low, high in (
        ("Rows", 1, MAX_MATRIX),
        ("Columns", 1, MAX_MATRIX),
        ("BitsStored", 1, allocated),
        ("PixelRepresentation", 0, 1),
    ):
        _integer(header, name, low, high)
    if allocated not in (8, 16):
        raise Unreadable("expected 8 or 16", "BitsAllocated", allocated)
    for name in OPTIONAL_INTEGERS:
        if header.get(name) is not None and not isinstance(header.get(name), int):
            raise Unreadable("expected one whole number", name, shown(header.get(name)))
    if (samples := header.get("SamplesPerPixel", 1)) != 1:
        raise Unreadable("not a grey image", "SamplesPerPixel", samples)


def says_hu(header: Header) -> bool:
    """Whether RescaleType, in any spelling, says HU; absent it means HU (PS3.3 C.11.1.1.2)."""
    letters = re.sub("[^a-z]", "", str(header.get("RescaleType") or "HU").casefold())
    return bool(HU_SPELLINGS.fullmatch(letters))


def _require_hu(header: Header, choice: str) -> list[str]:
    stated = shown(header.get("RescaleType") or "HU").strip()
    if says_hu(header):
        return [] if stated == "HU" else [f"RescaleType {stated}: read as HU"]
    if stated in OTHER_QUANTITIES:
        raise Unreadable("the values are not HU (PS3.3 C.11.1.1.2)", "RescaleType", stated)
    if choice != "hu":
        reason = (
            "the values are not said to be HU (PS3.3 C.11.1.1.2); if you know that they are, "
            "take them so with --intake rescale_type=hu"
        )
        raise Unreadable(reason, "RescaleType", stated)
    return [f"RescaleType {stated}: taken as HU by choice (rescale_type=hu)"]


def is_empty(header: Header, name: str) -> bool:
    """Whether an attribute is absent, or has no value but blanks."""
    value = header.get(name)
    return value is None or (isinstance(value, (bytes, str)) and not value.strip())


def has_window(header: Header) -> bool:
    """Whether a CT Image states a window, not only a look-up table (PS3.3 C.11.2)."""
    return not any(is_empty(header, name) for name in ("WindowCenter", "WindowWidth"))


def _integer(header: Header, name: str, low: int, high: int) -> int:
    value = header.get(name)
    if not isinstance(value, int) or not low <= value <= high:
        raise Unreadable(f"expected a whole number from {low} to {high}", name, value)
    return value


def numbers(header: Header, name: str, count: int) -> NDArray[np.float64]:
    """An attribute's `count` values as finite numbers [count]; raises Unreadable for others."""
    value = header.get(name)
    parts: Any = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    wanted = f"{name} must hold {count} number{'s' if count > 1 else ''}"
    try:
        values = [float(part) for part in parts]
    except (TypeError, ValueError) as error:
        comma = any("," in str(part) for part in parts)
        remedy = ", with a point for the decimals and no comma (PS3.5 6.2, VR DS)" if comma else ""
        raise Unreadable(wanted + remedy, name, shown(value)) from error
    if len(values) != count or not all(map(math.isfinite, values)):
        raise Unreadable(wanted, name, shown(value))
    return np.array(values)


def rescale_of(header: Header) -> tuple[float, float]:
    """RescaleSlope and RescaleIntercept: HU are stored values times the one, plus the other.

    Raises Unreadable where one is no finite number.
    """
    slope, intercept = (
        float(numbers(header, name, 1)[0]) for name in ("RescaleSlope", "RescaleIntercept")
    )
    return slope, intercept


def tidy_code(code: str) -> str:
    """A code (VR CS) as PS3.5 6.2 has it: in upper case, without padding."""
    return code.strip(" \0").upper()


def shown(value: object) -> str:
    """A damaged value as a reason may quote it: printable, short, several with a backslash."""
    several = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    text = "\\".join(map(str, value)) if several else str(value)  # type: ignore[call-overload]
    return printable_line(text)[:SHOWN_LENGTH]


def optional_number(header: Header, name: str) -> float | None:
    """The number in an attribute that nothing depends on; None where there is no sound one."""
    try:
        number = float(str(header.get(name)))
    except ValueError:
        return None
    return number if np.isfinite(number) and abs(number) < 2**31 else None


def normal_of(header: Header) -> NDArray[np.float64]:
    """Unit normal of the slice [3]: row x column direction (PS3.3 C.7.6.2.1.1).

    Raises Unreadable where the directions are not orthogonal unit vectors.
    """
    cosines = numbers(header, "ImageOrientationPatient", 6)
    row, column = cosines[:3], cosines[3:]
    errors = abs(row @ row - 1), abs(column @ column - 1), abs(row @ column)
    if max(errors) > COSINE_TOLERANCE:
        raise Unreadable(
            "the row and column directions are not orthogonal unit vectors",
            "ImageOrientationPatient",
            np.round(cosines, 4).tolist(),
        )
    (r1, r2, r3), (c1, c2, c3) = row, column  # np.cross takes longer than all the rest
    normal = np.array((r2 * c3 - r3 * c2, r3 * c1 - r1 * c3, r1 * c2 - r2 * c1))
    return normal / np.linalg.norm(normal)


def position_mm(header: Header) -> float:
    """How far along its normal the slice's first pixel lies, in mm from the frame's origin.

    Raises Unreadable for geometry that cannot be right.
    """
    normal = normal_of(header)
    spacing_mm = numbers(header, "PixelSpacing", 2)
    if spacing_mm.min() <= 0:
        raise Unreadable("spacing must be positive", "PixelSpacing", spacing_mm.tolist())
    return float(numbers(header, "ImagePositionPatient", 3) @ normal)
