"""At which dose does the denoised image show as much as undenoised full dose?

Low-contrast rods of a phantom are scanned at several doses, with and without the denoiser, and
a channelised Hotelling observer separates regions with a rod from regions without. The dose at
which the denoised images reach the undenoised full dose's d' is the answer, 'none' included.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator

from pipeline.core.errors import LdctError
from pipeline.core.json_numbers import JsonRecord
from pipeline.core.types import Json, Progress
from pipeline.metrics.bootstrap import bootstrap_distribution, times_drawn
from pipeline.physics.phantoms.image_quality import Rod, RodKind, rod_phantom, water_phantom
from pipeline.quality.dose_sweep import Sweep, SweepConditions, conditions
from pipeline.quality.dose_threshold import EquivalentDose, equivalent_dose, threshold_doses
from pipeline.quality.model_observer import (
    Detectability,
    bootstrap_d_prime,
    detectability,
    with_internal_noise,
)
from pipeline.quality.observer_channels import Channels, channel_outputs, laguerre_gauss
from pipeline.quality.phantom_scan import Scan, Scanner, scan_each
from pipeline.quality.rois import cut_regions

#: image_hu [slices, rows, columns], and the fraction of the full dose that it is of, to the same
#: shape.
Denoiser = Callable[[NDArray[np.float32], float], NDArray[np.float32]]
#: [doses, regions, channels] of one rod kind, by (arm, "present" or "absent").
Seen = dict[tuple[str, str], NDArray[np.float64]]

UNDENOISED, DENOISED = "undenoised", "denoised"


class DosePoint(JsonRecord):
    """What an observer sees of a rod at one dose, without and with the denoiser."""

    dose_fraction: float
    undenoised: Detectability
    denoised: Detectability | None = None


class RodCurve(JsonRecord):
    """A rod over doses; equivalent_dose: where there was a denoiser."""

    name: str
    diameter_mm: float
    contrast_hu: float
    channel_width_mm: float
    curve: list[DosePoint]
    equivalent_dose: EquivalentDose | None = None


class DoseSweep(JsonRecord):
    """Rods over doses, and the dose that serves the most demanding of them.

    JSON has the conditions beside them.
    """

    conditions: SweepConditions
    rods: list[RodCurve]
    equivalent_dose_all_rods: EquivalentDose | None = None

    @model_serializer(mode="wrap")
    def _flat(self, dump: SerializerFunctionWrapHandler) -> Json:
        found = dump(self)
        return {**found.pop("conditions"), **found}

    @model_validator(mode="before")
    @classmethod
    def _nested(cls, found: Json) -> Json:
        return found if "conditions" in found else {**found, "conditions": found}


def dose_equivalence(
    denoiser: Denoiser | None,
    *,
    scanner: Scanner,
    generator: np.random.Generator,
    sweep: Sweep | None = None,
    progress: Progress = lambda images: None,
) -> DoseSweep:
    """d' and AUC of every rod and dose, and the equivalent doses.

    denoiser: see Denoiser; None leaves the undenoised
    curve alone. progress gets the number of images done; `sweep.images` are all. Raises LdctError
    where the denoiser changes the shape, makes values that are not finite, or leaves no noise.
    """
    sweep = sweep or Sweep()
    seen, min_quanta = _channel_outputs(denoiser, scanner, generator, sweep, progress)
    replicates = _replicates(seen, sweep, generator)
    rods, thresholds = [], []
    for kind, outputs, bootstrap in zip(sweep.rods, seen, replicates, strict=True):
        rod = RodCurve(
            name=kind.name,
            diameter_mm=kind.diameter_mm,
            contrast_hu=kind.contrast_hu,
            channel_width_mm=sweep.width_per_diameter * kind.diameter_mm,
            curve=_curve(outputs, sweep),
        )
        if denoiser is not None:
            doses = _rod_thresholds(rod.curve, bootstrap, sweep)
            thresholds.append(doses)
            answer = equivalent_dose(doses, sweep.doses, sweep.confidence)
            rod = rod.model_copy(update={"equivalent_dose": answer})
        rods.append(rod)
    result = DoseSweep(conditions=conditions(sweep, scanner, min_quanta), rods=rods)
    if not thresholds:
        return result
    # The dose that serves the most demanding rod, again in each replicate.
    worst = equivalent_dose(np.max(thresholds, axis=0), sweep.doses, sweep.confidence)
    return result.model_copy(update={"equivalent_dose_all_rods": worst})


def _channel_outputs(
    denoiser: Denoiser | None,
    scanner: Scanner,
    generator: np.random.Generator,
    sweep: Sweep,
    progress: Progress,
) -> tuple[list[Seen], float]:
    """Channel outputs for each rod kind, and the fewest quanta detected in any ray."""
    arms: dict[str, Denoiser] = {UNDENOISED: lambda image_hu, dose: image_hu}
    if denoiser is not None:
        arms[DENOISED] = denoiser
    seen: list[Seen] = [{} for _ in sweep.rods]
    kinds = (None, *sweep.rods)
    scans = scan_each(
        np.stack([slice_hu(kind, sweep) for kind in kinds]),
        pixel_mm=sweep.grid.pixel_mm,
        scanner=scanner,
        realisations=sweep.slices,
        generator=generator,
    )
    for kind, images in zip(kinds, scans, strict=True):
        readers = range(len(sweep.rods)) if kind is None else [sweep.rods.index(kind)]
        outputs = _read(images, arms, [sweep.rods[reader] for reader in readers], sweep, progress)
        for index, reader in enumerate(readers):
            for arm in arms:
                name = "absent" if kind is None else "present"
                seen[reader][arm, name] = np.stack(outputs[index, arm])
    if sweep.internal_noise:
        seen = [_as_a_reader_sees(outputs, sweep, generator) for outputs in seen]
    return seen, min(images.min_quanta for images in scans)


def _read(
    images: Scan,
    arms: dict[str, Denoiser],
    kinds: list[RodKind],
    sweep: Sweep,
    progress: Progress,
) -> dict[tuple[int, str], list[NDArray[np.float64]]]:
    """Channel outputs [regions, channels] of each dose, by (index in `kinds`, arm)."""
    outputs: dict[tuple[int, str], list[NDArray[np.float64]]] = defaultdict(list)
    channels = [_channels(kind, sweep) for kind in kinds]
    for dose in sweep.doses:
        noisy_hu = images.at_dose(dose)
        for arm, denoise in arms.items():
            regions = _regions(denoise(noisy_hu, dose), noisy_hu.shape, sweep)
            for index, channel in enumerate(channels):
                outputs[index, arm].append(channel_outputs(regions, channel))
        progress(sweep.slices)
    return outputs


def _as_a_reader_sees(seen: Seen, sweep: Sweep, generator: np.random.Generator) -> Seen:
    return {
        (arm, name): with_internal_noise(
            outputs, seen[arm, "absent"], sweep.internal_noise, generator
        )
        for (arm, name), outputs in seen.items()
    }


def slice_hu(kind: RodKind | None, sweep: Sweep) -> NDArray[np.float32]:
    """One noiseless slice with a rod of `kind` at every place; None: water alone."""
    if kind is None:
        phantom = water_phantom(sweep.grid, body_radius_mm=sweep.body_radius_mm)
    else:
        rods = [Rod(x, y, kind.diameter_mm / 2, kind.contrast_hu) for x, y in sweep.places_mm]
        phantom = rod_phantom(rods, sweep.grid, body_radius_mm=sweep.body_radius_mm)
    return phantom.volume.image_hu[0]


def _channels(kind: RodKind, sweep: Sweep) -> Channels:
    return laguerre_gauss(
        count=sweep.channels,
        width_mm=sweep.width_per_diameter * kind.diameter_mm,
        size_pixels=sweep.region_pixels,
        pixel_mm=sweep.grid.pixel_mm,
    )


def _regions(
    image_hu: NDArray[np.float32], shape: tuple[int, ...], sweep: Sweep
) -> NDArray[np.float64]:
    if image_hu.shape != shape or not np.isfinite(image_hu).all():
        raise LdctError(f"the denoiser made {image_hu.shape} of {shape}, or values not finite")
    return cut_regions(
        image_hu,
        sweep.places_mm,
        pixel_mm=sweep.grid.pixel_mm,
        size_pixels=sweep.region_pixels,
    )


def _replicates(
    seen: list[Seen], sweep: Sweep, generator: np.random.Generator
) -> list[dict[str, NDArray[np.float64]]]:
    """d' of resampled regions, {arm: [replicates, doses]} for each rod kind.

    A region is drawn as a whole: at all doses, with and without the denoiser, and those without
    a rod for every kind of rod. So what they share cancels where curves are compared.
    """
    arms = _arms(seen[0])

    def of_regions(absent: NDArray[np.int64], *present: NDArray[np.int64]) -> NDArray[np.float64]:
        """[rods, arms, doses, replicates]"""
        absent_times = times_drawn(absent)
        return np.stack(
            [
                _resampled_curves(outputs, times_drawn(drawn), absent_times)
                for outputs, drawn in zip(seen, present, strict=True)
            ]
        )

    counts = [seen[0][UNDENOISED, "absent"].shape[1]]
    counts += [outputs[UNDENOISED, "present"].shape[1] for outputs in seen]
    found = bootstrap_distribution(
        of_regions, *counts, generator=generator, resamplings=sweep.bootstraps
    )
    return [{arm: of_rod[index].T for index, arm in enumerate(arms)} for of_rod in found]


def _resampled_curves(
    outputs: Seen, present_times: NDArray[np.float64], absent_times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """d' [arms, doses, replicates] of one rod kind; how often each region was drawn."""
    return np.array(
        [
            [
                bootstrap_d_prime(present, absent, present_times, absent_times)
                for present, absent in zip(
                    outputs[arm, "present"], outputs[arm, "absent"], strict=True
                )
            ]
            for arm in _arms(outputs)
        ]
    )


def _arms(outputs: Seen) -> list[str]:
    return [arm for arm in (UNDENOISED, DENOISED) if (arm, "present") in outputs]


def _curve(outputs: Seen, sweep: Sweep) -> list[DosePoint]:
    return [
        DosePoint(
            dose_fraction=dose,
            **{
                arm: detectability(
                    outputs[arm, "present"][index],
                    outputs[arm, "absent"][index],
                    confidence=sweep.confidence,
                )
                for arm in _arms(outputs)
            },
        )
        for index, dose in enumerate(sweep.doses)
    ]


def _rod_thresholds(
    curve: list[DosePoint], bootstrap: dict[str, NDArray[np.float64]], sweep: Sweep
) -> NDArray[np.float64]:
    """Equivalent doses [1 + replicates], the estimate first."""
    denoised = np.array([[point.denoised.d_prime for point in curve if point.denoised]])
    target = np.array([curve[-1].undenoised.d_prime])
    return threshold_doses(
        np.array(sweep.doses),
        np.concatenate([denoised, bootstrap[DENOISED]]),
        np.concatenate([target, bootstrap[UNDENOISED][:, -1]]),
    )
