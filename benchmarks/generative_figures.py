"""The figures of benchmarks/generative.py as curves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

Figures = dict[str, Any]
STYLES = {
    "JPEG": ("#e0954a", "o-"),
    "JPEG 2000": ("#7a8a3a", "s-"),
    "WebP": ("#8a5a9a", "^-"),
    "AVIF": ("#b5482f", "v-"),
}
#: What books of codes are drawn with.
BOOK = ("#1f5f8b", "*")
#: What a rate is drawn against.
JUDGED = {"ms_ssim": "MS-SSIM", "psnr_db": "PSNR, dB"}
#: What lies right of this is another region than files of under a kilobyte or two.
MOST_BITS = 0.3


def rate_figure(figures: Figures) -> Figure:
    """MS-SSIM and PSNR against bits a pixel, a line of panels for each kind of images."""
    drawn = Figure(figsize=(13, 4.2 * len(figures)), layout="constrained")
    for number, (kind, curves) in enumerate(figures.items()):
        for column, (key, label) in enumerate(JUDGED.items(), start=1):
            axes = drawn.add_subplot(len(figures), len(JUDGED), number * len(JUDGED) + column)
            _curves(axes, curves, key)
            axes.set(xlim=(0, MOST_BITS), xlabel="bits a pixel", ylabel=label, title=kind)
            axes.legend(loc="lower right")
            axes.grid(alpha=0.2)
    return drawn


def _curves(axes: Axes, curves: dict[str, Any], key: str) -> None:
    for name, points in curves.items():
        colour, style = STYLES.get(name, BOOK)
        within = [point for point in points if point["bits_per_pixel"] <= 1.2 * MOST_BITS]
        rates = [point["bits_per_pixel"] for point in within]
        # A file that is read stage by stage is a curve too.
        style = style if name in STYLES or len(points) == 1 else f"{style}-"
        own = {"ms": 4, "label": name} if name in STYLES else {"ms": 9}
        axes.plot(rates, [point[key] for point in within], style, color=colour, **own)
        if name not in STYLES:
            axes.annotate(name, (rates[0], within[0][key]), xytext=(6, -10), **_SMALL)


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
