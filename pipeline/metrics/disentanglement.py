"""Whether each factor that images vary in has a latent of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import LdctError

#: Into so many equal parts of the images the values of a latent are cut.
BINS = 20


def mutual_information_gap(
    codes: NDArray[np.floating], factors: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Of each factor: how much more its best latent says of it than the second best, 0 to 1.

    Chen et al., NeurIPS 2018, as a share of the factor's entropy. codes: [images, latents], the
    means of posteriors; factors: [images, factors], whole numbers from 0. 1 is a factor that one
    latent alone determines; 0 is one that two latents share, or that none has.
    Raises LdctError for other shapes, fewer than two latents, or a factor that does not vary.
    """
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors) or codes.shape[1] < 2:
        raise LdctError(
            f"expected codes [images, 2 or more] and factors of as many images, got "
            f"{codes.shape} and {factors.shape}"
        )
    ranks = codes.argsort(axis=0).argsort(axis=0)
    binned = ranks * BINS // len(codes)
    gaps = []
    for factor in factors.T:
        entropy = _entropy(np.bincount(factor))
        if not entropy > 0:
            raise LdctError("a factor has one value in all images: there is nothing to say of it")
        shared = sorted((_mutual_information(latent, factor) for latent in binned.T), reverse=True)
        gaps.append((shared[0] - shared[1]) / entropy)
    return np.array(gaps)


def _mutual_information(one: NDArray[np.integer], other: NDArray[np.integer]) -> float:
    """In nats, of two columns of whole numbers."""
    joint = np.zeros((one.max() + 1, other.max() + 1))
    np.add.at(joint, (one, other), 1)
    return _entropy(joint.sum(axis=1)) + _entropy(joint.sum(axis=0)) - _entropy(joint.ravel())


def _entropy(counts: NDArray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
