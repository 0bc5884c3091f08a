"""A model over a volume: HU in, HU out, slice by slice, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, repeat

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.errors import LdctError
from pipeline.memory import keep_freed_memory

Progress = Callable[[int], None]


def apply_model(
    model: nn.Module,
    image_hu: NDArray[np.float32],
    *,
    batch: int = 4,
    progress: Progress = lambda slices: None,
) -> NDArray[np.float32]:
    """The model's image_hu for each slice of [slices, rows, columns]; see apply_to_slices."""
    output_hu = np.empty(image_hu.shape, dtype=np.float32)
    found = apply_to_slices(model, image_hu, batch=batch, progress=progress)
    for number, slice_hu in enumerate(found):
        output_hu[number] = slice_hu
    return output_hu


def apply_to_slices(
    model: nn.Module,
    images_hu: Iterable[NDArray[np.float32]],
    *,
    batch: int = 4,
    progress: Progress = lambda slices: None,
) -> Iterator[NDArray[np.float32]]:
    """The model's image_hu for each slice [rows, columns]; no more than it looks at are held.

    A model with `neighbours` sees as many slices on each side of it, at the ends the last again.
    Runs where the model's weights are, in fp32. progress gets the number of slices done at
    each batch. Raises LdctError where the output is not finite or of another shape.
    """
    keep_freed_memory()
    seen = _with_neighbours(iter(images_hu), getattr(model, "neighbours", 0))
    while chunk := list(islice(seen, batch)):
        output_hu = _computed(model, np.array(chunk, dtype=np.float32))
        progress(len(chunk))
        yield from output_hu


@torch.inference_mode()
def _computed(model: nn.Module, chunk: NDArray[np.float32]) -> NDArray[np.float32]:
    """[slices, rows, columns] for [slices, channels, rows, columns]."""
    device = next((weights.device for weights in model.parameters()), torch.device("cpu"))
    result = model(torch.from_numpy(chunk).to(device))
    if result.shape != (len(chunk), 1, *chunk.shape[2:]):
        raise LdctError(f"the model gave {tuple(result.shape)} for {chunk.shape} slices")
    output_hu = result[:, 0].cpu().numpy()
    if not np.isfinite(output_hu).all():
        raise LdctError("the model's output holds values that are not numbers; nothing was kept")
    return output_hu


def _with_neighbours(
    images_hu: Iterator[NDArray[np.float32]], reach: int
) -> Iterator[list[NDArray[np.float32]]]:
    """Each slice among `reach` on each side."""
    window: deque[NDArray[np.float32]] = deque(maxlen=2 * reach + 1)
    for image_hu in images_hu:
        window.extend(repeat(image_hu, 1 if window else 1 + reach))
        if len(window) == window.maxlen:
            yield list(window)
    for _ in range(reach if window else 0):
        window.append(window[-1])
        if len(window) == window.maxlen:
            yield list(window)
