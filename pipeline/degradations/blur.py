"""Blurs with a known kernel; beyond its rim an image goes on mirrored."""

from __future__ import annotations

import math

import numpy as np
import scipy  # scipy.signal, half a second, is loaded at its first use
from numpy.typing import NDArray

from pipeline.core.types import Picture
from pipeline.degradations.base import Linear, Operator, Shape

#: A Gaussian is cut off at so many sigmas.
CUT_SIGMAS = 4.0
#: Points along a motion, for each pixel of its length, and parts of a pixel's side in a disk.
FINE = 16


class Blur(Linear):
    """Convolution with `kernel` [odd, odd], which sums to 1."""

    def __init__(self, kernel: NDArray[np.floating]) -> None:
        self.kernel = (kernel / kernel.sum()).astype(np.float32)
        self.reach = max(kernel.shape) // 2

    def operator(self, shape: Shape, generator: np.random.Generator) -> Operator:
        """Convolution with the kernel; the rim is mirrored, of which the adjoint is exact."""
        reach = [side // 2 for side in self.kernel.shape]
        # Mirrored padding as an index, so that its transpose is adding up at the same places.
        rows, columns = (
            np.pad(np.arange(side), pad, mode="symmetric")
            for side, pad in zip(shape[-2:], reach, strict=True)
        )

        def forward(image: Picture) -> Picture:
            padded = image[..., rows[:, None], columns]
            return self._convolved(padded, self.kernel, "valid")

        def adjoint(degraded: Picture) -> Picture:
            spread = self._convolved(degraded, self.kernel[::-1, ::-1], "full")
            folded = np.zeros(shape, dtype=np.float32)
            np.add.at(folded, (..., rows[:, None], columns), spread)  # type: ignore[arg-type]
            return folded

        return Operator(forward, adjoint, shape)

    def _convolved(self, image: Picture, kernel: Picture, mode: str) -> Picture:
        shaped = kernel.reshape((1,) * (image.ndim - 2) + kernel.shape)
        return scipy.signal.oaconvolve(image, shaped, mode=mode, axes=(-2, -1)).astype(np.float32)


class GaussianBlur(Blur):
    """A Gaussian point spread of `sigma` pixels."""

    def __init__(self, sigma: float) -> None:
        if not sigma > 0:
            raise ValueError(f"sigma must be positive, got {sigma}")
        places = np.arange(-math.ceil(CUT_SIGMAS * sigma), math.ceil(CUT_SIGMAS * sigma) + 1)
        profile = np.exp(-(places**2) / (2 * sigma**2))
        super().__init__(np.outer(profile, profile))


class MotionBlur(Blur):
    """A straight, even motion of `length` pixels, `angle_degrees` from the row, anticlockwise."""

    def __init__(self, length: float, angle_degrees: float = 0.0) -> None:
        if not length >= 1:
            raise ValueError(f"length must be at least 1 pixel, got {length}")
        way = np.linspace(-(length - 1) / 2, (length - 1) / 2, max(2, round(FINE * length)))
        angle = math.radians(angle_degrees)
        reach = math.ceil((length - 1) / 2) + 1
        row, column = reach - way * math.sin(angle), reach + way * math.cos(angle)
        kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
        top, left = np.floor(row).astype(int), np.floor(column).astype(int)
        for down, share_down in ((0, 1 - (row - top)), (1, row - top)):
            for right, share_right in ((0, 1 - (column - left)), (1, column - left)):
                at = np.minimum(top + down, 2 * reach), np.minimum(left + right, 2 * reach)
                np.add.at(kernel, at, share_down * share_right)
        super().__init__(kernel)


class DefocusBlur(Blur):
    """A lens out of focus: an even disk of `radius` pixels, its rim in parts of pixels."""

    def __init__(self, radius: float) -> None:
        if not radius > 0:
            raise ValueError(f"radius must be positive, got {radius}")
        reach = math.ceil(radius)
        side = 2 * reach + 1
        fine = (np.arange(side * FINE) + 0.5) / FINE - side / 2
        inside = np.hypot(fine[:, None], fine) <= radius
        super().__init__(inside.reshape(side, FINE, side, FINE).mean(axis=(1, 3)))


class SharpKernel(Blur):
    """A sharp reconstruction kernel where the image has a soft one.

    Frequencies f, in cycles a pixel, count 1 + boost * (1 - exp(-2 (pi sigma f)^2)): the mean
    stays, edges overshoot and the noise that is there grows, as with a clinical lung or bone
    kernel. The other way round is what a conversion of kernels has to learn.
    """

    def __init__(self, boost: float = 2.0, *, sigma: float = 1.0) -> None:
        if not boost > 0:
            raise ValueError(f"boost must be positive, got {boost}")
        soft = GaussianBlur(sigma).kernel
        sharp = -boost * soft
        sharp[len(sharp) // 2, len(sharp) // 2] += 1 + boost
        super().__init__(sharp)
