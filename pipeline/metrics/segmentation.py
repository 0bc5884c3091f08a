"""How well a structure was found: overlap, distance of surfaces, volume. In mm and ml.

Each figure is of one structure in one patient. Where neither the result nor the truth holds
it, there is nothing to measure: every figure is None and counts nowhere. Where only one of them
does, overlap and surface Dice are 0, and the distance is infinite. The rim of the scan counts
as surface: an organ that is cut off there is, in both.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
FIGURES = (
    "dice",
    "iou",
    "surface_dice",
    "hd95_mm",
    "volume_ml",
    "true_volume_ml",
    "volume_error_ml",
    "volume_error_percent",
)
#: Surface Dice counts surfaces nearer than this: about the disagreement of two readers.
TOLERANCE_MM = 3.0


def structure_figures(
    found: Mask,
    truth: Mask,
    *,
    spacing_mm: tuple[float, float, float],
    tolerance_mm: float = TOLERANCE_MM,
) -> dict[str, float | None]:
    """FIGURES of one structure, [slices, rows, columns] with (slice, row, column) spacing.

    Dice 1945; Jaccard's index (iou); surface Dice at a tolerance (Nikolov et al., JMIR 2021),
    the share of both surfaces within it; hd95_mm, the larger of both directions' 95th
    percentiles of the distance from surface to surface; the found volume less the true one,
    in ml and as a percentage of the true one (None if that is empty).
    """
    sizes = int(found.sum()), int(truth.sum())
    if not any(sizes):
        return dict.fromkeys(FIGURES)
    common = int((found & truth).sum())
    surface_dice, hd95_mm = 0.0, math.inf
    if all(sizes):
        box = _box(found | truth)
        surface_dice, hd95_mm = _surfaces(found[box], truth[box], spacing_mm, tolerance_mm)
    found_ml, true_ml = (size * math.prod(spacing_mm) / 1000 for size in sizes)
    return {
        "dice": 2 * common / sum(sizes),
        "iou": common / (sum(sizes) - common),
        "surface_dice": surface_dice,
        "hd95_mm": hd95_mm,
        "volume_ml": found_ml,
        "true_volume_ml": true_ml,
        "volume_error_ml": found_ml - true_ml,
        "volume_error_percent": 100 * (found_ml / true_ml - 1) if true_ml else None,
    }


def _surfaces(
    found: Mask, truth: Mask, spacing_mm: tuple[float, float, float], tolerance_mm: float
) -> tuple[float, float]:
    # MONAI takes seconds to import
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    masks = [torch.from_numpy(mask)[None, None] for mask in (found, truth)]
    settings = {"include_background": True, "spacing": list(spacing_mm)}
    surface_dice = compute_surface_dice(*masks, class_thresholds=[tolerance_mm], **settings)
    hd95_mm = compute_hausdorff_distance(*masks, percentile=95, **settings)
    return surface_dice.item(), hd95_mm.item()


def _box(mask: Mask) -> tuple[slice, slice, slice]:
    """The smallest box that holds what is set."""
    sides = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        places = np.flatnonzero(mask.any(axis=others))
        sides.append(slice(int(places[0]), int(places[-1]) + 1))
    return sides[0], sides[1], sides[2]
