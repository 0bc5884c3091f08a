"""What people read of phantom figures and dose sweeps: one row a figure, for tables anywhere."""

from __future__ import annotations

from functools import reduce
from operator import getitem
from typing import Any, NamedTuple

#: Arms of phantom_figures in the order of reading.
ARMS = ("undenoised", "denoised", "full_dose")


class Row(NamedTuple):
    """One figure on all arms; None where it was not measured or cannot be."""

    group: str
    name: str
    decimals: int
    signed: bool
    values: dict[str, float | None]


def phantom_rows(figures: dict[str, Any]) -> list[Row]:
    """Noise, sharpness, HU and contrast of phantom_figures."""
    arms = {arm: figures[arm] for arm in ARMS if arm in figures}
    first = next(iter(arms.values()))
    group = ""

    def row(name: str, *path: str, decimals: int, signed: bool = False) -> Row:
        values = {arm: reduce(getitem, path, each) for arm, each in arms.items()}
        return Row(group, name, decimals, signed, values)

    group = "Noise in water"
    rows = [
        row("standard deviation, HU", "noise_power", "noise_hu", decimals=1),
        row("peak of its spectrum, 1/mm", "noise_power", "peak_frequency_per_mm", decimals=3),
        row("mean of its spectrum, 1/mm", "noise_power", "mean_frequency_per_mm", decimals=3),
        row("rim over centre", "uniformity", "noise_ratio", decimals=2),
    ]
    group = "Sharpness: where TTF is 50 %, 1/mm"
    rows += [
        row(_rod(name), "rod_transfer", name, "ttf50_per_mm", decimals=3)
        for name in first["rod_transfer"]
    ]
    rows += [
        row("edge of 100 HU", "edge_transfer", "ttf50_per_mm", decimals=3),
        row("wire", "wire_transfer", "ttf50_per_mm", decimals=3),
    ]
    group = "Bias, HU"
    rows += [
        row(_rod(name), "rod_bias", name, "bias_hu", decimals=1, signed=True)
        for name in first["rod_bias"]
    ]
    rows.append(row("water, rim to centre", "uniformity", "worst_difference_hu", decimals=1))
    group = "Contrast to noise"
    rows += [
        row(_rod(name), "contrast_to_noise", name, "cnr", decimals=2, signed=True)
        for name in first["contrast_to_noise"]
    ]
    return rows


def _rod(name: str) -> str:
    return f"rod of {name}".replace("-", "−")


def phantom_conditions(figures: dict[str, Any]) -> str:
    """What the figures hold for."""
    photons = rounded(figures["photons_per_ray_at_full_dose"])
    return (
        f"dose {figures['dose_fraction']:g} of {photons} photons per ray, {figures['kernel']}; "
        f"a water cylinder of {figures['body_diameter_mm']:g} mm, pixels of "
        f"{figures['pixel_mm']:g} mm, {figures['slices_per_phantom']} scans of each phantom"
    )


def sweep_conditions(sweep: dict[str, Any]) -> str:
    """What the curves hold for."""
    photons = rounded(sweep["photons_per_ray_at_full_dose"])
    return (
        f"{sweep['task'].capitalize()}; {sweep['observer']}; {photons} photons per ray at full "
        f"dose, {sweep['kernel']}; a water cylinder of {sweep['body_diameter_mm']:g} mm; "
        f"{sweep['regions_with_rod']} regions with each rod and {sweep['regions_without_rod']} "
        f"without; intervals of {100 * sweep['confidence']:g} %"
    )


def rounded(photons_per_ray: float) -> str:
    """To three digits, as people write it: 150,000."""
    return f"{float(f'{photons_per_ray:.3g}'):,.0f}"


#: Follows every answer that may be 'none'.
NONE_MEANS = (
    "The equivalent dose is where denoised images show a rod as well as undenoised full dose; "
    "'none': not even denoised full dose does."
)


def equivalent_doses(sweep: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(rod, answer, interval in words) of every rod, and of all rods together."""
    named = [(rod["name"], rod.get("equivalent_dose")) for rod in sweep["rods"]]
    named.append(("all rods", sweep.get("equivalent_dose_all_rods")))
    return [(name, found["answer"], found["interval_in_words"]) for name, found in named if found]
