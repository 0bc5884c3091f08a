"""What the generative benchmarks share: the project's loop on arrays, and grids of pictures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

from pipeline.config.names import digest
from pipeline.config.sections import Normalize, Train
from pipeline.models.adapters.base import HUModel
from pipeline.training.loop import Checkpoint, Log, Loop
from pipeline.training.steps.base import Step

Curve = list[dict[str, float]]


class Arrays(Dataset):
    """Item i is a piece of an image, turned and flipped if asked for: a function of i alone."""

    def __init__(
        self,
        images: Sequence[NDArray[np.float32]] | NDArray[np.float32],
        *,
        length: int,
        patch: int | None = None,
    ) -> None:
        self.images, self.length, self.patch = images, length, patch

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        generator = np.random.default_rng((0, item))
        image = self.images[generator.integers(len(self.images))]
        if self.patch is not None:
            image = self._piece(image, generator)
        return {"target": torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None]}

    def _piece(
        self, image: NDArray[np.float32], generator: np.random.Generator
    ) -> NDArray[np.float32]:
        row, column = (generator.integers(side - self.patch + 1) for side in image.shape)
        piece = image[row : row + self.patch, column : column + self.patch]
        return np.rot90(piece, generator.integers(4))[:: generator.choice([1, -1])]


def fit(
    make_network: Callable[[], nn.Module],
    make_step: Callable[[HUModel, Train], Step],
    items: Dataset,
    settings: Train,
    levels: Normalize,
    folder: Path,
) -> tuple[HUModel, Curve]:
    """The project's loop. Goes on from the folder's checkpoint, and repeats nothing finished."""
    torch.manual_seed(settings.seed)
    model = HUModel(make_network(), normalize=levels, residual=False)
    step = make_step(model, settings)
    checkpoint = Checkpoint(folder, digest(settings.model_dump(mode="json")))
    loop = Loop(model, step, "cpu", settings, checkpoint)
    curve: Curve = []

    tell = log_to_stderr(folder.name, settings.iterations)

    def log(metrics: dict[str, float], iteration: int) -> None:
        curve.append({"iteration": iteration, **metrics})
        tell(metrics, iteration)

    loop.run(items, start=loop.resume(log), log=log)
    return model.eval(), curve


def log_to_stderr(name: str, iterations: int) -> Log:
    """Ten lines in a training."""

    def log(metrics: dict[str, float], iteration: int) -> None:
        if iteration % (iterations // 10 or 1) == 0:
            shown = {name: float(f"{value:.4g}") for name, value in metrics.items()}
            print(name, iteration, shown, file=sys.stderr, flush=True)

    return log


def picture_grid(
    rows: Sequence[Sequence[NDArray]], path: Path, *, low: float, high: float, zoom: int = 1
) -> None:
    """Rows of images of one size as a PNG, a pixel apart."""
    lines = [
        np.concatenate([np.pad(image, ((0, 1), (0, 1)), constant_values=high) for image in row], 1)
        for row in rows
    ]
    levels = (np.concatenate(lines).clip(low, high) - low) / (high - low) * 255
    picture = Image.fromarray(np.rint(levels).astype(np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.resize([side * zoom for side in picture.size], Image.Resampling.NEAREST).save(path)
