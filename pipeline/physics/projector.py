"""Which implementation projects: numba on the CPU, torch on every other device."""

from __future__ import annotations

import math
from typing import Protocol

from pipeline.physics.fan_beam_geometry import FanBeam, FloatArray


class Projector(Protocol):
    """The two functions of pipeline.physics.fan_beam, whatever computes them."""

    def forward_project(
        self, mu_per_mm: FloatArray, *, spacing_mm: tuple[float, float], geometry: FanBeam
    ) -> FloatArray:
        """Line integrals [slices, views, detectors] of [slices, rows, columns] per mm."""

    def filtered_backprojection(
        self,
        sinogram: FloatArray,
        *,
        shape: tuple[int, int],
        spacing_mm: tuple[float, float],
        geometry: FanBeam,
        cutoff: float = math.inf,
    ) -> FloatArray:
        """Attenuation per mm [slices, *shape] of [slices, views, detectors]."""


def projector_on(device: str) -> Projector:
    """numba's for "cpu", torch's for any device that torch knows.

    Each is imported only when asked for: a machine needs only the one it uses.
    """
    if device == "cpu":
        from pipeline.physics import fan_beam

        return fan_beam
    from pipeline.physics.fan_beam_torch import TorchProjector

    return TorchProjector(device)
