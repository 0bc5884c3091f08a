"""What survives a denoiser, as people read it: a picture, and text for a model card."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from pipeline.evaluation.contrast_table import ContrastTable, KeptAt
from pipeline.physics.phantoms.image_quality import RodKind
from pipeline.quality.contrast_kept import DiscKept
from pipeline.report.charts import new_figure, png_of

#: The disc by which settings are compared, mm and HU.
SMALL = (3.0, 20.0)
PLAINLY = (
    "A network of this kind that was trained on real pairs keeps about 0.65 of a disc of 3 mm and "
    "20 HU at a quarter of the dose: what is small and faint is not safe with any of them."
)


def contrast_png(table: ContrastTable) -> bytes:
    """A map for each dose at the main setting, then the small disc by setting over the doses."""
    figure = new_figure(13, 3.6)
    panels = figure.subplots(1, len(table.doses) + 1, width_ratios=[1] * len(table.doses) + [1.4])
    for axes, dose in zip(panels, table.doses, strict=False):
        _map(axes, table.at(table.main_setting, dose))
    panels[0].set_ylabel("diameter, mm")
    _by_setting(panels[-1], table)
    return png_of(figure)


def _map(axes: Axes, row: KeptAt) -> None:
    diameters = sorted({disc.diameter_mm for disc in row.discs})
    contrasts = sorted({disc.contrast_hu for disc in row.discs})
    kept = np.full((len(diameters), len(contrasts)), np.nan)
    for disc in row.discs:
        place = diameters.index(disc.diameter_mm), contrasts.index(disc.contrast_hu)
        kept[place] = np.nan if disc.kept is None else disc.kept
    axes.imshow(kept, vmin=0, vmax=1, cmap="cividis", aspect="auto")
    for (y, x), value in np.ndenumerate(kept):
        colour = "black" if value > 0.6 else "white"
        axes.text(x, y, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(contrasts)), [f"{contrast:g}" for contrast in contrasts])
    axes.set_yticks(range(len(diameters)), [f"{diameter:g}" for diameter in diameters])
    axes.set_xlabel("contrast, HU")
    axes.set_title(f"{_percent(row.dose_fraction)} dose, {row.setting}", fontsize=10)


def _by_setting(axes: Axes, table: ContrastTable) -> None:
    for setting in table.settings:
        discs = [_small(table.at(setting, dose)) for dose in table.doses]
        kept = [np.nan if disc is None or disc.kept is None else disc.kept for disc in discs]
        width = 2.2 if setting == table.main_setting else 1.0
        axes.plot(table.doses, kept, marker="o", ms=3, lw=width, label=setting)
    axes.set_xscale("log")
    axes.set_xticks(table.doses, [_percent(dose) for dose in table.doses])
    axes.minorticks_off()
    axes.set_ylim(0, 1.1)
    axes.set_xlabel("dose")
    axes.set_title(f"kept of {RodKind(*SMALL).name}", fontsize=10)
    axes.grid(alpha=0.2)
    axes.legend(frameon=False, fontsize=7)


def _small(row: KeptAt) -> DiscKept | None:
    found = [disc for disc in row.discs if (disc.diameter_mm, disc.contrast_hu) == SMALL]
    return found[0] if found else None


def card_text(table: ContrastTable) -> str:
    """The table in Markdown, for a model card: every disc at the main setting, then what each
    setting leaves of one small disc."""
    return "\n".join([*_main_lines(table), "", *_setting_lines(table), "", *_observer_lines(table)])


def _main_lines(table: ContrastTable) -> list[str]:
    rows = [table.at(table.main_setting, dose) for dose in table.doses]
    lines = [
        f"Contrast kept of a disc in water, {table.main_setting}, in brackets the 95 % interval "
        f"(simulated, {table.scanner.photons_per_ray_at_full_dose:g} photons per ray at full dose, "
        f"{table.scanner.kernel}). Noise in HU before and after: "
        + "; ".join(
            f"{_percent(row.dose_fraction)} {_plain(row.noise_hu, 1)} → "
            f"{_plain(row.noise_left_hu, 1)}"
            for row in rows
        )
        + ".",
        "",
        *_heading("disc", table.doses),
    ]
    for discs in zip(*(row.discs for row in rows), strict=True):
        cells = " | ".join(_kept(disc) for disc in discs)
        lines.append(f"| {_name(discs[0])} | {cells} |")
    return lines


def _setting_lines(table: ContrastTable) -> list[str]:
    lines = [
        f"The same of a disc of {RodKind(*SMALL).name}, by setting. {PLAINLY}",
        "",
        *_heading("setting", table.doses),
    ]
    for setting in table.settings:
        discs = [_small(table.at(setting, dose)) for dose in table.doses]
        cells = ["–" if disc is None else _kept(disc) for disc in discs]
        lines.append(f"| {setting} | {' | '.join(cells)} |")
    return lines


def _observer_lines(table: ContrastTable) -> list[str]:
    if table.observer is None:
        return []
    lines = [
        f"d′ of a channelised Hotelling observer, undenoised → {table.main_setting}, with 95 % "
        "intervals.",
        "",
        *_heading("disc", table.observer.conditions.doses),
    ]
    for rod in table.observer.rods:
        cells = [
            " → ".join(
                f"{arm.d_prime:.1f} ({arm.d_prime_interval[0]:.1f}–{arm.d_prime_interval[1]:.1f})"
                for arm in (point.undenoised, point.denoised)
                if arm is not None
            )
            for point in rod.curve
        ]
        lines.append(f"| {rod.name} | {' | '.join(cells)} |")
    return lines


def _heading(first: str, doses: list[float]) -> list[str]:
    columns = " | ".join(f"{_percent(dose)} dose" for dose in doses)
    return [f"| {first} | {columns} |", f"|---|{'---|' * len(doses)}"]


def _name(disc: DiscKept) -> str:
    return RodKind(disc.diameter_mm, disc.contrast_hu).name


def _kept(disc: DiscKept) -> str:
    low, high = disc.interval
    between = "" if low is None else f" ({_plain(low, 2)}–{_plain(high, 2)})"
    return f"{_plain(disc.kept, 2)}{between}"


def _plain(value: float | None, decimals: int) -> str:
    return "–" if value is None else f"{value:.{decimals}f}"


def _percent(dose: float) -> str:
    return f"{100 * dose:g} %"
