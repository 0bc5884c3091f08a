"""Images that a model draws, beside real ones: as good, as varied, and no copies of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.config.task_runs import GenerateRun
from pipeline.core.json_numbers import Figure, JsonRecord
from pipeline.core.units import Window
from pipeline.data.images import resampled
from pipeline.generative import latent
from pipeline.metrics.generative import (
    frechet_distance,
    memorised,
    mmd,
    ms_ssim_diversity,
    precision_recall,
)
from pipeline.models.adapters.generative import Generative

#: Images are compared by so many pixels a side at most: distances of more are of noise.
SIDE = 32
#: MS-SSIM needs more pixels than a digit has.
MIN_DIVERSITY_SIDE = 32
DIVERSITY_PAIRS = 500
HIDDEN, MAX_EPOCHS = 64, 1000
MIN_REAL = 10
#: A classifier that is surer than this takes a sample for one of the classes.
CONFIDENT = 0.8

Images = list[NDArray[np.float32]]


class SampleFigures(JsonRecord):
    """What `count` samples are like, beside held-back images (pipeline.metrics.generative).

    copies: the share nearer to a training image than any held-back one is; the same by ranks in
    nearer_to_training. From confident_share on: by a classifier of the training images' labels.
    """

    count: int
    mmd_of_pixels: Figure = None
    precision: Figure = None
    recall: Figure = None
    diversity: Figure = None
    relative_diversity: Figure = None
    copies: Figure
    nearer_to_training: Figure
    confident_share: Figure = None
    classes_found: int | None = None
    classes: int | None = None
    largest_class_share: Figure = None
    frechet_of_classifier_features: Figure = None
    obeys_its_label: Figure = None


def draw(
    model: Generative, count: int, *, labels: NDArray[np.int64], seed: int
) -> tuple[Images, NDArray[np.int64]]:
    """`count` images from the prior, and the labels they were asked for.

    labels: of training images; a conditional model is asked for them in their proportions.
    """
    generator = torch.Generator().manual_seed(seed)
    asked = np.random.default_rng(seed).choice(labels, count)
    conditions = torch.from_numpy(asked) if model.labels else None
    return list(latent.sample(model, count, generator, conditions)[:, 0].numpy()), asked


def sample_figures(
    model: Generative,
    training: Images,
    labels: NDArray[np.int64],
    held_back: Images,
    config: GenerateRun,
) -> SampleFigures:
    """What the model's samples are like, against held-back images: see figures_of."""
    _, window = config.first_window
    count = config.generation.samples
    drawn, asked = draw(model, count, labels=labels, seed=config.train.seed)
    known = Known(training, labels, held_back, window)
    return figures_of(drawn, known, asked=asked if model.labels else None)


@dataclass(frozen=True)
class Known:
    """Real images to compare with: those of the training with their labels, and held-back ones."""

    training: Images
    labels: NDArray[np.int64]
    held_back: Images
    window: Window


def figures_of(
    drawn: Images, known: Known, *, asked: NDArray[np.int64] | None = None
) -> SampleFigures:
    """What images are like, against held-back ones; and whether they copy training images.

    Distances are of pixels within the window, reduced to SIDE a side: MMD, precision and
    recall, and the nearest neighbour. Where training images have labels, a classifier trained on
    them here says what the images show, and its hidden layer gives the Frechet distance (not the
    FID of the literature, which has Inception's features). All classes are the classifier's.
    As many images as are held back are compared, at most; copies are looked for among all. Of
    fewer held-back images than MIN_REAL nothing but copies is measured.
    asked: the label that each was to have, if any.
    """
    near, training, real = (
        _pixels(images, known.window) for images in (drawn, known.training, known.held_back)
    )
    few = min(len(near), len(real))
    found: dict[str, float] = {"count": len(drawn), **memorised(near, training, real)}
    if few >= MIN_REAL:
        found |= _beside_real(near[:few], real[:few])
        found |= _diversities(drawn[:few], known.held_back[:few], known.window)
        found |= _by_class(near[:few], training, known.labels, real[:few], near, asked)
    return SampleFigures.from_dict(found)


def _beside_real(near: NDArray, real: NDArray) -> dict[str, float]:
    precision, recall = precision_recall(near, real)
    return {"mmd_of_pixels": mmd(near, real), "precision": precision, "recall": recall}


def _diversities(drawn: Images, held_back: Images, window: Window) -> dict[str, float]:
    """Of the samples, and as a share of the held-back images'."""
    own, real = (_diversity(images, window) for images in (drawn, held_back))
    return {"diversity": own, "relative_diversity": own / max(real, 1e-12)}


def _pixels(images: Images, window: Window) -> NDArray[np.float64]:
    """[images, pixels] in [0, 1]."""
    rows, columns = images[0].shape
    size = (min(rows, SIDE), min(columns, SIDE))
    flat = np.stack([resampled(image, size).ravel() for image in images]).astype(np.float64)
    return ((flat - window.low_hu) / window.width).clip(0, 1)


def _diversity(images: Images, window: Window) -> float:
    stacked = np.stack(images).clip(window.low_hu, window.high_hu) - window.low_hu
    times = math.ceil(MIN_DIVERSITY_SIDE / min(stacked.shape[1:]))
    enlarged = stacked.repeat(times, axis=1).repeat(times, axis=2)
    return ms_ssim_diversity(
        enlarged,
        data_range=window.width,
        pairs=DIVERSITY_PAIRS,
        generator=np.random.default_rng(0),
    )


def _by_class(
    few: NDArray,
    known: NDArray,
    labels: NDArray[np.int64],
    real: NDArray,
    drawn: NDArray,
    asked: NDArray[np.int64] | None,
) -> dict[str, float]:
    """What a classifier trained on the real images makes of samples; nothing without labels."""
    classes = np.unique(labels)
    if len(classes) < 2:
        return {}
    from sklearn.neural_network import MLPClassifier  # scikit-learn takes a second to import

    # Until its loss stops falling: one that was stopped early is sure of no real image either.
    classifier = MLPClassifier((HIDDEN,), max_iter=MAX_EPOCHS, random_state=0).fit(known, labels)
    found = classifier.predict(drawn)
    shares = [float((found == label).mean()) for label in classes]
    hidden = (
        np.maximum(each @ classifier.coefs_[0] + classifier.intercepts_[0], 0)
        for each in (few, real)
    )
    figures = {
        "confident_share": float((classifier.predict_proba(drawn).max(axis=1) > CONFIDENT).mean()),
        "classes_found": sum(share > 0 for share in shares),
        "classes": len(classes),
        "largest_class_share": max(shares),
        "frechet_of_classifier_features": frechet_distance(*hidden),
    }
    if asked is not None:
        figures["obeys_its_label"] = float((found == asked).mean())
    return figures
