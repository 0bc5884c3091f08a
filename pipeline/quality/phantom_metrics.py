"""Noise texture, sharpness, HU and contrast on phantoms scanned at one dose, before and after.

A phantom with a known truth shows what a patient cannot: how sharp an edge of some contrast
stays, and whether its HU stay right.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.core.json_numbers import Figure, JsonRecord
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
from pipeline.quality.hu_accuracy import ContrastToNoise, Uniformity, contrast_to_noise, uniformity
from pipeline.quality.nps import NoiseFigures, less_mean_of_repeats, noise_power
from pipeline.quality.phantom_scan import ScanConditions, Scanner, scan_each
from pipeline.quality.rois import cut_regions, tile_places_mm
from pipeline.quality.ttf import TransferFigures, edge_transfer, rod_transfer, wire_transfer

Denoiser = Callable[[NDArray[np.float32]], NDArray[np.float32]]
Stack = NDArray[np.float32]
#: Some fields of a PhantomArm.
Fields = dict[str, object]
Measure = Callable[[Stack, QualityPhantom], Fields]

#: Contrasts of the large rods, HU above water: air, fat, soft tissue, bone.
ROD_CONTRASTS_HU = (-1000.0, -100.0, 60.0, 900.0)
_ROD_RADIUS_MM = 12.5
_RING_MM = 60.0
_REACH_MM = 8.0
_NPS_PIXELS = 64


#: Water, low and high contrast, edge, wire: a denoiser sees so many times `slices` images.
PHANTOMS = 5


class RodBias(JsonRecord):
    """Mean error in HU inside a rod, in a square of region_pixels a side on every slice."""

    bias_hu: Figure
    region_pixels: int
    pixels: int


class PhantomArm(JsonRecord):
    """What the phantoms show of one kind of image; rods by their names.

    peak_shift: how far the noise spectrum's peak has moved from full dose's, as a share of it.
    """

    noise_power: NoiseFigures
    uniformity: Uniformity
    contrast_to_noise: dict[str, ContrastToNoise]
    rod_transfer: dict[str, TransferFigures]
    rod_bias: dict[str, RodBias]
    edge_transfer: TransferFigures
    wire_transfer: TransferFigures
    peak_shift: Figure = None


class PhantomFigures(ScanConditions):
    """Undenoised and denoised at dose_fraction, from the same noise, beside full dose.

    full_dose is what a denoiser should come back to; denoised: where there was a denoiser.
    """

    dose_fraction: float
    slices_per_phantom: int
    pixel_mm: float
    body_diameter_mm: float
    undenoised: PhantomArm
    full_dose: PhantomArm
    denoised: PhantomArm | None = None

    @property
    def arms(self) -> dict[str, PhantomArm]:
        """By name, in the order of reading."""
        every = (
            ("undenoised", self.undenoised),
            ("denoised", self.denoised),
            ("full_dose", self.full_dose),
        )
        return {name: arm for name, arm in every if arm is not None}


def phantom_figures(
    denoiser: Denoiser | None,
    *,
    scanner: Scanner,
    generator: np.random.Generator,
    dose_fraction: float = 0.25,
    slices: int = 16,
) -> PhantomFigures:
    """Noise, sharpness, HU and contrast on phantoms, each scanned `slices` times, 2 or more.

    denoiser: image_hu [slices, rows, columns] to the same shape.
    """
    grid = PhantomGrid()
    phantoms = _phantoms(grid)
    scans = scan_each(
        np.stack([phantom.volume.image_hu[0] for phantom, _ in phantoms]),
        pixel_mm=grid.pixel_mm,
        scanner=scanner,
        realisations=slices,
        generator=generator,
    )
    measured: dict[str, Fields] = {"undenoised": {}, "full_dose": {}}
    if denoiser is not None:
        measured["denoised"] = {}
    for (phantom, measure), images in zip(phantoms, scans, strict=True):
        low_hu = images.at_dose(dose_fraction)
        measured["undenoised"] |= measure(low_hu, phantom)
        measured["full_dose"] |= measure(images.at_dose(1.0), phantom)
        if denoiser is not None:
            measured["denoised"] |= measure(denoiser(low_hu), phantom)
    fields: Fields = {
        "dose_fraction": dose_fraction,
        "slices_per_phantom": slices,
        "pixel_mm": grid.pixel_mm,
        "body_diameter_mm": 2 * phantoms[0][0].truth.body_radius_mm,
        **scanner.conditions.to_dict(),
        **_arms(measured),
    }
    return PhantomFigures.model_validate(fields)


def _arms(measured: dict[str, Fields]) -> dict[str, PhantomArm]:
    """By name, each with its shift from full dose's peak."""
    arms = {name: PhantomArm.model_validate(fields) for name, fields in measured.items()}
    full = arms["full_dose"].noise_power.peak_frequency_per_mm
    return {
        name: arm.model_copy(
            update={"peak_shift": _shift(arm.noise_power.peak_frequency_per_mm, full)}
        )
        for name, arm in arms.items()
    }


def _shift(peak: float | None, reference: float | None) -> float | None:
    return None if peak is None or not reference else peak / reference - 1


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


def _water(image_hu: Stack, phantom: QualityPhantom) -> Fields:
    pixel_mm = phantom.grid.pixel_mm
    # 3 x 3 squares, half overlapping, about the centre, where the noise is nearly stationary.
    places = tile_places_mm(half_width_mm=25, step_mm=_NPS_PIXELS * pixel_mm / 2)
    noise_hu = less_mean_of_repeats(image_hu)
    regions = cut_regions(noise_hu, places, pixel_mm=pixel_mm, size_pixels=_NPS_PIXELS)
    return {
        "noise_power": noise_power(regions, pixel_mm=(pixel_mm, pixel_mm)).figures(),
        "uniformity": uniformity(image_hu, periphery_mm=ring_mm(4, 80.0), pixel_mm=pixel_mm),
    }


def _low_contrast(image_hu: Stack, phantom: QualityPhantom) -> Fields:
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


def _high_contrast(image_hu: Stack, phantom: QualityPhantom) -> Fields:
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
        ).figures()
        size = round(_ROD_RADIUS_MM / pixel_mm)
        inside = cut_regions(image_hu, [centre_mm], pixel_mm=pixel_mm, size_pixels=size)
        bias[name] = RodBias(
            bias_hu=float(inside.mean() - rod.contrast_hu), region_pixels=size, pixels=inside.size
        )
    return {"rod_transfer": transfers, "rod_bias": bias}


def _edge(image_hu: Stack, phantom: QualityPhantom) -> Fields:
    transfer = edge_transfer(
        image_hu,
        point_mm=(SLANTED_EDGE.x_mm, SLANTED_EDGE.y_mm),
        angle_rad=SLANTED_EDGE.angle_rad,
        pixel_mm=phantom.grid.pixel_mm,
        reach_mm=_REACH_MM,
        length_mm=100.0,
    )
    return {"edge_transfer": transfer.figures()}


def _wire(image_hu: Stack, phantom: QualityPhantom) -> Fields:
    transfer = wire_transfer(
        image_hu,
        centre_mm=(THIN_WIRE.x_mm, THIN_WIRE.y_mm),
        pixel_mm=phantom.grid.pixel_mm,
        reach_mm=_REACH_MM,
        diameter_mm=THIN_WIRE.diameter_mm,
    )
    return {"wire_transfer": transfer.figures()}
