"""Where the slices of a series lie: evenly or not, tilted, with slices missing?

Positions decide (PS3.3 C.7.6.2.1.1); tags and instance numbers only confirm, since scanners
and archives get both wrong: SpacingBetweenSlices of 0.625 mm beside a true 2.5 mm, tilt tags of
0 on tilted stacks.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import numpy as np
from numpy.typing import NDArray

from pipeline.core.refusals import count_of
from pipeline.dicom.read.alike import text_of
from pipeline.dicom.read.headers import Instance
from pipeline.dicom.read.slice_requirements import normal_of, optional_number

#: A slice may lie this far from its place on an even grid: scanners round positions.
POSITION_TOLERANCE_MM = 0.01
#: How far from a whole number of steps a gap may be, in steps.
GRID_TOLERANCE = 0.02
#: A smaller tilt comes from the rounding of direction cosines.
MIN_TILT_DEGREES = 0.1


@dataclass(frozen=True)
class SliceSpacing:
    """even: on one grid, as a 3-D volume needs. missing: why slices are certainly missing, or
    "", and missing_numbers the instance numbers that are not there."""

    even: bool
    warnings: tuple[str, ...]
    missing: str = ""
    missing_numbers: frozenset[int] = frozenset()


def spacing_of(
    instances: Sequence[Instance], numbers_elsewhere: Set[int] = frozenset()
) -> SliceSpacing:
    """Spacing, gaps and tilt of slices that are sorted along their normal, one at each place.

    numbers_elsewhere: instance numbers of the same DICOM series in other volumes, not missing.
    """
    origins = np.stack([instance.origin_mm for instance in instances])
    steps_mm = np.diff([instance.position_mm for instance in instances])
    warnings: list[str] = []
    if len(steps_mm) == 0:
        return SliceSpacing(False, ("a single slice: no spacing along the patient",))
    off_grid_mm = _off_grid_mm(origins)
    even = is_even(instances)
    decimal_mm = _last_decimal_along(origins, instances)
    per_step = _grid_steps(steps_mm, decimal_mm)
    gaps = 0 if per_step is None else int((per_step - 1).sum())
    missing = _proven_loss(instances, per_step, steps_mm)
    missing_numbers = _missing_numbers(instances) if missing else frozenset()
    if missing_numbers <= numbers_elsewhere:
        missing = ""
    if not even:
        warnings.append(
            f"uneven spacing, {steps_mm.min():.2f} to {steps_mm.max():.2f} mm, slices up to "
            f"{off_grid_mm:.2f} mm off an even grid: they are used one by one, not as a 3-D volume"
        )
    elif off_grid_mm > POSITION_TOLERANCE_MM:
        warnings.append(
            f"positions are written to {decimal_mm:.2g} mm: slices up to {off_grid_mm:.2f} mm "
            "off an even grid are taken to be on it"
        )
    suspicion = "" if missing else _suspected_loss(instances, gaps, numbers_elsewhere)
    if suspicion:
        warnings.append(suspicion)
    tilt = _tilt_degrees(origins, normal_of(instances[0].header))
    if tilt > MIN_TILT_DEGREES:
        warnings.append(f"gantry tilt of {tilt:.1f} degrees, from the positions")
    return SliceSpacing(even, tuple(warnings), missing, missing_numbers)


def is_even(instances: Sequence[Instance]) -> bool:
    """Whether the slices are on one grid, as a 3-D volume needs: to within POSITION_TOLERANCE_MM,
    or to within the last decimal that their positions are written with."""
    origins = np.stack([instance.origin_mm for instance in instances])
    if _off_grid_mm(origins) <= POSITION_TOLERANCE_MM:
        return True
    return _is_rounded_grid(origins, _last_decimals_mm(instances))


def _is_rounded_grid(origins: NDArray[np.float64], decimals_mm: NDArray[np.float64]) -> bool:
    """Whether the slices' origins [slices, 3] are those of an even grid, each coordinate rounded.

    Steps of less than two last decimals say nothing unless they are all alike: a gap would look
    the same.
    """
    units = origins / decimals_mm
    main = int(np.abs(origins[-1] - origins[0]).argmax())
    steps = np.abs(np.diff(units[:, main]))
    is_clear = steps.min() >= 2 - 1e-6 or np.ptp(steps) <= 1e-6
    return bool(is_clear and _is_rounded_line(units))


def _is_rounded_line(units: NDArray[np.float64]) -> bool:
    """Whether each column lies within a half of a line (which way ties went may differ): the
    steps that two points allow, one more or less over their distance, must meet for all pairs."""
    least, most = np.full(3, -np.inf), np.full(3, np.inf)
    for distance in range(1, len(units)):
        span = units[distance:] - units[:-distance]
        least = np.maximum(least, (span.max(axis=0) - 1) / distance)
        most = np.minimum(most, (span.min(axis=0) + 1) / distance)
    return bool((least <= most + 1e-6).all())


def _last_decimals_mm(instances: Sequence[Instance]) -> NDArray[np.float64]:
    """What the last decimal of x, y and z is worth [3], by the longest value of each.

    Beyond the sixth, decimals are those of a binary number, not of a measurement.
    """
    texts = [text_of(i.header.ImagePositionPatient).split("\\") for i in instances]
    return np.array([min(map(_last_decimal, column)) for column in zip(*texts, strict=True)])


def _last_decimal_along(origins: NDArray[np.float64], instances: Sequence[Instance]) -> float:
    """What the last decimal of the positions is worth along the line through the slices, in mm."""
    line = np.abs(origins[-1] - origins[0])
    return float(_last_decimals_mm(instances) @ (line / np.linalg.norm(line)))


def _last_decimal(text: str) -> float:
    try:
        number = Decimal(text.strip())
    except InvalidOperation:  # a way to write numbers that Decimal does not know
        return 1e-6
    if _exponent(number) < -6:
        number = round(number, 6).normalize()
    return float(10.0 ** min(_exponent(number), 0))


def _exponent(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int), "positions were found to be finite when they were read"
    return exponent


def _grid_steps(steps_mm: NDArray[np.float64], decimal_mm: float) -> NDArray[np.int64] | None:
    """Each step as a whole number of the smallest; None where they are on no common grid.

    decimal_mm: the last decimal of positions, by which steps of two and more may differ.
    """
    smallest = steps_mm.min()
    if smallest < 2 * decimal_mm:
        decimal_mm = 0.0
    step_mm = steps_mm[steps_mm <= smallest + decimal_mm * (1 + 1e-6)].mean()
    ratios = steps_mm / step_mm
    whole = np.rint(ratios)
    tolerance = GRID_TOLERANCE + decimal_mm / step_mm
    return whole.astype(np.int64) if np.abs(ratios - whole).max() <= tolerance else None


def _proven_loss(
    instances: Sequence[Instance], per_step: NDArray[np.int64] | None, steps_mm: NDArray
) -> str:
    """Positions and instance numbers that agree on missing slices; "" where they do not."""
    counted = _number_steps(instances)
    if per_step is None or counted is None:
        return ""
    unit = int(counted.min())
    gaps = np.flatnonzero(per_step > 1)
    if len(gaps) and unit > 0 and (counted[gaps] == per_step[gaps] * unit).all():
        return (
            f"{count_of(int((per_step - 1).sum()), 'slice')} missing inside: a gap of "
            f"{steps_mm[gaps[0]]:g} mm where the step is {steps_mm.min():g} mm, and the instance "
            "numbers skip as many"
        )
    if not len(gaps) and len(counted) > 1 and unit > 1 and (counted == unit).all():
        return _regular_loss(instances, unit, float(steps_mm.mean()))
    return ""


def _regular_loss(instances: Sequence[Instance], unit: int, step_mm: float) -> str:
    header = instances[0].header
    for name in ("SpacingBetweenSlices", "SliceThickness"):
        tag_mm = abs(optional_number(header, name) or 0.0)
        if tag_mm and abs(step_mm / tag_mm / unit - 1) <= GRID_TOLERANCE:
            return (
                f"only every {_ordinal(unit)} slice is there: the instance numbers go up by "
                f"{unit}, and {name} is {tag_mm:g} mm where the slices are {step_mm:g} mm apart"
            )
    return ""


def _ordinal(number: int) -> str:
    return f"{number}{ {2: 'nd', 3: 'rd'}.get(number, 'th') }"


def _suspected_loss(instances: Sequence[Instance], gaps: int, numbers_elsewhere: Set[int]) -> str:
    """A warning of slices that may be missing where that cannot be proved, or ""."""
    if gaps:
        return f"{count_of(gaps, 'slice')} may be missing inside: uneven steps on one grid"
    present = instance_numbers(instances)
    numbers = present | numbers_elsewhere
    if not present:
        return ""
    inside = sum(number not in numbers for number in range(min(present), max(present)))
    if inside:
        return f"{count_of(inside, 'slice')} may be missing: the instance numbers skip as many"
    total = int(optional_number(instances[0].header, "ImagesInAcquisition") or 0)
    if min(numbers) > 1 or total > len(numbers):
        whole = f", of {total} in the acquisition" if total else ""
        return (
            f"slices may be missing at the ends: instance numbers {min(numbers)} to "
            f"{max(numbers)}{whole}"
        )
    return ""


def _missing_numbers(instances: Sequence[Instance]) -> frozenset[int]:
    present = instance_numbers(instances)
    return frozenset(range(min(present), max(present) + 1)) - present


def instance_numbers(instances: Sequence[Instance]) -> set[int]:
    """The slices' InstanceNumbers; empty where one slice has none or no number."""
    numbers = _instance_numbers(instances)
    return set() if numbers is None else set(numbers.tolist())


