"""Curves for the review pages: training, HU profiles, noise spectra, sharpness, dose, bias."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.quality.summary import ARMS

#: One colour an arm on every chart, apart in lightness too.
COLOURS = {"undenoised": "#e0954a", "denoised": "#1f5f8b", "full_dose": "#1c2227"}
LABELS = {"undenoised": "low dose", "denoised": "denoised", "full_dose": "full dose"}
DASHES = {"undenoised": "-", "denoised": "-", "full_dose": (0, (4, 2))}
#: The profile lies on the film's dark ground.
FILM, FILM_INK = "#0d1014", "#95a1ac"
FILM_COLOURS = {"low dose": "#6d7a85", "full dose": "#f2f5f7", "denoised": "#4fb3ff"}

Values = NDArray[np.floating]


def training_png(curve: list[dict[str, Any]]) -> bytes:
    """Training loss (log axis) over iterations, learning rate faint on a second axis."""
    iterations = [point["iteration"] for point in curve]
    figure = _figure(13, 3.6)
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
    return _png(figure)


def parts_png(curve: list[dict[str, Any]], names: list[str]) -> bytes:
    """One panel for each named figure of the training log over iterations."""
    iterations = [point["iteration"] for point in curve]
    figure = _figure(13, 2.8)
    for number, name in enumerate(names, start=1):
        axes = figure.add_subplot(1, len(names), number)
        axes.plot(iterations, _finite(curve, name), color="#1f5f8b", lw=1.2)
        axes.set_title(name.replace("_", " "), fontsize=10)
        axes.grid(alpha=0.2)
    return _png(figure)


def profile_png(
    *, target_hu: Values, input_hu: Values, output_hu: Values, pixel_mm: float
) -> bytes:
    """HU along a line of pixels, each [pixels]: full dose, low dose and denoised."""
    figure = _figure(13, 2.6, facecolor=FILM)
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
    return _png(figure)


def noise_power_png(figures: dict[str, Any]) -> bytes:
    """Noise spectra of phantom_figures: as they are, and each over its own mean."""
    figure = _figure(13, 3.6)
    absolute, shape = figure.subplots(1, 2)
    for arm in _arms(figures):
        spectrum = figures[arm]["noise_power"]
        frequency = spectrum["frequency_per_mm"]
        power = np.array(spectrum["power_hu2_mm2"], dtype=np.float64)
        style = {"color": COLOURS[arm], "ls": DASHES[arm], "lw": 1.6, "label": LABELS[arm]}
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
    return _png(figure)


def transfer_png(figures: dict[str, Any]) -> bytes:
    """Task transfer functions of phantom_figures, a contrast each, the 50 % marked."""
    contrasts = list(figures["full_dose"]["rod_transfer"])
    figure = _figure(13, 3.4)
    each = np.atleast_1d(figure.subplots(1, len(contrasts), sharey=True))
    for axes, contrast in zip(each, contrasts, strict=True):
        for arm in _arms(figures):
            transfer = figures[arm]["rod_transfer"][contrast]
            colour = COLOURS[arm]
            axes.plot(
                transfer["frequency_per_mm"],
                np.array(transfer["transfer"], dtype=np.float64),
                color=colour,
                ls=DASHES[arm],
                lw=1.6,
                label=LABELS[arm],
            )
            if transfer["ttf50_per_mm"] is not None:
                axes.plot(transfer["ttf50_per_mm"], 0.5, "o", color=colour, ms=5)
        axes.axhline(0.5, color="#5b6670", lw=0.6, alpha=0.6)
        axes.set_title(f"rod of {contrast}".replace("-", "−"), fontsize=11)
        axes.set_xlabel("1/mm")
        axes.set_xlim(left=0)
        # Beyond, noise over little contrast is all there is to see.
        axes.set_ylim(0, 1.3)
        axes.grid(alpha=0.2)
    each[0].set_ylabel("transfer")
    each[-1].legend(frameon=False)
    return _png(figure)


def dose_png(sweep: dict[str, Any]) -> bytes:
    """d' against dose for each rod of dose_equivalence, with intervals; the dose it is worth."""
    rods = sweep["rods"]
    figure = _figure(13, 3.8)
    each = np.atleast_1d(figure.subplots(1, len(rods)))
    for axes, rod in zip(each, rods, strict=True):
        _dose_curve(axes, rod, sweep["doses"])
    each[0].set_ylabel("d′")
    each[0].legend(frameon=False, fontsize=9, loc="upper left")
    return _png(figure)


def _dose_curve(axes: Axes, rod: dict[str, Any], doses: list[float]) -> None:
    for arm in ("undenoised", "denoised"):
        seen = [point[arm] for point in rod["curve"] if arm in point]
        if not seen:
            continue
        d_prime = np.array([one["d_prime"] for one in seen])
        bounds = np.array([one["d_prime_interval"] for one in seen]).T
        # The exact interval need not hold the unbiased estimate where little is seen.
        error = np.maximum([d_prime - bounds[0], bounds[1] - d_prime], 0)
        # A little to either side, so that the bars do not hide one another.
        aside = np.array(doses) * (0.97 if arm == "undenoised" else 1.03)
        label = "undenoised" if arm == "undenoised" else "denoised"
        axes.errorbar(
            aside, d_prime, error, color=COLOURS[arm], lw=1.6, marker="o", ms=4, label=label
        )
    axes.axhline(rod["curve"][-1]["undenoised"]["d_prime"], color=COLOURS["full_dose"], ls="--")
    found = rod.get("equivalent_dose")
    title = rod["name"]
    if found:
        title += f"\nequivalent dose: {found['answer']}"
        if found["dose"] is not None:
            axes.axvline(found["dose"], color=COLOURS["denoised"], lw=1, ls=":")
    axes.set_title(title, fontsize=11)
    axes.set_xscale("log")
    axes.set_xticks(doses, [f"{dose:g}" for dose in doses])
    axes.minorticks_off()
    axes.set_xlabel("dose fraction")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.2)


def bias_png(bias: dict[str, dict[str, float | None]] | None) -> bytes | None:
    """Bias of each tissue before and after; None where no tissue was seen."""
    before, after = ((bias or {}).get(kind) or {} for kind in ("input", "output"))
    tissues = [t for t in after if before.get(t) is not None and after[t] is not None]
    if not tissues:
        return None
    figure = _figure(7.2, 0.6 + 0.42 * len(tissues))
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
    return _png(figure)


def _figure(width: float, height: float, **options: Any) -> Figure:
    return Figure(figsize=(width, height), dpi=140, layout="constrained", **options)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _arms(figures: dict[str, Any]) -> list[str]:
    return [arm for arm in ARMS if arm in figures]


def _plottable(curve: list[dict[str, Any]], key: str) -> list[float]:
    """Values that a log axis can take; NaN, a gap in the line, for the others."""
    return [value if value > 0 else math.nan for value in _finite(curve, key)]


def _finite(curve: list[dict[str, Any]], key: str) -> list[float]:
    values = [point.get(key) for point in curve]
    return [v if v is not None and math.isfinite(v) else math.nan for v in values]


def _above(front: Axes, back: Axes) -> None:
    front.set_zorder(back.get_zorder() + 1)
    front.patch.set_visible(False)
