"""How near a set of generated images comes to a set of real ones, and whether it is too near.

Samples are feature vectors [images, features]: of pixels, or of a network that was trained on
the data at hand. Its name belongs beside every figure: a Frechet distance on such features is
not the FID of the literature, which stands on Inception's, and figures of two networks never
compare. Generated and real must not include each other's images.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist, pdist

from pipeline.core.errors import LdctError
from pipeline.metrics.perceptual import MS_SSIM_WEIGHTS

Samples = NDArray[np.floating]

_GAUSSIAN_PIXELS = 11
#: How often its window must fit into a side for so many scales, as MONAI asks.
_SCALES = {1: 1, 2: 2, 3: 4, 4: 9, 5: 16}


def mmd(generated: Samples, real: Samples, *, bandwidth: float | None = None) -> float:
    """Squared maximum mean discrepancy, unbiased, with a Gaussian kernel.

    Gretton et al., JMLR 2012, equation 3: 0 on average for equal distributions, so it may be
    negative. k(a, b) = exp(-|a - b|^2 / (2 bandwidth^2)); without one the median distance
    between real samples (MONAI's MMD has a linear kernel, which sees means alone).
    """
    _check(generated, real, at_least=2)
    if bandwidth is None:
        bandwidth = float(np.median(pdist(real)))
    if not bandwidth > 0:
        raise LdctError(f"a Gaussian kernel needs a positive bandwidth, got {bandwidth}")

    def kernel(squared: NDArray) -> NDArray:
        """Of squared distances."""
        return np.exp(-squared / (2 * bandwidth**2))

    within = sum(kernel(pdist(each, "sqeuclidean")).mean() for each in (generated, real))
    return float(within - 2 * kernel(cdist(generated, real, "sqeuclidean")).mean())


def frechet_distance(generated: Samples, real: Samples) -> float:
    """Squared Frechet distance of the two Gaussians with the samples' moments.

    |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)) (Dowson & Landau 1982). The trace of the root is
    the sum of the singular values of C^(1/2) C'^(1/2), which holds for singular covariances
    too, where a matrix root of the product (MONAI's way) goes astray. It is biased upwards for
    few samples: compare at equal numbers only.
    """
    _check(generated, real, at_least=2)
    one, other = (each - each.mean(axis=0) for each in (generated, real))
    roots = [_root_of_covariance(each) for each in (one, other)]
    shared = np.linalg.svd(roots[0] @ roots[1], compute_uv=False).sum()
    means = np.square(generated.mean(axis=0) - real.mean(axis=0)).sum()
    spread = sum(np.square(each).sum() / (len(each) - 1) for each in (one, other))
    return float(means + spread - 2 * shared)


def _root_of_covariance(centred: Samples) -> NDArray[np.float64]:
    _, scales, directions = np.linalg.svd(centred / np.sqrt(len(centred) - 1), full_matrices=False)
    return (directions.T * scales) @ directions


def precision_recall(
    generated: Samples, real: Samples, *, neighbours: int = 3
) -> tuple[float, float]:
    """(precision, recall) of Kynkaanniemi et al., NeurIPS 2019.

    Precision: the share of generated samples that lie within the reach of a real one, its
    distance to its `neighbours`-th nearest fellow; low where images are no good. Recall: the
    share of real samples within the reach of a generated one; low where kinds are missing.
    """
    _check(generated, real, at_least=neighbours + 1)
    precision = _within_reach(generated, real, neighbours)
    recall = _within_reach(real, generated, neighbours)
    return precision, recall


def _within_reach(samples: Samples, others: Samples, neighbours: int) -> float:
    """The share of samples that lie within the reach of one of the others."""
    reach = _reach(others, neighbours)
    return float((cdist(samples, others) <= reach).any(axis=1).mean())


def _reach(samples: Samples, neighbours: int) -> NDArray[np.float64]:
    # The nearest of all is the sample itself.
    return KDTree(samples).query(samples, k=neighbours + 1)[0][:, -1]


def memorised(generated: Samples, training: Samples, held_back: Samples) -> dict[str, float]:
    """Does the generator give training images back? A matter of privacy as well.

    "copies": the share of generated samples nearer to a training sample than any held-back
    real one is; by chance one in as many as are held back. "nearer_to_training": the share whose
    nearest training sample is nearer than the nearest of as many held-back ones; 0.5 where the
    generator knows the training set no better than its distribution (Meehan et al., AISTATS
    2020, ask the same of distances). Needs real images that the training has not seen.
    """
    _check(generated, training, at_least=1)
    _check(generated, held_back, at_least=1)
    to_training = KDTree(training).query(generated)[0]
    closest = KDTree(training).query(held_back)[0].min()
    count = min(len(training), len(held_back))
    near, far = (KDTree(each[:count]).query(generated)[0] for each in (training, held_back))
    ranked = (near < far).mean() + 0.5 * (near == far).mean()
    return {
        "copies": float((to_training < closest).mean()),
        "nearer_to_training": float(ranked),
    }


def ms_ssim_diversity(
    images: NDArray[np.floating], *, data_range: float, pairs: int, generator: np.random.Generator
) -> float:
    """1 - mean MS-SSIM of random pairs of images [images, rows, columns]: 0 if all are alike.

    Odena et al., ICML 2017. Values must count from 0 to data_range. As many of the five scales
    as the 11-pixel window fits into (all five from 176 pixels a side), their weights brought to
    a sum of 1; so compare at one size only.
    """
    if images.ndim != 3 or len(images) < 2:
        raise LdctError(f"diversity needs two images [images, rows, columns], got {images.shape}")
    from monai.metrics import compute_ms_ssim  # MONAI takes seconds to import

    side = min(images.shape[1:])
    scales = sum(side // fits >= _GAUSSIAN_PIXELS for fits in _SCALES.values())
    if scales == 0:
        raise LdctError(f"MS-SSIM needs {_GAUSSIAN_PIXELS} pixels a side or more, got {side}")
    first = generator.integers(len(images), size=pairs)
    second = (first + generator.integers(1, len(images), size=pairs)) % len(images)
    one, other = (
        torch.from_numpy(images[which]).float()[:, None] / data_range for which in (first, second)
    )
    weights = np.array(MS_SSIM_WEIGHTS[:scales]) / sum(MS_SSIM_WEIGHTS[:scales])
    alike = compute_ms_ssim(one, other, spatial_dims=2, weights=tuple(weights.tolist()))
    return float(1 - alike.mean())


def _check(one: Samples, other: Samples, *, at_least: int) -> None:
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1]:
        raise LdctError(
            f"samples must be [images, features] with equal features, got {one.shape} and "
            f"{other.shape}"
        )
    if min(len(one), len(other)) < at_least:
        raise LdctError(f"expected {at_least} samples or more, got {len(one)} and {len(other)}")
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise LdctError("samples hold values that are not numbers")
