"""The table and the picture of benchmarks/latent_search.py."""

from __future__ import annotations

from typing import Any

import machine
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.core.units import Window
from pipeline.metrics.image import windowed

Stack = NDArray[np.float32]
#: Images and frames that the picture shows, its width in pixels, and the grey between.
COUNT, WIDTH, GREY = 6, 960, 128


def table(results: dict[str, Any]) -> str:
    lines = [
        machine.described(results["machine"]),
        "",
        "| | search | moves | CPU s | times faster | loss | RMSE in the hole | flicker |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for part in ("images", "sequence"):
        for name, row in results[part].items():
            flicker = "" if row["flicker"] is None else f"{row['flicker']:.2f}"
            lines.append(
                f"| {part} | {name} | {row['moves']} | {row['cpu_seconds']:.2f} | "
                f"{row['times_faster']:.1f} | {row['loss']:.4f} | {row['hole_rmse']:.3g} | "
                f"{flicker} |"
            )
    return "\n".join(lines) + "\n"


def band(
    truth: Stack, found: dict[str, Stack], hole: tuple[slice, slice], shown: Window
) -> NDArray[np.uint8]:
    """Rows: what is known, each search's image in the hole, and the truth; columns: images."""
    holed = truth.copy()
    holed[:, hole[0], hole[1]] = shown.low_hu
    rows = [holed]
    for drawn in found.values():
        filled = truth.copy()
        filled[:, hole[0], hole[1]] = drawn[:, hole[0], hole[1]]
        rows.append(filled)
    rows.append(truth)
    chosen = [np.concatenate(list(row[:COUNT]), axis=1) for row in rows]
    levels = windowed(np.concatenate(chosen), shown) * (255 / shown.width)
    return np.rint(levels).astype(np.uint8)


def picture(bands: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> Image.Image:
    """Images on the left, frames on the right."""
    height = max(len(one) for one in bands)
    padded = [np.pad(b, ((0, height - len(b)), (1, 1)), constant_values=GREY) for b in bands]
    whole = np.concatenate(padded, axis=1)
    larger = max(1, WIDTH // whole.shape[1])
    return Image.fromarray(whole.repeat(larger, axis=0).repeat(larger, axis=1))
