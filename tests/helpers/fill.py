"""A generator whose answers are known: its images are sums of four fixed patterns."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.config.load import parse_config
from pipeline.data.images import resampled
from pipeline.models.adapters.base import build_model
from pipeline.models.adapters.generative import Generative

SIDE, LATENTS = 16, 4
CONFIG: dict[str, Any] = {
    "name": "waves",
    "task": "generate",
    "generation": {"source": "series", "image_size": [SIDE, SIDE]},
    "model": {
        "target": "pipeline.models.vae.DenseVAE",
        "args": {"image_size": [SIDE, SIDE], "latents": LATENTS, "hidden": []},
    },
    "normalize_hu": {"centre": 0, "scale": 200},
    "step": {"target": "pipeline.training.steps.variational.Variational"},
    "train": {"iterations": 1},
    "windows": {"wide": [0, 2000]},
    "register": {"name": "waves"},
}
DIGITS = {"source": "digits", "image_size": [SIDE, SIDE]}


def patterns() -> torch.Tensor:
    places = torch.linspace(0, 3, SIDE)
    return torch.stack(
        [torch.cos((n + 1) * places)[:, None] * torch.cos(n * places) for n in range(4)]
    )


def waves(config: dict[str, Any] = CONFIG) -> Generative:
    """A linear VAE whose decoder is the patterns; its encoder knows nothing."""
    torch.manual_seed(0)
    model = build_model(parse_config(config))
    assert isinstance(model, Generative)
    output = model.network.decoder.output
    with torch.no_grad():
        output.weight.copy_(patterns().flatten(1).T)
        output.bias.zero_()
    return model.eval()


def some_codes(count: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(count, LATENTS, generator=torch.Generator().manual_seed(seed))


def drawn(model: Generative, codes: torch.Tensor, times: int = 1) -> NDArray[np.float32]:
    """[count, rows, columns] in the model's units, `times` finer than it draws."""
    with torch.no_grad():
        images = model.in_hu(model.network.decode(codes))[:, 0].numpy()
    size = (times * SIDE, times * SIDE)
    return np.stack([resampled(image, size) for image in images])
