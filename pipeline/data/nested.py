"""Training pairs of one image at two doses, one noise within the other.

What a real scan of a lower dose would have in common with the full one is not its anatomy alone:
the noise of the full dose is part of what a denoiser is compared with. With a target of a noise of
its own, n_t, and an input of n_t and as much more as its dose lacks, a network learns what the
image would look like at k times the input's dose. The best estimate of that keeps 1 / k of the
input's noise (as in Noisier2Noise, Moran et al., CVPR 2020).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from pipeline.config.sections import Nested

#: Pixels around a patch that a random kernel may reach into, and which are then cut off.
MARGIN = 8
#: Cycles per pixel at which a random kernel has fallen to 1 / e, lowest and highest, drawn evenly
#: in the logarithm: from a soft one of thick slices to hardly any. Noise of sharp kernels reaches
#: to 0.5; a model that never saw it there leaves it.
CUTOFF_PER_PIXEL = (0.16, 2.0)
#: The same of kernels that sharpen noise.
SHARP_CUTOFF_PER_PIXEL = (0.3, 2.0)
#: By how much a random kernel may lift fine detail, as edge-enhancing kernels do, and the width of
#: the blur, in pixels, beyond which detail is fine.
MAX_BOOST, BOOST_SIGMA = 2.0, 1.0
#: Noise is not sharpened by more than this, in standard deviation, nor any frequency lifted from
#: below this share of the strongest one's amplitude: less is rounding and interpolation.
MAX_GAIN, LEAST_AMPLITUDE = 8.0, 1 / 40
#: Where noise of any kernel is as strong, and rings of frequencies, in cycles per pixel.
COARSE_PER_PIXEL, RING_PER_PIXEL = (0.03, 0.1), 1 / 32
#: HU of noise that a sharpened item's input has more than its target, at most.
MAX_ADDED_HU = 450.0
#: What a sharpened item's target has of the full dose, at least.
SHARP_TARGET_DOSE = 0.3
#: Discs: radius in pixels and contrast in HU, drawn evenly in the logarithm; rim in pixels.
LESION_RADIUS, LESION_HU, LESION_RIM = (1.5, 8.0), (5.0, 100.0), 1.0

Image = NDArray[np.float32]


@dataclass(frozen=True)
class NestedPair:
    """input and target [rows, columns] in HU; the target's dose is dose_ratio times the input's."""

    input: Image
    target: Image
    dose_ratio: float


@dataclass(frozen=True)
class NestedPairs:
    """Makes pairs of images with two noise draws each.

    draw_dose_fraction: the dose at which the draws were made; they are scaled to other doses, for
    which the noise of quanta, in variance 1 / a - 1 at a fraction a, sets the scale.
    """

    settings: Nested
    draw_dose_fraction: float

    @property
    def margin(self) -> int:
        """Pixels that an image must have around the pair that is made of it."""
        settings = self.settings
        filtered = settings.both_filtered + settings.noise_filtered + settings.noise_sharpened
        return MARGIN if filtered else 0

    def pair(
        self, image_hu: Image, draws_hu: tuple[Image, Image], generator: np.random.Generator
    ) -> NestedPair:
        """A pair of doses drawn at random.

        image_hu, draws_hu: the image, and two noisy copies of it, [rows, columns] with `margin`
        pixels around what is returned; or [slices, rows, columns], which get the same kernel and
        the same discs.
        """
        noise_hu = np.stack(draws_hu) - image_hu
        image_hu = image_hu + lesions(image_hu.shape[-2:], self.settings.lesions, generator)
        choice, kernel = generator.uniform(), random_kernel(image_hu.shape, generator)
        plain = self.settings.both_filtered + self.settings.noise_filtered
        if plain <= choice < plain + self.settings.noise_sharpened:
            return self._sharpened(image_hu, noise_hu, generator)
        image_hu, noise_hu = self._filtered(image_hu, noise_hu, choice, kernel)
        input_dose, target_dose = self._doses(generator)
        target_hu = image_hu + self._scale(1.0, target_dose) * noise_hu[0]
        input_hu = target_hu + self._scale(target_dose, input_dose) * noise_hu[1]
        return self._cut(input_hu, target_hu, target_dose / input_dose)

    def _sharpened(
        self, image_hu: Image, noise_hu: Image, generator: np.random.Generator
    ) -> NestedPair:
        """A pair whose noise is that of a sharper kernel, in its spectrum and in its level.

        The image's own noise stays as it is, so the target is given what a scan with that kernel
        has: T times the own variance, and the input k T times.
        """
        full_dose_hu = noise_hu / np.float32(math.sqrt(1 / self.draw_dose_fraction - 1))
        sharp_hu, gain = sharpened(full_dose_hu, generator)
        own_variance = float(full_dose_hu.var())
        target_variance = gain**2 / _even_in_logarithm((SHARP_TARGET_DOSE, 1.0), generator)
        target_variance = max(1.0, target_variance)
        ratio = _even_in_logarithm((1.0, self.settings.max_dose_ratio), generator)
        ratio = min(ratio, 1 + MAX_ADDED_HU**2 / max(1e-6, target_variance * own_variance))
        more, most = math.sqrt(target_variance - 1), math.sqrt(target_variance * (ratio - 1))
        target_hu = image_hu + np.float32(more / gain) * sharp_hu[0]
        input_hu = target_hu + np.float32(most / gain) * sharp_hu[1]
        return self._cut(input_hu, target_hu, ratio)

    def _cut(self, input_hu: Image, target_hu: Image, dose_ratio: float) -> NestedPair:
        """Both without the margin."""
        inside = (..., *(slice(self.margin, -self.margin or None),) * 2)
        return NestedPair(input_hu[inside], target_hu[inside], dose_ratio)

    def _doses(self, generator: np.random.Generator) -> tuple[float, float]:
        """The input's dose and the target's, even in the logarithm; every other target is of the
        highest dose, which is what is asked for most."""
        lowest, highest = self.settings.dose
        input_dose = _even_in_logarithm((lowest, highest), generator)
        target_dose = highest
        if generator.uniform() < 0.5:
            target_dose = _even_in_logarithm((input_dose, highest), generator)
        return input_dose, min(target_dose, input_dose * self.settings.max_dose_ratio)

    def _scale(self, upper_dose: float, lower_dose: float) -> np.float32:
        """What a draw is multiplied by to be what a scan at the lower dose has more of."""
        drawn = 1 / self.draw_dose_fraction - 1
        return np.float32(math.sqrt(max(0.0, 1 / lower_dose - 1 / upper_dose) / drawn))

    def _filtered(
        self, image_hu: Image, noise_hu: Image, choice: float, kernel: NDArray[np.float32]
    ) -> tuple[Image, Image]:
        """Image and noise through one kernel, or the noise alone, or neither."""
        if choice < self.settings.both_filtered:
            return through(kernel, image_hu), through(kernel, noise_hu)
        if choice < self.settings.both_filtered + self.settings.noise_filtered:
            filtered = through(kernel, noise_hu)
            # Another spectrum, the same level: how much noise a dose has is not the kernel's doing.
            return image_hu, filtered * (noise_hu.std() / max(filtered.std(), np.float32(1e-6)))
        return image_hu, noise_hu


def random_kernel(
    shape: tuple[int, ...],
    generator: np.random.Generator,
    cutoffs: tuple[float, float] = CUTOFF_PER_PIXEL,
) -> NDArray[np.float32]:
    """What a reconstruction kernel drawn at random does to each frequency of an image of `shape`:
    [rows, columns / 2 + 1] as fft.rfft2 orders them, 1 at zero, the same in all directions."""
    frequency = _frequency_per_pixel(shape)
    cutoff = _even_in_logarithm(cutoffs, generator)
    boost = generator.uniform(0, MAX_BOOST) * (generator.uniform() < 0.5)
    lifted = 1 + boost * (1 - np.exp(-2 * (math.pi * BOOST_SIGMA * frequency) ** 2))
    return (lifted * np.exp(-((frequency / cutoff) ** 3))).astype(np.float32)


def sharpened(noise_hu: Image, generator: np.random.Generator) -> tuple[Image, float]:
    """Draws of noise [..., rows, columns] as a sharper kernel would show them, and the ratio of
    their standard deviations, at most MAX_GAIN.

    The kernel that the noise went through is divided out, ring by ring of frequencies, and in its
    place comes a random one over the noise of an unfiltered backprojection, whose amplitude goes as
    the root of the frequency (Riederer, Pelc & Chesler, Phys Med Biol 1978). Coarse noise stays as
    strong as it was: no kernel changes it.
    """
    frequency = _frequency_per_pixel(noise_hu.shape)
    kernel = random_kernel(noise_hu.shape, generator, SHARP_CUTOFF_PER_PIXEL)
    wanted = np.sqrt(np.maximum(frequency, RING_PER_PIXEL / 2)) * kernel
    present = _ring_amplitude(noise_hu, frequency)
    coarse = (frequency > COARSE_PER_PIXEL[0]) & (frequency < COARSE_PER_PIXEL[1])
    wanted *= present[coarse].mean() / wanted[coarse].mean()
    sharp_hu = through((wanted / present).astype(np.float32), noise_hu)
    level, before = float(sharp_hu.std()), max(float(noise_hu.std()), 1e-6)
    gain = min(MAX_GAIN, level / before)
    return sharp_hu * np.float32(gain * before / max(level, 1e-6)), gain


def _ring_amplitude(noise_hu: Image, frequency: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean amplitude of noise [..., rows, columns] at each of `frequency`, the same in all
    directions, and nowhere less than LEAST_AMPLITUDE of the most."""
    power = np.abs(fft.rfft2(noise_hu)) ** 2
    power = power.reshape(-1, *power.shape[-2:]).mean(axis=0)
    rings = (frequency / RING_PER_PIXEL).astype(int)
    of_ring = np.bincount(rings.ravel(), power.ravel()) / np.bincount(rings.ravel())
    amplitude = np.sqrt(of_ring)
    amplitude = np.maximum(amplitude, max(LEAST_AMPLITUDE * amplitude.max(), 1e-6))
    centres = (np.arange(len(amplitude)) + 0.5) * RING_PER_PIXEL
    return np.interp(frequency, centres, amplitude)


