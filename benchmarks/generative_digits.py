"""A GAN on scikit-learn's digits: are all ten there, and are they new?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from generative_training import Arrays, fit, picture_grid
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from pipeline.config.sections import Normalize, Train
from pipeline.generative.latent import sample
from pipeline.metrics.generative import (
    frechet_distance,
    memorised,
    mmd,
    ms_ssim_diversity,
    precision_recall,
)
from pipeline.models.gan import Generator
from pipeline.training.steps.adversarial import Adversarial

SAMPLES = 5000
LEARNING_RATE = 1e-3
LEVELS = Normalize(centre=8.0, scale=8.0)
OBJECTIVES = "pipeline.training.steps.gan_objectives"
#: What differs from game to game.
GAMES: dict[str, dict[str, Any]] = {
    "non-saturating, spectral norm": {
        "objective": {"target": f"{OBJECTIVES}.NonSaturating"},
        "discriminator": {"spectral_norm": True},
    },
    "hinge, spectral norm": {
        "objective": {"target": f"{OBJECTIVES}.Hinge"},
        "discriminator": {"spectral_norm": True},
    },
    "Wasserstein, gradient penalty, 3 critic steps": {
        "objective": {"target": f"{OBJECTIVES}.Wasserstein"},
        "discriminator": {"steps": 3},
        "share": 0.4,  # a turn of the critic, with its penalty, takes twice as long
    },
}
RIVAL = {"target": "pipeline.models.gan.Discriminator", "args": {"size": 8, "channels": 64}}


def digits(
    work: Path, results: Path, iterations: int = 12000, games: Sequence[str] = tuple(GAMES)
) -> dict[str, Any]:
    """Train the games on 70 % of the digits; figures on the rest."""
    data = load_digits()
    images = data.images.astype(np.float32)
    training, held_back, labels, held_back_labels = train_test_split(
        images, data.target, test_size=0.3, random_state=0, stratify=data.target
    )
    judge = MLPClassifier((64,), max_iter=400, random_state=0).fit(flat(training), labels)
    figures: dict[str, Any] = {
        "classifier_accuracy_on_held_back": judge.score(flat(held_back), held_back_labels),
        "training": len(training),
        "held_back": len(held_back),
        "real digits": compared(training, training, held_back, judge),
    }
    rows = []
    for number, (name, options) in enumerate(GAMES.items()):
        if name not in games:
            continue
        turns = round(iterations * options.get("share", 1))
        drawn, alarms = play(training, options, turns, work / f"digits-{number}")
        figures[name] = {
            **compared(drawn, training, held_back, judge),
            "shares": shares(drawn, judge),
            "alarms": alarms,
            "iterations": turns,
        }
        rows.append(drawn[:20])
    picture_grid([training[:20], *rows], results / "generative_digits.png", low=0, high=16, zoom=6)
    return figures


def play(
    training: NDArray[np.float32], options: dict[str, Any], iterations: int, folder: Path
) -> tuple[NDArray[np.float32], dict[str, float]]:
    """Samples of a trained generator, and how often each alarm rang."""
    settings = Train(
        iterations=iterations, batch=64, lr=LEARNING_RATE, device="cpu", precision="fp32"
    )

    def step(model: Any, train: Train) -> Adversarial:
        rival = {**RIVAL, **options["discriminator"]}
        return Adversarial(
            model, train, discriminator=rival, objective=options["objective"], average=0.995
        )

    items = Arrays(training, length=iterations * settings.batch)
    model, curve = fit(
        lambda: Generator(latent=64, size=8, channels=64), step, items, settings, LEVELS, folder
    )
    drawn = sample(model, SAMPLES, torch.Generator().manual_seed(1))
    alarms = {
        name: float(np.mean([metrics[name] for metrics in curve]))
        for name in ("collapse_alarm", "saturation_alarm")
    }
    return drawn[:, 0].numpy(), alarms


def shares(drawn: NDArray[np.float32], judge: MLPClassifier) -> list[float]:
    """How much of the samples each class makes, in the classifier's eyes."""
    counts = np.bincount(judge.predict(flat(drawn)), minlength=10)
    return (counts / counts.sum()).tolist()


def compared(
    drawn: NDArray[np.float32],
    training: NDArray[np.float32],
    held_back: NDArray[np.float32],
    judge: MLPClassifier,
) -> dict[str, Any]:
    """Figures against the held-back digits, as many samples as there are of them."""
    few = drawn[: len(held_back)]
    precision, recall = precision_recall(flat(few), flat(held_back))
    return {
        "mmd_of_pixels": mmd(flat(few), flat(held_back)),
        "frechet_of_classifier_features": frechet_distance(
            features(few, judge), features(held_back, judge)
        ),
        "precision": precision,
        "recall": recall,
        "ms_ssim_diversity_enlarged_4x": ms_ssim_diversity(
            np.kron(few, np.ones((4, 4), dtype=np.float32)),
            data_range=16.0,
            pairs=1000,
            generator=np.random.default_rng(0),
        ),
        **memorised(flat(drawn), flat(training), flat(held_back)),
    }


def features(images: NDArray[np.float32], judge: MLPClassifier) -> NDArray[np.float64]:
    """The hidden layer of the classifier that was trained on the real digits here."""
    return np.maximum(flat(images) @ judge.coefs_[0] + judge.intercepts_[0], 0)


def flat(images: NDArray[np.float32]) -> NDArray[np.float64]:
    return images.reshape(len(images), -1).clip(0, 16).astype(np.float64)
