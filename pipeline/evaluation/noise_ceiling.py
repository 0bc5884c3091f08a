"""How far any denoiser can come on a real pair, whose full dose is noisy itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.core.json_numbers import Figure, JsonRecord
from pipeline.core.types import ImageHU
from pipeline.core.volume import Volume
from pipeline.physics.image_noise import FlatTissue

#: For people, beside the figure.
FORMULA = (
    "ceiling = 10 log10(V(input - target) / (V(target) - C^2 / V(input))), "
    "C = (V(input) + V(target) - V(input - target)) / 2, V the noise variance in flat tissue: "
    "the error of the best linear estimate of the target from the input where the anatomy is "
    "known (Kay, Fundamentals of Statistical Signal Processing: Estimation Theory, 1993, ch. 12)"
)
#: Below this part of the target's variance an error is no longer distinguished from none: what the
#: two images differ by was rounded to whole HU.
_LEAST_PART = 1e-3


class NoiseCeiling(JsonRecord):
    """What the target's own noise allows on one pair.

    input_noise_hu, target_noise_hu: standard deviations in flat tissue, finer than 0.1 per mm.
    shared: which part of the target's noise variance is in the input as well, 1 where the low
    dose was made of the full dose's own measurement, 0 for two scans. gain_db: how much the PSNR
    can rise at most.
    """

    input_noise_hu: float
    target_noise_hu: float
    shared: float
    gain_db: Figure


def noise_ceiling(target: Volume, input_hu: ImageHU, target_hu: ImageHU) -> NoiseCeiling | None:
    """The ceiling of a pair, None without flat tissue.

    target: the volume of `target_hu`; both images [slices, rows, columns], slices matched.

    The target is t = x + n, with x the anatomy and n its noise; the input is x + m. A method that
    knew x would still not know n, but for what m says of it: the best linear estimate of n from m
    errs by V[n] - C^2 / V[m], with C the covariance of the two (Kay 1993, ch. 12, the linear
    minimum mean square error), and for Gaussian noise no other estimate errs less. The input
    itself errs by V[m - n]. Where m holds n whole, as where noise was inserted into the full dose's
    projections, this is 10 log10(V[m] / V[n]): 6 dB at a quarter of the dose. Where the
    noises are independent it is 10 log10(1 + V[m] / V[n]). It takes the spectra of m and n to be
    alike, and the ratio of their levels to be that in flat tissue everywhere.
    """
    tissue = FlatTissue.of(target)
    if not tissue.slices:
        return None
    difference_hu = [input_hu[n] - target_hu[n] for n in tissue.slices]
    of_input = _variance(tissue, [input_hu[n] for n in tissue.slices])
    of_target = _variance(tissue, [target_hu[n] for n in tissue.slices])
    of_difference = _variance(tissue, difference_hu)
    covariance = (of_input + of_target - of_difference) / 2
    covariance = min(max(covariance, 0.0), of_target, of_input)
    error = of_target - covariance**2 / of_input
    known = of_difference > _LEAST_PART * of_target and error > _LEAST_PART * of_target
    return NoiseCeiling(
        input_noise_hu=math.sqrt(of_input),
        target_noise_hu=math.sqrt(of_target),
        shared=covariance / of_target,
        gain_db=10 * math.log10(of_difference / error) if known else None,
    )


def _variance(tissue: FlatTissue, slices_hu: Sequence[ImageHU]) -> float:
    found = tissue.noise(slices_hu)
    assert found is not None  # there is flat tissue: it was asked before
    return found.noise_hu**2
