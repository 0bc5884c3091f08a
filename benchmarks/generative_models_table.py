"""The table and the picture of benchmarks/generative_models.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

Rows = dict[str, list[dict[str, Any]]]
#: A figure's column: its key, and how many decimals.
COLUMNS = {
    "Frechet": ("frechet_of_classifier_features", 2),
    "precision": ("precision", 2),
    "recall": ("recall", 2),
    "MMD of pixels": ("mmd_of_pixels", 4),
    "diversity": ("relative_diversity", 2),
    "largest class": ("largest_class_share", 2),
    "confident": ("confident_share", 2),
    "copies": ("copies", 3),
    "nearer to training": ("nearer_to_training", 2),
    "iterations": ("iterations", 0),
    "CPU s to train": ("train_cpu_s", 0),
    "CPU s for the samples": ("draw_cpu_s", 1),
}
SHOWN = 20


def table(rows: Rows, *, drawn: int) -> list[str]:
    lines = [
        "scikit-learn's digits, 8 x 8: six of ten sheets (1078) to learn from; compared with two",
        f"held-back sheets (360), at equal numbers; copies among all {drawn} samples. Frechet",
        "distance of the hidden layer of a classifier trained on the six sheets (not the FID of",
        "Inception). Diversity: of MS-SSIM, as a share of the held-back digits'. Confident: the",
        "classifier gives one digit more than 0.8. Copies: nearer to a training digit than any",
        "held-back one is. Nearer to training: 0.5 where the model does not know the training",
        "digits better than their distribution. CPU seconds of one thread. Mean over seeds, and",
        "least to most, where there are several.",
        "",
    ]
    return lines + rows_of(rows)


def rows_of(rows: Rows) -> list[str]:
    """The table itself: a line for each way."""
    lines = [
        "| | seeds | " + " | ".join(COLUMNS) + " |",
        "|---|" + "---|" * (len(COLUMNS) + 1),
    ]
    for name, runs in rows.items():
        if runs:
            cells = [_cell(runs, key, decimals) for key, decimals in COLUMNS.values()]
            seeds = len(runs) if "train_cpu_s" in runs[0] else ""
            lines.append(f"| {name} | {seeds} | " + " | ".join(cells) + " |")
    return lines


def _cell(runs: list[dict[str, Any]], key: str, decimals: int) -> str:
    values = [run[key] for run in runs if run.get(key) is not None]
    if not values:
        return ""
    mean = f"{np.mean(values):.{decimals}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ({min(values):.{decimals}f} to {max(values):.{decimals}f})"


def picture(rows: dict[str, NDArray[np.float32]], path: Path, *, white: float = 16.0) -> None:
    """Samples as they were drawn, none chosen: two lines for each way, under its name."""
    figure = Figure(figsize=(10, 1.25 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axes, (name, images) in zip(panels, rows.items(), strict=True):
        framed = np.pad(images[: 2 * SHOWN], ((0, 0), (1, 1), (1, 1)), constant_values=white)
        lines = framed.reshape(2, SHOWN, *framed.shape[1:]).transpose(0, 2, 1, 3)
        axes.imshow(lines.reshape(2 * framed.shape[1], -1), cmap="gray", vmin=0, vmax=white)
        axes.set_title(name, loc="left", fontsize=9)
        axes.axis("off")
    figure.savefig(path, dpi=110)
