"""Is a picture a digit? Asked of a machine that has seen real digits alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.svm import SVC

from pipeline.evaluation.latent import kl_divergence
from pipeline.ingest.bundled_pictures import Pictures

CONFIDENT = 0.8


class Judge:
    """A support vector machine with calibrated probabilities, trained on real digits alone."""

    def __init__(self, training: Pictures, test: Pictures) -> None:
        machine = CalibratedClassifierCV(SVC(C=10, gamma=0.0005), cv=5, ensemble=False)
        self.machine = machine.fit(np.stack(training.images).reshape(-1, 64), training.labels)
        self.training, self.test = training, test

    def labels(self, images: torch.Tensor) -> NDArray[np.int64]:
        return self.machine.predict(images.flatten(1).numpy())

    def of(self, images: torch.Tensor) -> dict[str, float]:
        """Which share is taken for a digit, and how the digits taken differ from the data's."""
        sure = self.machine.predict_proba(images.flatten(1).numpy()).max(axis=1) > CONFIDENT
        found = np.bincount(self.labels(images), minlength=10) / len(images)
        real = np.bincount(self.training.labels, minlength=10) / len(self.training)
        return {
            "confident_share": float(sure.mean()),
            "class_kl_nats": kl_divergence(found, real),
        }

    def facts(self) -> dict[str, Any]:
        """What it says of real digits, and of pictures that are none."""
        real = torch.from_numpy(np.stack(self.test.images))[:, None]
        generator = np.random.default_rng(0)
        flat = np.stack(self.training.images).reshape(-1, 64)
        normal = generator.multivariate_normal(flat.mean(0), np.cov(flat.T), 1000)
        pairs = flat[generator.integers(len(flat), size=(2, 1000))].mean(axis=0)
        controls = {
            "uniform noise": 16 * generator.random((1000, 64)),
            "a normal of the data's mean and covariance": normal.clip(0, 16),
            "two digits averaged": pairs,
        }
        return {
            "accuracy_on_real": float(np.mean(self.labels(real) == self.test.labels)),
            "confident_share_of_real": self.of(real)["confident_share"],
            "confident_share_of_controls": {
                name: self.of(torch.from_numpy(images).view(-1, 1, 8, 8))["confident_share"]
                for name, images in controls.items()
            },
        }
