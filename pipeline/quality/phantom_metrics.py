"""Noise texture, sharpness, HU and contrast on phantoms scanned at one dose, before and after.

A phantom with a known truth shows what a patient cannot: how sharp an edge of a given contrast
stays, and whether its HU stay right.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.physics.phantoms.image_quality import (
    LOW_CONTRAST_RODS,
    SLANTED_EDGE,
    THIN_WIRE,
    PhantomGrid,
    QualityPhantom,
    Rod,
    edge_phantom,
    ring_mm,
    ring_of_rods,
    rod_phantom,
    water_phantom,
    wire_phantom,
)
from pipeline.quality.hu_accuracy import contrast_to_noise, uniformity
from pipeline.quality.nps import less_mean_of_repeats, noise_power
from pipeline.quality.phantom_scan import Scanner, scan_each
from pipeline.quality.rois import cut_regions, tile_places_mm
from pipeline.quality.ttf import edge_transfer, rod_transfer, wire_transfer

Denoiser = Callable[[NDArray[np.float32]], NDArray[np.float32]]
Stack = NDArray[np.float32]
Measure = Callable[[Stack, QualityPhantom], dict[str, Any]]

#: Contrasts of the large rods, HU above water: air, fat, soft tissue, bone.
ROD_CONTRASTS_HU = (-1000.0, -100.0, 60.0, 900.0)
_ROD_RADIUS_MM = 12.5
_RING_MM = 60.0
_REACH_MM = 8.0
_NPS_PIXELS = 64


#: Water, low and high contrast, edge, wire: a denoiser is given so many times `slices` images.
PHANTOMS = 5


def phantom_figures(
    denoiser: Denoiser | None,
    *,
    scanner: Scanner,
    generator: np.random.Generator,
    dose_fraction: float = 0.25,
    slices: int = 16,
) -> dict[str, Any]:
    """Figures ready for JSON: {"undenoised": {...}, "full_dose": {...}, "denoised": {...}}.

    Each phantom is scanned `slices` times, 2 or more. undenoised and denoised at
    `dose_fraction`, from the same noise; full_dose is what a denoiser should come back to.
    Without a denoiser there is no "denoised". "peak_shift" is how far a spectrum's peak has
    moved from full dose's, as a share of it.
    """
    grid = PhantomGrid()
    arms: dict[str, dict[str, Any]] = {"undenoised": {}, "full_dose": {}}
    if denoiser is not None:
        arms["denoised"] = {}
    phantoms = _phantoms(grid)
    scans = scan_each(
        np.stack([phantom.volume.image_hu[0] for phantom, _ in phantoms]),
        pixel_mm=grid.pixel_mm,
        scanner=scanner,
        realisations=slices,
        generator=generator,
    )
    for (phantom, measure), images in zip(phantoms, scans, strict=True):
        low_hu = images.at_dose(dose_fraction)
        arms["undenoised"].update(measure(low_hu, phantom))
        arms["full_dose"].update(measure(images.at_dose(1.0), phantom))
        if denoiser is not None:
            arms["denoised"].update(measure(denoiser(low_hu), phantom))
    full_peak = arms["full_dose"]["noise_power"]["peak_frequency_per_mm"]
    for figures in arms.values():
        figures["peak_shift"] = figures["noise_power"]["peak_frequency_per_mm"] / full_peak - 1
    return {
        "dose_fraction": dose_fraction,
        "slices_per_phantom": slices,
        "pixel_mm": grid.pixel_mm,
        "body_diameter_mm": 2 * phantoms[0][0].truth.body_radius_mm,
        **scanner.conditions,
        **arms,
    }


def _phantoms(grid: PhantomGrid) -> list[tuple[QualityPhantom, Measure]]:
    """Each phantom, and what is measured on it."""
    rods = ring_of_rods(LOW_CONTRAST_RODS, radius_mm=_RING_MM)
    return [
        (water_phantom(grid), _water),
        (rod_phantom(rods, grid), _low_contrast),
        (rod_phantom(_large_rods(), grid), _high_contrast),
        (edge_phantom(SLANTED_EDGE, grid), _edge),
        (wire_phantom(THIN_WIRE, grid), _wire),
    ]


def _water(image_hu: Stack, phantom: QualityPhantom) -> dict[str, Any]:
    pixel_mm = phantom.grid.pixel_mm
    # 3 x 3 squares, half overlapping, about the centre, where the noise is nearly stationary.
    places = tile_places_mm(half_width_mm=25, step_mm=_NPS_PIXELS * pixel_mm / 2)
    noise_hu = less_mean_of_repeats(image_hu)
    regions = cut_regions(noise_hu, places, pixel_mm=pixel_mm, size_pixels=_NPS_PIXELS)
    return {
        "noise_power": noise_power(regions, pixel_mm=(pixel_mm, pixel_mm)).as_json(),
        "uniformity": uniformity(image_hu, periphery_mm=ring_mm(4, 80.0), pixel_mm=pixel_mm),
    }


def _low_contrast(image_hu: Stack, phantom: QualityPhantom) -> dict[str, Any]:
    between = ring_mm(4, _RING_MM, turn_rad=math.pi / 4)
    return {
        "contrast_to_noise": {
            kind.name: contrast_to_noise(
                image_hu,
                centre_mm=(rod.x_mm, rod.y_mm),
                radius_mm=rod.radius_mm,
                background_mm=between,
                pixel_mm=phantom.grid.pixel_mm,
            )
            for kind, rod in zip(LOW_CONTRAST_RODS, phantom.truth.rods, strict=True)
        }
    }


def _large_rods() -> list[Rod]:
    places = ring_mm(len(ROD_CONTRASTS_HU), _RING_MM)
    return [
        Rod(x, y, _ROD_RADIUS_MM, contrast)
        for (x, y), contrast in zip(places, ROD_CONTRASTS_HU, strict=True)
    ]


def _high_contrast(image_hu: Stack, phantom: QualityPhantom) -> dict[str, Any]:
    """Transfer at each rod, and how far the HU inside are from the truth."""
    pixel_mm = phantom.grid.pixel_mm
    transfers, bias = {}, {}
    for rod in phantom.truth.rods:
        centre_mm, name = (rod.x_mm, rod.y_mm), f"{rod.contrast_hu:g} HU"
        transfers[name] = rod_transfer(
            image_hu,
            centre_mm=centre_mm,
            radius_mm=rod.radius_mm,
            pixel_mm=pixel_mm,
            reach_mm=_REACH_MM,
        ).as_json()
        size = round(_ROD_RADIUS_MM / pixel_mm)
        inside = cut_regions(image_hu, [centre_mm], pixel_mm=pixel_mm, size_pixels=size)
        bias[name] = {
            "bias_hu": float(inside.mean() - rod.contrast_hu),
            "region_pixels": size,
            "pixels": inside.size,
        }
    return {"rod_transfer": transfers, "rod_bias": bias}


def _edge(image_hu: Stack, phantom: QualityPhantom) -> dict[str, Any]:
    transfer = edge_transfer(
        image_hu,
        point_mm=(SLANTED_EDGE.x_mm, SLANTED_EDGE.y_mm),
        angle_rad=SLANTED_EDGE.angle_rad,
        pixel_mm=phantom.grid.pixel_mm,
        reach_mm=_REACH_MM,
        length_mm=100.0,
    )
    return {"edge_transfer": transfer.as_json()}


def _wire(image_hu: Stack, phantom: QualityPhantom) -> dict[str, Any]:
    transfer = wire_transfer(
        image_hu,
        centre_mm=(THIN_WIRE.x_mm, THIN_WIRE.y_mm),
        pixel_mm=phantom.grid.pixel_mm,
        reach_mm=_REACH_MM,
        diameter_mm=THIN_WIRE.diameter_mm,
    )
    return {"wire_transfer": transfer.as_json()}
