"""A segmenter over a volume: MONAI's sliding window of the whole beside ours, time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import nullcontext
from typing import Any

import machine
import numpy as np
import torch

from pipeline.infer_segmentation import segment
from pipeline.models.fcn import FCN
from pipeline.segmentation import Segmentation
from pipeline.volume import Volume

SHAPE = (64, 384, 384)


def windows(repeats: int) -> dict[str, Any]:
    """Each run is a process of its own, so that its memory is its own too."""
    rows: dict[str, list[dict[str, float]]] = {"monai": [], "ours": []}
    for _ in range(min(3, repeats)):
        for way, told in rows.items():
            with machine.memory_as_it_comes() if way == "monai" else nullcontext():
                ended = subprocess.run(
                    [sys.executable, __file__, way], capture_output=True, check=True, text=True
                )
            told.append(json.loads(ended.stdout.splitlines()[-1]))
    return {**rows, "slices": SHAPE[0]}


def window_run(way: str) -> dict[str, float]:
    """Seconds, and the most memory above what was held before, of SHAPE."""
    from monai.inferers import SlidingWindowInferer

    shape, patch = SHAPE, [48, 128, 128]
    settings = Segmentation(
        labels="mask",
        classes={f"c{n}": [f"c{n}"] for n in range(4)},
        spacing_mm=(1, 1, 1),
        patch=patch,
    )
    image_hu = np.random.default_rng(0).normal(0, 300, shape).astype(np.float32)
    network = FCN(3, 1, settings.channels, (4, 8)).eval()
    volume = Volume(
        image_hu,
        np.ones(shape, dtype=bool),
        np.eye(4),
        np.arange(shape[0])[:, None] * np.eye(3)[2],
        {},
    )
    before_mib = machine.peak_mib()
    began = time.perf_counter()
    if way == "ours":
        segment(network, volume, settings)
    else:
        inferer = SlidingWindowInferer(patch, overlap=settings.overlap, mode="gaussian")
        with torch.inference_mode():
            inferer(torch.from_numpy(image_hu)[None, None], network).softmax(1).argmax(1)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "mib": machine.peak_mib() - before_mib}


if __name__ == "__main__":
    print(json.dumps(window_run(sys.argv[1])))
