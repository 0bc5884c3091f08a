"""A model over a volume: HU in, HU out, slice by slice, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.errors import LdctError

Progress = Callable[[int], None]


def apply_model(
    model: nn.Module,
    image_hu: NDArray[np.float32],
    *,
    batch: int = 4,
    progress: Progress = lambda slices: None,
) -> NDArray[np.float32]:
    """The model's image_hu for each slice of [slices, rows, columns].

    A model with `neighbours` sees as many slices on each side of it, at the ends the last again.
    Runs where the model's weights are, in fp32. progress gets the number of slices done at
    each batch. Raises LdctError where the output is not finite or of another shape.
    """
    device = next((weights.device for weights in model.parameters()), torch.device("cpu"))
    reach = getattr(model, "neighbours", 0)
    around = np.arange(-reach, reach + 1)
    output_hu = np.empty(image_hu.shape, dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(image_hu), batch):
            middle = np.arange(start, min(start + batch, len(image_hu)))
            seen = np.clip(middle[:, None] + around, 0, len(image_hu) - 1)
            chunk = np.array(image_hu[seen], dtype=np.float32)
            result = model(torch.from_numpy(chunk).to(device))
            if result.shape != (len(chunk), 1, *chunk.shape[2:]):
                raise LdctError(f"the model gave {tuple(result.shape)} for {chunk.shape} slices")
            output_hu[start : start + batch] = result[:, 0].cpu().numpy()
            progress(len(chunk))
    if not np.isfinite(output_hu).all():
        raise LdctError("the model's output holds values that are not numbers; nothing was kept")
    return output_hu
