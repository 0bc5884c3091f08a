"""What benchmarks/anydose.py found, as the tables of results/anydose.md."""

from __future__ import annotations

from typing import Any

import machine
import numpy as np

NAMES = {"input": "input", "bm3d": "BM3D, tuned", "swift": "swift", "anydose": "anydose"}
TISSUES = ("lung", "fat", "soft_tissue", "bone")
Row = dict[str, Any]


def markdown(found: dict[str, Any]) -> str:
    """All tables."""
    rows = found["held_out"]
    parts = [
        "# anydose@pretrained on what its training did not see",
        machine.described(found["machine"]),
        "Low dose is simulated on each series, as a fraction of its own dose; PSNR (dB) and SSIM "
        "in the window 40/400, data range its width, over whole slices, mean over the slices of a "
        "series, then over series. Sharp: by the spectrum of the noise. `anydose` is asked for "
        "the full dose again (`--dose-ratio` 20, 10, 4, 2).",
        "## By dose and kernel",
        by_dose(rows, "figures"),
        *squares(rows),
        "## Series by series, a quarter of the dose",
        by_series([row for row in rows if row["dose"] == 0.25]),
        "## Mean error in HU, worst series",
        bias(rows),
        "## A real scan of little dose, without a twin",
        noisy(found["noisy"]),
        "## The noise of a sharp kernel, predicted from the smooth series of the same scan",
        kernels(found["kernels"]),
    ]
    return "\n\n".join(parts) + "\n"


def squares(rows: list[Row]) -> list[str]:
    """Beside BM3D, if it was measured."""
    if not any("in_square" in row for row in rows):
        return []
    return [
        "## Beside BM3D, in a square of 256 pixels around the body's middle",
        by_dose([row for row in rows if "in_square" in row], "in_square"),
    ]


def by_dose(rows: list[Row], part: str) -> str:
    """Means over series, for each kernel and dose."""
    names = [name for name in NAMES if name in rows[0][part]]
    lines = [header(["kernel", "dose", "series", *(NAMES[name] for name in names)])]
    for sharp in (False, True):
        for dose in sorted({row["dose"] for row in rows}):
            of = [row for row in rows if row["dose"] == dose and row["sharp"] == sharp]
            if of:
                cells = [pair([row[part][name]["soft_tissue"] for row in of]) for name in names]
                kernel = "sharp" if sharp else "smooth"
                lines.append(line([kernel, f"{dose:.0%}", str(len(of)), *cells]))
    return "\n".join(lines)


def pair(figures: list[dict[str, float]]) -> str:
    """`PSNR / SSIM`, mean over what is given."""
    psnr, ssim = (np.mean([each[name] for each in figures]) for name in ("psnr", "ssim"))
    return f"{psnr:.2f} / {ssim:.3f}"


def by_series(rows: list[Row]) -> str:
    """A line for each series."""
    names = [name for name in NAMES if name in rows[0]["figures"]]
    lines = [header(["series", "side", "slices", *(NAMES[name] for name in names)])]
    for row in rows:
        cells = [pair([row["figures"][name]["soft_tissue"]]) for name in names]
        lines.append(line([row["label"], row["side"], str(row["slices"]), *cells]))
    return "\n".join(lines)


def bias(rows: list[Row]) -> str:
    """By dose and tissue: the mean over series, and the one farthest from 0."""
    lines = [header(["dose", *TISSUES])]
    for dose in sorted({row["dose"] for row in rows}):
        of = [row["figures"]["anydose"]["bias_hu"] for row in rows if row["dose"] == dose]
        cells = [mean_and_worst([each[tissue] for each in of]) for tissue in TISSUES]
        lines.append(line([f"{dose:.0%}", *cells]))
    return "\n".join(lines)


def mean_and_worst(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{np.mean(known):+.1f} ({max(known, key=abs):+.1f})" if known else "-"


def noisy(found: dict[str, Any]) -> str:
    """Level and mean frequency of the noise by ratio."""
    lines = [header([found["label"], "noise, HU", "mean frequency per mm"])]
    for ratio, of in found["at_ratio"].items():
        shown = "as it is" if ratio == "1" else f"dose ratio {ratio}"
        lines.append(line([shown, f"{of['noise_hu']:.1f}", f"{of['mean_frequency_per_mm']:.3f}"]))
    return "\n".join(lines)


def kernels(rows: list[Row]) -> str:
    """Predicted beside measured."""
    names = ["scan", "smooth, HU", "sharp, HU", "predicted", "fineness", "predicted"]
    lines = [header([*names, "the kernel's gain at its lowest frequency", "predicted x gain"])]
    for row in rows:
        numbers = (
            row["measured_hu"][0],
            row["measured_sharp_hu"],
            row["predicted_sharp_hu"],
            row["fineness"]["measured"],
            row["fineness"]["predicted"],
        )
        found = row["gain"]
        lifted = f"{row['predicted_sharp_hu'] * found['gain']:.2f}"
        shown = f"{found['gain']:.2f} at {found['at_per_mm']:.2f} per mm"
        lines.append(line([row["scan"], *(f"{number:.2f}" for number in numbers), shown, lifted]))
    return "\n".join(lines)


def header(names: list[str]) -> str:
    return line(names) + "\n" + "|---" * len(names) + "|"


def line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
