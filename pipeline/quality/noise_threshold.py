"""How large the largest of many filtered fields of Gaussian noise gets in a slice.

By the expected Euler characteristic of the places above a threshold (Adler, The Geometry of Random
Fields, 1981; Worsley et al., Hum. Brain Mapp. 1996).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pipeline.quality.audit_templates import Spacing, Template, frequencies
from pipeline.quality.local_level import Field
from pipeline.quality.noise_whitening import both_halves

#: Slices of noise in which the largest passes.
FALSE_ALARMS = 0.01


def noise_threshold(
    searched: tuple[Template, ...], whitening: Field, spacing_mm: Spacing, mask: NDArray[np.bool_]
) -> float:
    """What the largest result of all templates, in standard deviations, passes in FALSE_ALARMS of
    slices of noise that was multiplied by `whitening` within `mask` [rows, columns]."""
    rows, columns = (f.ravel().astype(np.float32) for f in frequencies(mask.shape, spacing_mm))
    pixels = float(mask.sum())
    area_mm2 = pixels * spacing_mm[0] * spacing_mm[1]
    densities, weights = [], both_halves(whitening)
    for template in searched:
        power = template.power * weights
        of_rows, of_columns = power.sum(axis=1), power.sum(axis=0)
        by_rows, by_columns = of_rows @ rows**2, of_columns @ columns**2
        area = by_rows * by_columns - (rows @ power @ columns) ** 2
        densities.append((2 * math.pi) ** 2 * math.sqrt(area) / of_rows.sum())
    return _passed_by(FALSE_ALARMS, np.array(densities) * area_mm2, pixels)


def _passed_by(chance: float, extents: NDArray[np.float64], pixels: float) -> float:
    """Of fields that are searched together: where the chance of one that is above, or as far
    below 0, is `chance`.

    extents: each field's area in units in which the variance of its slope is 1. A field that is
    rough from pixel to pixel has no more maxima than pixels.
    """
    low, high = 2.0, 12.0
    for _ in range(40):
        middle = (low + high) / 2
        euler = extents * middle * math.exp(-(middle**2) / 2) / (2 * math.pi) ** 1.5
        expected = 2 * np.minimum(euler, pixels * special.ndtr(-middle)).sum()
        low, high = (middle, high) if expected > chance else (low, middle)
    return high
