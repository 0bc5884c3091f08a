"""Curves for the review pages: training, HU profiles, noise spectra, sharpness, dose, bias."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.quality.dose_equivalence import DoseSweep, RodCurve
from pipeline.quality.model_observer import Detectability
from pipeline.quality.phantom_metrics import PhantomFigures
from pipeline.quality.ttf import TransferFigures

#: One colour an arm on every chart, different in lightness too.
COLOURS = {"undenoised": "#e0954a", "denoised": "#1f5f8b", "full_dose": "#1c2227"}
LABELS = {"undenoised": "low dose", "denoised": "denoised", "full_dose": "full dose"}
DASHES = {"undenoised": "-", "denoised": "-", "full_dose": (0, (4, 2))}
#: The profile lies on the film's dark ground.
FILM, FILM_INK = "#0d1014", "#95a1ac"
FILM_COLOURS = {"low dose": "#6d7a85", "full dose": "#f2f5f7", "denoised": "#4fb3ff"}

Values = NDArray[np.floating]
#: The training log: one row of named figures for each logged iteration.
Curve = Sequence[Mapping[str, float | None]]


def training_png(curve: Curve) -> bytes:
    """Training loss (log axis) over iterations, learning rate faint on a second axis."""
    iterations = _finite(curve, "iteration")
    figure = new_figure(13, 3.6)
    axes = figure.add_subplot()
    axes.set(xlabel="iteration", ylabel="loss (network units)")
    rates = axes.twinx()
    rates.plot(iterations, _plottable(curve, "learning_rate"), color="#b08968", alpha=0.6, lw=1.2)
    rates.set_ylabel("learning rate", color="#8a6a4c")
    rates.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    rates.set_ylim(bottom=0)
    loss = _finite(curve, "loss")
    # A likelihood or a critic's mean may fall below nothing; no logarithm then.
    if logarithmic := not np.nanmin([*loss, 0.0]) < 0:
        loss = _plottable(curve, "loss")
    # A single point draws no line.
    axes.plot(iterations, loss, color="#1f5f8b", lw=1.4, marker="." if len(loss) < 20 else "")
    if logarithmic and np.isfinite(loss).any():
        axes.set_yscale("log")
    axes.grid(which="both", alpha=0.2)
    _above(axes, rates)
    return png_of(figure)


def parts_png(curve: Curve, names: list[str]) -> bytes:
    """One panel for each named figure of the training log over iterations."""
    iterations = _finite(curve, "iteration")
    figure = new_figure(13, 2.8)
    for number, name in enumerate(names, start=1):
        axes = figure.add_subplot(1, len(names), number)
        axes.plot(iterations, _finite(curve, name), color="#1f5f8b", lw=1.2)
        axes.set_title(name.replace("_", " "), fontsize=10)
        axes.grid(alpha=0.2)
    return png_of(figure)


def profile_png(
    *, target_hu: Values, input_hu: Values, output_hu: Values, pixel_mm: float
) -> bytes:
    """HU along a line of pixels, each [pixels]: full dose, low dose and denoised."""
    figure = new_figure(13, 2.6, facecolor=FILM)
    axes = figure.add_subplot(facecolor=FILM)
    place_mm = np.arange(target_hu.size) * pixel_mm
    lines = {"low dose": input_hu, "full dose": target_hu, "denoised": output_hu}
    for name, values in lines.items():
        width = 0.8 if name == "low dose" else 1.4
        axes.plot(place_mm, values, color=FILM_COLOURS[name], lw=width, label=name)
    # Quanta that are missing throw single pixels far out: they must not flatten all the rest.
    shown = np.concatenate([target_hu, output_hu])
    margin = 0.25 * max(float(np.ptp(shown)), 50.0)
    axes.set_ylim(float(shown.min()) - margin, float(shown.max()) + margin)
    axes.set_xlim(0, place_mm[-1])
    axes.set_xlabel("mm from the frame's left edge", color=FILM_INK)
    axes.set_ylabel("HU", color=FILM_INK)
    axes.tick_params(colors=FILM_INK)
    axes.grid(color=FILM_INK, alpha=0.2)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.legend(ncols=3, loc="outside upper right", frameon=False, labelcolor="linecolor")
    return png_of(figure)


def noise_power_png(figures: PhantomFigures) -> bytes:
    """Noise spectra of phantoms: as they are, and each over its own mean."""
    figure = new_figure(13, 3.6)
    absolute, shape = figure.subplots(1, 2)
    for name, arm in figures.arms.items():
        frequency = arm.noise_power.frequency_per_mm
        power = np.array(arm.noise_power.power_hu2_mm2, dtype=np.float64)
        style = {"color": COLOURS[name], "ls": DASHES[name], "lw": 1.6, "label": LABELS[name]}
        absolute.plot(frequency, power, **style)
        if power.mean() > 0:
            shape.plot(frequency, power / power.mean(), **style)
    absolute.set(ylabel="noise power, HU² mm²", xlabel="spatial frequency, 1/mm")
    shape.set(ylabel="noise power over its mean", xlabel="spatial frequency, 1/mm")
    for axes in (absolute, shape):
        axes.grid(alpha=0.2)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
    absolute.legend(frameon=False)
    return png_of(figure)


def transfer_png(figures: PhantomFigures) -> bytes:
    """Task transfer functions of phantoms, a contrast each, the 50 % marked."""
    contrasts = list(figures.full_dose.rod_transfer)
    figure = new_figure(13, 3.4)
    panels = np.atleast_1d(figure.subplots(1, len(contrasts), sharey=True))
    for axes, contrast in zip(panels, contrasts, strict=True):
        for name, arm in figures.arms.items():
            _transfer_curve(axes, arm.rod_transfer[contrast], name)
        axes.axhline(0.5, color="#5b6670", lw=0.6, alpha=0.6)
        axes.set_title(f"rod of {contrast}".replace("-", "−"), fontsize=11)
        axes.set_xlabel("1/mm")
        axes.set_xlim(left=0)
        # Beyond, noise over little contrast is all there is to see.
        axes.set_ylim(0, 1.3)
        axes.grid(alpha=0.2)
    panels[0].set_ylabel("transfer")
    panels[-1].legend(frameon=False)
    return png_of(figure)


def _transfer_curve(axes: Axes, transfer: TransferFigures, arm: str) -> None:
    values = np.array(transfer.transfer, dtype=np.float64)
    frequency = np.array(transfer.frequency_per_mm, dtype=np.float64)
    colour, label = COLOURS[arm], LABELS[arm]
    axes.plot(frequency, values, color=colour, ls=DASHES[arm], lw=1.6, label=label)
    if transfer.ttf50_per_mm is not None:
        axes.plot(transfer.ttf50_per_mm, 0.5, "o", color=colour, ms=5)


def dose_png(sweep: DoseSweep) -> bytes:
    """d' against dose for each rod, with intervals, and the equivalent dose."""
    figure = new_figure(13, 3.8)
    panels = np.atleast_1d(figure.subplots(1, len(sweep.rods)))
    for axes, rod in zip(panels, sweep.rods, strict=True):
        _dose_curve(axes, rod, sweep.conditions.doses)
    panels[0].set_ylabel("d′")
    panels[0].legend(frameon=False, fontsize=9, loc="upper left")
    return png_of(figure)


