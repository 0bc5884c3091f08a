"""Figures of images for `mlflow.models.evaluate`: those that runs have, of any registered model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from mlflow.metrics import MetricValue
from mlflow.models import EvaluationMetric, make_metric

from pipeline.core.types import ImageHU
from pipeline.core.units import Window
from pipeline.metrics.image import psnr_db, rmse_hu, ssim

Figure = Callable[[ImageHU, ImageHU, Window], float]


def image_metrics(centre_hu: float, width_hu: float) -> list[EvaluationMetric]:
    """psnr (dB), ssim and rmse_hu of whole images [rows, columns] in a display window.

    For `extra_metrics`, where `targets` names a column of images in HU; each is given by image
    and, as NAME/mean, over all.
    """
    window = Window(centre_hu, width_hu)
    figures: dict[str, tuple[Figure, bool]] = {
        "psnr": (psnr_db, True),
        "ssim": (ssim, True),
        "rmse_hu": (_whole_rmse_hu, False),
    }
    return [
        make_metric(eval_fn=_over_images(figure, window), greater_is_better=better, name=name)
        for name, (figure, better) in figures.items()
    ]


def _whole_rmse_hu(image_hu: ImageHU, target_hu: ImageHU, window: Window) -> float:
    """Nothing is clipped, so the window is not looked at."""
    return rmse_hu(image_hu, target_hu, np.ones(target_hu.shape, dtype=bool))


def _over_images(figure: Figure, window: Window) -> Callable[..., MetricValue]:
    def evaluate(predictions: Sequence[ImageHU], targets: Sequence[ImageHU]) -> MetricValue:
        """Of each image, and their mean (MLflow calls this)."""
        pairs = zip(predictions, targets, strict=True)
        scores = [figure(np.asarray(image), np.asarray(truth), window) for image, truth in pairs]
        return MetricValue(scores=scores, aggregate_results={"mean": float(np.mean(scores))})

    return evaluate
