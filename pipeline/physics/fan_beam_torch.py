"""The fan beam of fan_beam.py in torch: for a GPU, and differentiable by autograd.

The same rays, filter and interpolation, so the two agree to float32's rounding. Autograd's
gradient of forward_project is its exact transpose. numpy and torch are all it needs.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import grid_sample

from pipeline.physics.fan_beam_geometry import FanBeam, filter_response, padded_length, rays


def forward_project(
    mu_per_mm: torch.Tensor, *, spacing_mm: tuple[float, float], geometry: FanBeam
) -> torch.Tensor:
    """Line integrals by Joseph's method, as fan_beam.forward_project.

    mu_per_mm: float32 [slices, rows, columns], at least 2 x 2 pixels, on any device. Returns
    [slices, views, detectors]. Slices share every ray's path: pass them in blocks of about 32.
    """
    if mu_per_mm.ndim != 3 or min(mu_per_mm.shape[1:]) < 2:
        raise ValueError(f"expected slices of at least 2 x 2, got shape {tuple(mu_per_mm.shape)}")
    shape = (mu_per_mm.shape[1], mu_per_mm.shape[2])
    paths = rays(geometry, shape=shape, spacing_mm=spacing_mm)
    first, slope, step_mm = (torch.as_tensor(each, device=mu_per_mm.device) for each in paths[1:])
    turned = mu_per_mm.transpose(1, 2)
    views = []
    for view in range(geometry.views):
        line_integrals = mu_per_mm.new_zeros(mu_per_mm.shape[0], geometry.detectors)
        for lines, chosen in ((mu_per_mm, paths.steep[view]), (turned, ~paths.steep[view])):
            if not chosen.any():
                continue
            cells = torch.as_tensor(np.flatnonzero(chosen), device=mu_per_mm.device)
            sums = _march(lines, first[view, cells], slope[view, cells])
            line_integrals = line_integrals.index_copy(1, cells, sums * step_mm[view, cells])
        views.append(line_integrals)
    return torch.stack(views, dim=1)


def _march(lines: torch.Tensor, first: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """[slices, cells]: one linear interpolation on each of `lines` [slices, lines, length]."""
    count, length = lines.shape[1:]
    number = torch.arange(count, dtype=torch.float64, device=lines.device)[:, None]
    along = (2 * (first + slope * number) / (length - 1) - 1).float()
    across = (2 * number / (count - 1) - 1).float().expand_as(along)
    grid = torch.stack((along, across), dim=-1)[None]
    sampled = grid_sample(lines[None], grid, padding_mode="zeros", align_corners=True)
    return sampled[0].sum(dim=1)


def filtered_backprojection(
    sinogram: torch.Tensor,
    *,
    shape: tuple[int, int],
    spacing_mm: tuple[float, float],
    geometry: FanBeam,
    cutoff: float = math.inf,
) -> torch.Tensor:
    """Attenuation per mm [slices, rows, columns], as fan_beam.filtered_backprojection.

    sinogram: float32 [slices, views, detectors], on any device.
    """
    filtered = _filter(sinogram, geometry, cutoff)
    x, y, inside = _positions_mm(shape, spacing_mm, geometry, sinogram.device)
    image = sinogram.new_zeros(sinogram.shape[0], x.numel())
    centre = (geometry.detectors - 1) / 2 + 1
    for view, beta in enumerate(geometry.view_angles_rad):
        depth = geometry.source_to_isocentre_mm - x * math.cos(beta) - y * math.sin(beta)
        aside = y * math.cos(beta) - x * math.sin(beta)
        position = centre - torch.atan2(aside, depth) / geometry.detector_pitch_rad
        left = position.long()
        right_part = (position - left).float()
        weight = (1 / (depth**2 + aside**2)).float()
        cells = filtered[:, view]
        image += weight * torch.lerp(cells[:, left], cells[:, left + 1], right_part)
    whole = sinogram.new_zeros(sinogram.shape[0], *shape)
    whole[:, inside] = image * (2 * math.pi / geometry.views)
    return whole


def _filter(sinogram: torch.Tensor, geometry: FanBeam, cutoff: float) -> torch.Tensor:
    """[slices, views, 1 + detectors + 2]: a zero cell at the start and two at the end."""
    length = padded_length(geometry)
    device = sinogram.device
    weight = geometry.source_to_isocentre_mm * np.cos(geometry.detector_angles_rad)
    weighted = sinogram * torch.as_tensor(weight.astype(np.float32), device=device)
    response = torch.as_tensor(filter_response(geometry, cutoff), device=device)
    rows = torch.fft.irfft(torch.fft.rfft(weighted, length) * response, length)
    return torch.nn.functional.pad(rows[..., : geometry.detectors], (1, 2))


def _positions_mm(
    shape: tuple[int, int], spacing_mm: tuple[float, float], geometry: FanBeam, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x and y of every pixel inside the field of view, float64, and which pixels these are."""
    y, x = (
        (torch.arange(count, dtype=torch.float64, device=device) - (count - 1) / 2) * mm
        for count, mm in zip(shape, spacing_mm, strict=True)
    )
    y, x = torch.meshgrid(y, x, indexing="ij")
    inside = x**2 + y**2 <= geometry.field_of_view_radius_mm**2
    return x[inside], y[inside], inside


class TorchProjector:
    """fan_beam's two functions on numpy arrays, computed on `device`."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)

    @torch.no_grad()
    def forward_project(
        self, mu_per_mm: NDArray[np.float32], *, spacing_mm: tuple[float, float], geometry: FanBeam
    ) -> NDArray[np.float32]:
        """As fan_beam.forward_project: [slices, rows, columns] to [slices, views, detectors]."""
        image = torch.as_tensor(mu_per_mm, dtype=torch.float32, device=self.device)
        return forward_project(image, spacing_mm=spacing_mm, geometry=geometry).cpu().numpy()

    @torch.no_grad()
    def filtered_backprojection(
        self,
        sinogram: NDArray[np.float32],
        *,
        shape: tuple[int, int],
        spacing_mm: tuple[float, float],
        geometry: FanBeam,
        cutoff: float = math.inf,
    ) -> NDArray[np.float32]:
        """As fan_beam.filtered_backprojection, without a graph for autograd."""
        rows = torch.as_tensor(sinogram, dtype=torch.float32, device=self.device)
        image = filtered_backprojection(
            rows, shape=shape, spacing_mm=spacing_mm, geometry=geometry, cutoff=cutoff
        )
        return image.cpu().numpy()
