"""The figures of benchmarks/generative.py as curves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

Figures = dict[str, Any]
STYLES = {"JPEG": ("#e0954a", "o-"), "JPEG 2000": ("#7a8a3a", "s-")}
#: What books of codes are drawn with.
BOOK = ("#1f5f8b", "*")
#: What lies right of this is another region than files of under a kilobyte or two.
MOST_BITS = 0.3


def rate_figure(figures: Figures) -> Figure:
    """MS-SSIM against bits a pixel, a panel for each kind of images."""
    drawn = Figure(figsize=(6.5 * len(figures), 4.2), layout="constrained")
    for number, (kind, curves) in enumerate(figures.items(), start=1):
        axes = drawn.add_subplot(1, len(figures), number)
        for name, points in curves.items():
            colour, style = STYLES.get(name, BOOK)
            rates = [point["bits_per_pixel"] for point in points]
            likeness = [point["ms_ssim"] for point in points]
            axes.plot(rates, likeness, style, color=colour, ms=9 if name not in STYLES else 4)
            if name not in STYLES:
                axes.annotate(name, (rates[0], likeness[0]), xytext=(6, -10), **_SMALL)
        for name, (colour, style) in STYLES.items():
            axes.plot([], [], style, color=colour, ms=4, label=name)
        axes.set(xlim=(0, MOST_BITS), xlabel="bits a pixel", ylabel="MS-SSIM", title=kind)
        axes.legend(loc="lower right")
        axes.grid(alpha=0.2)
    return drawn


def trade_figure(figures: Figures) -> Figure:
    """PSNR against noise texture: up and to the middle is better, and none is both."""
    drawn = Figure(figsize=(11, 4.2), layout="constrained")
    shift = drawn.add_subplot(1, 2, 1)
    strength = drawn.add_subplot(1, 2, 2)
    full = figures["undenoised phantom"]["full_dose_noise_hu"]
    for name, row in figures.items():
        if "patient" not in row:
            continue
        gained = row["patient"]["windows"]["soft_tissue"]["output"]["psnr"]
        _point(shift, 100 * row["phantom"]["mean_frequency_shift"], gained, name)
        _point(strength, row["phantom"]["noise_hu"], gained, name)
    shift.axvline(0, color="#1c2227", ls="--", lw=1)
    shift.set(xlabel="mean frequency of the noise left, % off full dose's", ylabel="PSNR, dB")
    strength.axvline(full, color="#1c2227", ls="--", lw=1)
    strength.set(xlabel="noise left in water, HU (dashed: full dose)", ylabel="PSNR, dB")
    return drawn


def _point(axes: Axes, across: float, up: float, name: str) -> None:
    colour = "#1f5f8b" if "mean square" in name else "#b5482f" if "WGAN" in name else "#7a8a3a"
    axes.plot(across, up, "o", color=colour, ms=9)
    axes.annotate(name.removeprefix("RED-CNN, "), (across, up), xytext=(6, 4), **_SMALL)
    axes.grid(alpha=0.2)
    axes.margins(0.18)


_SMALL: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8}
FIGURES: dict[str, Callable[[Figures], Figure]] = {
    "compression": rate_figure,
    "denoise": trade_figure,
}
