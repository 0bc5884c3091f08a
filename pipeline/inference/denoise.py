"""A model over a volume: HU in, HU out, slice by slice, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice, repeat
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.core.errors import LdctError
from pipeline.core.ordered_pool import map_in_order
from pipeline.core.types import Progress

Chunk = list[list[NDArray[np.float32]]]


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
    """The model's image_hu for each slice [rows, columns]; no more than needed are in memory.

    A model with `neighbours` sees as many slices on each side of it, at the ends the last again.
    Runs where the model's weights are, in fp32: on a GPU a batch at a time; on a CPU each core
    has slices of its own, since cores that share a layer wait for the slowest of them at its end.
    progress gets the number of slices done at each step. Raises LdctError where the output is not
    finite or of another shape.
    """
    seen = _with_neighbours(iter(images_hu), getattr(model, "neighbours", 0))
    first = list(islice(seen, batch))
    device = next((weights.device for weights in model.parameters()), torch.device("cpu"))
    workers = min(len(first), torch.get_num_threads()) if device.type == "cpu" else 1
    # Shared, a batch makes two chunks for each worker: none waits long for the last.
    size = batch if workers < 2 else ceil(len(first) / (2 * workers))
    chunks = _chunks(chain(first, seen), size)

    def computed(chunk: Chunk) -> NDArray[np.float32]:
        return _computed(model, np.array(chunk, dtype=np.float32), device)

    for output_hu in _among(workers, computed, chunks):
        progress(len(output_hu))
        yield from output_hu


def _among(
    workers: int, work: Callable[[Chunk], NDArray[np.float32]], chunks: Iterator[Chunk]
) -> Iterator[NDArray[np.float32]]:
    """work(chunk) of each by workers that share the threads which PyTorch has here."""
    if workers < 2:
        yield from map(work, chunks)
        return
    threads = torch.get_num_threads()

    def share_threads() -> None:
        torch.set_num_threads(threads // workers)

    try:
        yield from map_in_order(
            work, chunks, threads=workers, max_ahead=2 * workers, initializer=share_threads
        )
    finally:
        torch.set_num_threads(threads)  # MKL, and threads to come, follow whoever set it last


def _chunks(seen: Iterator[list[NDArray[np.float32]]], size: int) -> Iterator[Chunk]:
    while chunk := list(islice(seen, size)):
        yield chunk


@torch.inference_mode()
def _computed(
    model: nn.Module, chunk: NDArray[np.float32], device: torch.device
) -> NDArray[np.float32]:
    """[slices, rows, columns] for [slices, channels, rows, columns]."""
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