def _frequency_per_pixel(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Of each place of fft.rfft2 of images [..., rows, columns]."""
    rows, columns = shape[-2:]
    return np.hypot(fft.fftfreq(rows)[:, None], fft.rfftfreq(columns)[None])


def through(kernel: NDArray[np.float32], images: Image) -> Image:
    """Images [..., rows, columns] with each frequency multiplied by the kernel's; the rim, to
    MARGIN pixels, wraps around."""
    spectrum = fft.rfft2(images) * kernel
    return fft.irfft2(spectrum, images.shape[-2:]).astype(np.float32)


def lesions(shape: tuple[int, ...], count: int, generator: np.random.Generator) -> Image:
    """HU to add to an image [rows, columns]: discs anywhere, brighter or darker."""
    added = np.zeros(shape, np.float32)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    for _ in range(count):
        row, column = generator.uniform(0, shape[0]), generator.uniform(0, shape[1])
        radius = _even_in_logarithm(LESION_RADIUS, generator)
        contrast_hu = _even_in_logarithm(LESION_HU, generator)
        contrast_hu *= generator.choice((-1, 1))
        beyond = np.hypot(rows - row, columns - column) - radius
        added += np.float32(contrast_hu) * np.clip(0.5 - beyond / LESION_RIM, 0, 1)
    return added.astype(np.float32)


def _even_in_logarithm(limits: tuple[float, float], generator: np.random.Generator) -> float:
    return math.exp(generator.uniform(math.log(limits[0]), math.log(limits[1])))
