"""A segmenter over a volume: MONAI's sliding window of the whole beside ours, time and memory; and
nnU-Net's predictor, where it is installed."""

from __future__ import annotations

import sys
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import machine
import numpy as np
import torch
from torch import nn

from pipeline.config.segmentation import Segmentation
from pipeline.core.volume import Volume
from pipeline.inference.segment import segment
from pipeline.models.fcn import FCN

SHAPE = (64, 256, 256)
NNUNET = "nnU-Net's predictor"


def windows(repeats: int) -> dict[str, Any]:
    """Seconds in turns, and the most memory of one run, in a process of its own."""
    ways = {name: partial(run, name) for name in ("plain", "ldct")}
    return {
        "seconds": machine.processes_in_turns(ways, repeats),
        "mib": {name: machine.in_own_process(name, way) for name, way in ways.items()},
        "shape": list(SHAPE),
    }


def run(way: str) -> float:
    """The most memory in MiB that SHAPE takes above what was held before."""
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
    if way == "ldct":
        segment(network, volume, settings)
    elif way == NNUNET:
        logits = _predictor(network, patch, settings).predict_sliding_window_return_logits(
            torch.from_numpy(image_hu)[None]
        )
        logits.float().softmax(0).argmax(0)
    else:
        from monai.inferers import SlidingWindowInferer

        inferer = SlidingWindowInferer(patch, overlap=settings.overlap, mode="gaussian")
        with torch.inference_mode():
            inferer(torch.from_numpy(image_hu)[None, None], network).softmax(1).argmax(1)
    return machine.peak_mib() - before_mib


def _predictor(network: nn.Module, patch: list[int], settings: Segmentation) -> Any:
    """nnU-Net's, with what it takes from a plan, without mirroring."""
    # One of the trainers that are looked through by name; it wants timm, and that torchvision.
    without = "nnunetv2.training.nnUNetTrainer.primus.primus_trainers"
    sys.modules[without] = ModuleType(without)
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        tile_step_size=1 - settings.overlap,
        use_gaussian=True,
        use_mirroring=False,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.network = network
    predictor.configuration_manager = SimpleNamespace(patch_size=patch)
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=settings.channels)
    return predictor
