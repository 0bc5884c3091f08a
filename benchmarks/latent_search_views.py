"""The table and the picture of benchmarks/latent_search.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.metrics import windowed
from pipeline.units import Window

Stack = NDArray[np.float32]
SHOWN = Window(-250, 1500)
#: Images and frames that the picture shows, and how much larger.
COUNT, LARGER = 6, 2


def table(results: dict[str, Any]) -> str:
    lines = [
        "| | search | moves | CPU s | times faster | loss | RMSE in the hole HU | flicker HU |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for part in ("images", "sequence"):
        for name, row in results[part].items():
            flicker = "" if row["flicker_hu"] is None else f"{row['flicker_hu']:.1f}"
            lines.append(
                f"| {part} | {name} | {row['moves']} | {row['cpu_seconds']:.2f} | "
                f"{row['times_faster']:.1f} | {row['loss']:.4f} | {row['hole_rmse_hu']:.0f} | "
                f"{flicker} |"
            )
    return "\n".join(lines) + "\n"


def picture(
    test: Stack,
    shown: dict[str, Stack],
    moving: Stack,
    frames: dict[str, Stack],
    hole: tuple[slice, slice],
) -> Image.Image:
    """Rows: what is known, each search's image in the hole, the truth; images, then frames."""
    left = [band(test, shown, hole, 1), band(moving, frames, hole, 2)]
    height = max(len(one) for one in left)
    padded = [np.pad(one, ((0, height - len(one)), (0, 8)), constant_values=255) for one in left]
    whole = np.concatenate(padded, axis=1)
    return Image.fromarray(whole.repeat(LARGER, axis=0).repeat(LARGER, axis=1))


def band(
    truth: Stack, found: dict[str, Stack], hole: tuple[slice, slice], step: int
) -> NDArray[np.uint8]:
    holed = truth.copy()
    holed[:, hole[0], hole[1]] = SHOWN.low_hu
    rows = [holed]
    for drawn in found.values():
        filled = truth.copy()
        filled[:, hole[0], hole[1]] = drawn[:, hole[0], hole[1]]
        rows.append(filled)
    rows.append(truth)
    chosen = [np.concatenate(list(row[: COUNT * step : step]), axis=1) for row in rows]
    levels = windowed(np.concatenate(chosen), SHOWN) * (255 / SHOWN.width)
    return np.rint(levels).astype(np.uint8)
