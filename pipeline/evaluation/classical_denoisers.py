"""Classical denoisers to measure a network against: HU in, HU out, one strength each.

A baseline that is not tuned proves nothing. `tune` finds the strength that is best on training
slices, so each gets the same favour that training gives to a network. BM3D, whose
package is not free for all uses, comes from benchmarks/ as one more Baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage
from skimage import restoration  # loaded at its first use

from pipeline.core.json_numbers import Figures, JsonRecord
from pipeline.core.types import ImageHU
from pipeline.core.units import LOWEST_CT_HU, Window
from pipeline.metrics.image import psnr_db

#: Of the bilateral filter's spatial Gaussian, and how far it looks.
BILATERAL_SIGMA_PIXELS, BILATERAL_WINDOW_PIXELS = 2.0, 9
#: Non-local means: patches compared, and how far to search for them.
NLM_PATCH_PIXELS, NLM_REACH_PIXELS = 5, 9
#: The tuning leaves the grid at most so often, by the grid's own step.
MAX_EXTENSIONS = 6


@dataclass(frozen=True)
class Baseline:
    """denoise(slice [rows, columns] in HU, strength) gives the same shape in HU.

    strengths: where tuning starts, ascending by a constant factor, in `unit`.
    """

    name: str
    unit: str
    strengths: tuple[float, ...]
    denoise: Callable[[ImageHU, float], NDArray]

    def __call__(self, image_hu: ImageHU, strength: float) -> ImageHU:
        """Denoise every slice of [slices, rows, columns]."""
        if strength <= 0:
            raise ValueError(f"{self.name}: strength must be positive, got {strength}")
        slices = (self.denoise(np.asarray(one, dtype=np.float32), strength) for one in image_hu)
        return np.stack([one.astype(np.float32) for one in slices])


class Tuning(JsonRecord):
    """The strength that a baseline was tuned to, in `unit`, and on how many slices or pictures.

    tried_psnr_db: mean PSNR at each strength that was tried.
    """

    strength: float
    unit: str
    tried_psnr_db: Figures = Field(default_factory=dict)
    slices: int | None = None
    pictures: int | None = None


@dataclass(frozen=True)
class Tuned:
    """A baseline at its best strength; tried_psnr_db holds every strength that was tried."""

    baseline: Baseline
    strength: float
    tried_psnr_db: dict[float, float]

    def __call__(self, image_hu: ImageHU) -> ImageHU:
        return self.baseline(image_hu, self.strength)

    def record(self, **counted: int) -> Tuning:
        """For the report; counted: what it was tuned on, `slices` or `pictures`."""
        tried: Figures = {f"{strength:.4g}": psnr for strength, psnr in self.tried_psnr_db.items()}
        return Tuning(
            strength=self.strength, unit=self.baseline.unit, tried_psnr_db=tried, **counted
        )


def _gaussian(image_hu: ImageHU, sigma_pixels: float) -> NDArray:
    return ndimage.gaussian_filter(image_hu, sigma_pixels, mode="nearest")


def _bilateral(image_hu: ImageHU, sigma_hu: float) -> NDArray:
    # scikit-image takes no negative values.
    offset_hu = min(LOWEST_CT_HU, float(image_hu.min()))
    filtered = restoration.denoise_bilateral(
        image_hu - offset_hu,
        win_size=BILATERAL_WINDOW_PIXELS,
        sigma_color=sigma_hu,
        sigma_spatial=BILATERAL_SIGMA_PIXELS,
        mode="edge",
    )
    return filtered + offset_hu


def _non_local_means(image_hu: ImageHU, cutoff_hu: float) -> NDArray:
    return restoration.denoise_nl_means(
        image_hu, patch_size=NLM_PATCH_PIXELS, patch_distance=NLM_REACH_PIXELS, h=cutoff_hu
    )


def _total_variation(image_hu: ImageHU, weight_hu: float) -> NDArray:
    # Its own stopping rule ends so early that more weight does not always smooth more.
    return restoration.denoise_tv_chambolle(image_hu, weight=weight_hu, eps=1e-6, max_num_iter=100)


GAUSSIAN = Baseline("gaussian", "sigma in pixels", (0.5, 0.7, 1.0, 1.4, 2.0), _gaussian)
#: Tomasi & Manduchi 1998.
BILATERAL = Baseline("bilateral", "sigma in HU", (50, 100, 200, 400), _bilateral)
#: Buades et al. 2005.
NON_LOCAL_MEANS = Baseline("non_local_means", "h in HU", (20, 40, 80, 160), _non_local_means)
#: Rudin, Osher & Fatemi 1992; Chambolle 2004.
TOTAL_VARIATION = Baseline("total_variation", "weight in HU", (20, 40, 80, 160), _total_variation)

BASELINES: dict[str, Baseline] = {
    baseline.name: baseline for baseline in (GAUSSIAN, BILATERAL, NON_LOCAL_MEANS, TOTAL_VARIATION)
}


def tune(
    baseline: Baseline,
    input_hu: Collection[ImageHU],
    target_hu: Collection[ImageHU],
    window: Window,
) -> Tuned:
    """The strength of the highest mean PSNR in `window` over slices [rows, columns] of any size.

    The grid is extended while its end is the best, then the best's two gaps are halved once.
    The slices must be others than those that are reported, or the baseline is flattered.
    """
    tried: dict[float, float] = {}

    def score(strengths: Sequence[float]) -> float:
        """Try what was not tried; the best of all so far."""
        for strength in strengths:
            if strength not in tried:
                outputs = [baseline(one[None], strength)[0] for one in input_hu]
                tried[strength] = _mean_psnr(outputs, target_hu, window)
        return max(tried, key=lambda strength: tried[strength])

    best = score(baseline.strengths)
    factor = baseline.strengths[1] / baseline.strengths[0]
    for _ in range(MAX_EXTENSIONS):
        if best not in (min(tried), max(tried)):
            break
        best = score([best * factor if best == max(tried) else best / factor])
    ordered = sorted(tried)
    place = ordered.index(best)
    around = ordered[max(place - 1, 0) : place + 2]
    halves = [float(np.sqrt(a * b)) for a, b in pairwise(around)]
    best = score(halves)
    return Tuned(baseline, best, dict(sorted(tried.items())))


def _mean_psnr(
    outputs_hu: Collection[ImageHU], targets_hu: Collection[ImageHU], window: Window
) -> float:
    pairs = zip(outputs_hu, targets_hu, strict=True)
    return float(np.mean([psnr_db(output, target, window) for output, target in pairs]))