def _dose_curve(axes: Axes, rod: RodCurve, doses: list[float]) -> None:
    _d_prime_bars(axes, [point.undenoised for point in rod.curve], doses, "undenoised", 0.97)
    denoised = [point.denoised for point in rod.curve if point.denoised]
    if denoised:
        _d_prime_bars(axes, denoised, doses, "denoised", 1.03)
    axes.axhline(rod.curve[-1].undenoised.d_prime, color=COLOURS["full_dose"], ls="--")
    title = rod.name
    if rod.equivalent_dose:
        title += f"\nequivalent dose: {rod.equivalent_dose.answer}"
        if rod.equivalent_dose.dose is not None:
            axes.axvline(rod.equivalent_dose.dose, color=COLOURS["denoised"], lw=1, ls=":")
    axes.set_title(title, fontsize=11)
    axes.set_xscale("log")
    axes.set_xticks(doses, [f"{dose:g}" for dose in doses])
    axes.minorticks_off()
    axes.set_xlabel("dose fraction")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.2)


def _d_prime_bars(
    axes: Axes, seen: list[Detectability], doses: list[float], arm: str, shift: float
) -> None:
    """shift: of the doses, so that the bars of two arms do not hide one another."""
    d_prime = np.array([one.d_prime for one in seen])
    low, high = np.array([one.d_prime_interval for one in seen]).T
    # The exact interval need not hold the unbiased estimate where little is seen.
    error = np.maximum([d_prime - low, high - d_prime], 0)
    places, colour = shift * np.array(doses), COLOURS[arm]
    axes.errorbar(places, d_prime, error, color=colour, lw=1.6, marker="o", ms=4, label=arm)


def bias_png(bias: dict[str, dict[str, float | None]] | None) -> bytes | None:
    """Bias of each tissue before and after; None where no tissue was seen."""
    before, after = ((bias or {}).get(kind) or {} for kind in ("input", "output"))
    tissues = [t for t in after if before.get(t) is not None and after[t] is not None]
    if not tissues:
        return None
    figure = new_figure(7.2, 0.6 + 0.42 * len(tissues))
    axes = figure.add_subplot()
    places = np.arange(len(tissues))[::-1]
    starts, ends = (np.array([side[t] for t in tissues], float) for side in (before, after))
    axes.axvline(0, color="#5b6670", lw=1)
    axes.hlines(places, starts, ends, color="#b9c2c9", lw=2)
    axes.plot(starts, places, "o", color=COLOURS["undenoised"], ms=7, label="low dose")
    axes.plot(ends, places, "o", color=COLOURS["denoised"], ms=7, label="denoised")
    axes.set_yticks(places, [tissue.replace("_", " ") for tissue in tissues])
    axes.set_ylim(-0.6, len(tissues) - 0.4)
    axes.set_xlabel("image − full dose, HU")
    axes.grid(axis="x", alpha=0.2)
    figure.legend(loc="outside right center", frameon=False)
    return png_of(figure)


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """An empty figure, width and height in inches."""
    return Figure(figsize=(width, height), dpi=140, layout="constrained", **options)


def png_of(figure: Figure) -> bytes:
    """A figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _plottable(curve: Curve, key: str) -> list[float]:
    """Values that a log axis can take; NaN, a gap in the line, for the others."""
    return [value if value > 0 else math.nan for value in _finite(curve, key)]


def _finite(curve: Curve, key: str) -> list[float]:
    values = [point.get(key) for point in curve]
    return [v if v is not None and math.isfinite(v) else math.nan for v in values]


def _above(front: Axes, back: Axes) -> None:
    front.set_zorder(back.get_zorder() + 1)
    front.patch.set_visible(False)
