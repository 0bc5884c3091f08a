"""What people read of phantom figures and dose sweeps: one row a figure, for tables anywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pipeline.quality.dose_equivalence import DoseSweep
from pipeline.quality.phantom_metrics import PhantomArm, PhantomFigures


class Row(NamedTuple):
    """One figure on all arms; None where it was not measured or cannot be."""

    group: str
    name: str
    decimals: int
    signed: bool
    values: dict[str, float | None]


def phantom_rows(figures: PhantomFigures) -> list[Row]:
    """Noise, sharpness, HU and contrast, in the order of reading."""
    return [
        Row(group, name, decimals, signed, {k: read(arm) for k, arm in figures.arms.items()})
        for group, name, decimals, signed, read in _readings(figures.undenoised)
    ]


#: Group, name, decimals, whether signed, and where an arm has it.
Reading = tuple[str, str, int, bool, Callable[[PhantomArm], float | None]]


def _readings(arm: PhantomArm) -> list[Reading]:
    """Every figure, of the rods that an arm has."""
    noise, sharp = "Noise in water", "Sharpness: where TTF is 50 %, 1/mm"
    bias, contrast = "Bias, HU", "Contrast to noise"
    return [
        (noise, "standard deviation, HU", 1, False, lambda a: a.noise_power.noise_hu),
        (noise, "peak of its spectrum, 1/mm", 3, False, _peak),
        (noise, "mean of its spectrum, 1/mm", 3, False, _mean),
        (noise, "rim over centre", 2, False, lambda a: a.uniformity.noise_ratio),
        *((sharp, _rod(rod), 3, False, _ttf50(rod)) for rod in arm.rod_transfer),
        (sharp, "edge of 100 HU", 3, False, lambda a: a.edge_transfer.ttf50_per_mm),
        (sharp, "wire", 3, False, lambda a: a.wire_transfer.ttf50_per_mm),
        *((bias, _rod(rod), 1, True, _bias(rod)) for rod in arm.rod_bias),
        (bias, "water, rim to centre", 1, False, lambda a: a.uniformity.worst_difference_hu),
        *((contrast, _rod(rod), 2, True, _cnr(rod)) for rod in arm.contrast_to_noise),
    ]


def _peak(arm: PhantomArm) -> float | None:
    return arm.noise_power.peak_frequency_per_mm


def _mean(arm: PhantomArm) -> float | None:
    return arm.noise_power.mean_frequency_per_mm


def _ttf50(rod: str) -> Callable[[PhantomArm], float | None]:
    return lambda arm: arm.rod_transfer[rod].ttf50_per_mm


def _bias(rod: str) -> Callable[[PhantomArm], float | None]:
    return lambda arm: arm.rod_bias[rod].bias_hu


def _cnr(rod: str) -> Callable[[PhantomArm], float | None]:
    return lambda arm: arm.contrast_to_noise[rod].cnr


def _rod(name: str) -> str:
    return f"rod of {name}".replace("-", "−")


def phantom_conditions(figures: PhantomFigures) -> str:
    """What the figures hold for."""
    photons = rounded(figures.photons_per_ray_at_full_dose)
    return (
        f"dose {figures.dose_fraction:g} of {photons} photons per ray, {figures.kernel}; "
        f"a water cylinder of {figures.body_diameter_mm:g} mm, pixels of "
        f"{figures.pixel_mm:g} mm, {figures.slices_per_phantom} scans of each phantom"
    )


def sweep_conditions(sweep: DoseSweep) -> str:
    """What the curves hold for."""
    held = sweep.conditions
    photons = rounded(held.photons_per_ray_at_full_dose)
    return (
        f"{held.task.capitalize()}; {held.observer}; {photons} photons per ray at full "
        f"dose, {held.kernel}; a water cylinder of {held.body_diameter_mm:g} mm; "
        f"{held.regions_with_rod} regions with each rod and {held.regions_without_rod} "
        f"without; intervals of {100 * held.confidence:g} %"
    )


def rounded(photons_per_ray: float) -> str:
    """To three digits, as people write it: 150,000."""
    return f"{float(f'{photons_per_ray:.3g}'):,.0f}"


#: Follows every answer that may be 'none'.
NONE_MEANS = (
    "The equivalent dose is where denoised images show a rod as well as undenoised full dose; "
    "'none': not even denoised full dose does."
)


def equivalent_doses(sweep: DoseSweep) -> list[tuple[str, str, str]]:
    """(rod, answer, interval in words) of every rod, and of all rods together."""
    named = [(rod.name, rod.equivalent_dose) for rod in sweep.rods]
    named.append(("all rods", sweep.equivalent_dose_all_rods))
    return [(name, found.answer, found.interval_in_words) for name, found in named if found]