def _instance_numbers(instances: Sequence[Instance]) -> NDArray[np.int64] | None:
    found = [optional_number(instance.header, "InstanceNumber") for instance in instances]
    return None if None in found else np.array(found, dtype=float).astype(np.int64)


def _number_steps(instances: Sequence[Instance]) -> NDArray[np.int64] | None:
    """Step of the instance numbers from slice to slice; None where they are not monotonic."""
    numbers = _instance_numbers(instances)
    if numbers is None or len(numbers) < 2:
        return None
    steps = np.diff(numbers)
    return np.abs(steps) if (steps > 0).all() or (steps < 0).all() else None


def _off_grid_mm(origins: NDArray[np.float64]) -> float:
    """How far, at most, a slice lies from its place between the first and the last."""
    along = np.linspace(0, 1, len(origins))[:, None]
    grid = origins[0] + along * (origins[-1] - origins[0])
    return float(np.linalg.norm(origins - grid, axis=1).max())


def _tilt_degrees(origins: NDArray[np.float64], normal: NDArray[np.float64]) -> float:
    """Angle between the line through the slices' origins and their normal."""
    line = origins[-1] - origins[0]
    cosine = abs(line @ normal) / np.linalg.norm(line)
    return float(np.degrees(np.arccos(np.clip(cosine, 0.0, 1.0))))
