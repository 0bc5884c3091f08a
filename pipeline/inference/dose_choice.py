"""How much dose a denoiser is to make up for in a series: what the user asks for, as a ratio."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.config.dose import MAX_RATIO, DoseChoice, DoseRequest
from pipeline.core.errors import LdctError
from pipeline.core.types import ImageHU
from pipeline.core.volume import Volume
from pipeline.inference.denoise import apply_model
from pipeline.models.adapters.any_dose import AnyDoseModel, at_dose_ratio
from pipeline.physics.image_noise import FlatTissue, ImageNoise, usual_noise_hu

#: Below this ratio `auto` leaves a series alone; our choice.
LEAST_RATIO = 1.15
#: The share of the noise that one level takes away; our choice.
PER_LEVEL = 0.12
#: Halvings of the range in which a ratio is looked for: to one part in two hundred.
_HALVINGS = 8

#: Denoises a slice [rows, columns] in HU at a dose ratio.
Denoise = Callable[[ImageHU, float], ImageHU]


def choose_dose(request: DoseRequest, volume: Volume, denoise: Denoise) -> DoseChoice:
    """The dose ratio for a series, of which `volume` holds some slices.

    Raises LdctError where the request needs the image's noise and too little flat tissue is
    there to measure it.
    """
    if request.by == "ratio":
        return DoseChoice(request.value, f"asked for {request.value:g} times the dose")
    tissue = FlatTissue.of(volume)
    images = [volume.image_hu[number] for number in tissue.slices]
    found = tissue.noise(images)
    if found is None:
        raise LdctError(
            "the series' noise cannot be measured, as it shows too little flat tissue: say how "
            "much dose to make up for (--dose-ratio)"
        )
    if request.by == "auto":
        return _automatic(found, volume)
    if request.by == "level":
        wanted_hu = found.noise_hu * (1 - PER_LEVEL * request.value)
        asked = f"level {request.value:g}, {PER_LEVEL * request.value:.0%} less noise"
    else:
        wanted_hu, asked = request.value, f"asked for {request.value:g} HU of noise"

    def noise_at(ratio: float) -> float:
        """What is left in the same patches."""
        left = tissue.noise([denoise(image, ratio) for image in images])
        assert left is not None
        return left.noise_hu

    return _for_noise(wanted_hu, asked, found, noise_at)


def choose_dose_of(model: AnyDoseModel, request: DoseRequest, volume: Volume) -> DoseChoice:
    """As choose_dose, with the slices that a dose-conditioned model makes."""

    def denoise(image_hu: ImageHU, dose_ratio: float) -> ImageHU:
        """One slice at one ratio."""
        return apply_model(at_dose_ratio(model, dose_ratio), image_hu[None])[0]

    return choose_dose(request, volume, denoise)


def _automatic(found: ImageNoise, volume: Volume) -> DoseChoice:
    thickness_mm = float(volume.provenance.get("SliceThickness") or volume.spacing_mm[0])
    usual_hu = usual_noise_hu(found.fineness, thickness_mm)
    ratio = min(MAX_RATIO, (found.noise_hu / usual_hu) ** 2)
    compared = (
        f"{found.noise_hu:.1f} HU of noise, where a full dose has {usual_hu:.1f} with such a "
        f"kernel and {thickness_mm:g} mm"
    )
    if ratio < LEAST_RATIO:
        return DoseChoice(1.0, f"auto: {compared}; nothing to make up for", found.noise_hu)
    return DoseChoice(round(ratio, 2), f"auto: {compared}", found.noise_hu)


def _for_noise(
    wanted_hu: float, asked: str, found: ImageNoise, noise_at: Callable[[float], float]
) -> DoseChoice:
    """The ratio that leaves the noise wanted; what goes grows with the ratio."""
    measured = f"{asked}; {found.noise_hu:.1f} HU measured"
    if found.noise_hu <= wanted_hu:
        return DoseChoice(1.0, f"{measured}: nothing to take away", found.noise_hu)
    if (least_hu := noise_at(MAX_RATIO)) > wanted_hu:
        why = f"{measured}: {MAX_RATIO:g} times the dose leaves {least_hu:.1f} HU"
        return DoseChoice(MAX_RATIO, why, found.noise_hu)
    low, high = 1.0, MAX_RATIO
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if noise_at(middle) > wanted_hu else (low, middle)
    return DoseChoice(round(high, 2), measured, found.noise_hu)
