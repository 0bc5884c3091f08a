"""fp32 or bf16: whichever trains the run's own network faster on the processor at hand, and right.

No rule of thumb holds: on one processor bf16 took from a quarter to nine tenths of fp32's time,
by the network (docs/performance.md), and where it is emulated 14 times as much.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import nn

from pipeline.config.names import digest
from pipeline.core.errors import ConfigError
from pipeline.training.finite import faults_of
from pipeline.training.steps.base import Batch, Step

#: bf16 must take less than this share of fp32's time: an equal time is no reason to round more.
WORTH_IT = 0.9
#: Taking this many times as long as fp32, bf16 is emulated: no more of it is measured.
HOPELESS = 3.0
ROUNDS = 3
#: No further round after so long: the passes are slow enough to be distinguished.
ENOUGH_S = 10.0
#: Images of the batch in the first passes, whose times only show whether bf16 is hopeless.
FEW = 2

VOLUMES_ON_CPUS = (
    "oneDNN's bf16 gradients of 3-D convolutions are wrong on a CPU where a volume has few slices"
)

_measured: dict[str, Precision] = {}


@dataclass(frozen=True)
class Precision:
    """What a training computes in.

    why: for the report. fp32_s, bf16_s: seconds of one pass forward and back over a batch, where
    that was measured.
    """

    used: Literal["fp32", "bf16"]
    why: str = "train.precision asks for it"
    fp32_s: float | None = None
    bf16_s: float | None = None

    @property
    def bf16(self) -> bool:
        """Whether networks run under bf16 autocast."""
        return self.used == "bf16"

    def to_dict(self) -> dict[str, Any]:
        """As report.json and a checkpoint have it."""
        return asdict(self)


def require_sound(step: Step, device: str, precision: str) -> None:
    """Raises ConfigError where `train.precision: bf16` would train on wrong gradients."""
    if precision == "bf16" and device == "cpu" and _has_volumes(step):
        raise ConfigError(f"train.precision: bf16, but {VOLUMES_ON_CPUS}; set it to auto or fp32")


def faster_precision(step: Step, batch: Batch, device: str) -> Precision:
    """Times the step's own passes over a batch, in fp32 and bf16; once a process for its like.

    step: one that is thrown away afterwards, since passes change it. batch: of the training, on
    the device.
    """
    if device == "cpu" and _has_volumes(step):
        return Precision("fp32", VOLUMES_ON_CPUS)
    networks = {name: str(network) for name, network in step.networks().items()}
    shapes = {name: list(values.shape) for name, values in batch.items()}
    key = digest([type(step).__name__, networks, shapes, device, torch.get_num_threads()])
    if key not in _measured:
        _measured[key] = _measure(step, batch, device)
    return _measured[key]


def _measure(step: Step, batch: Batch, device: str) -> Precision:
    few = {name: values[:FEW] for name, values in batch.items()}
    fp32_s = bf16_s = 0.0
    for images, rounds in ((few, 2), (batch, ROUNDS)):
        fp32_s, bf16_s = _best_of(rounds, step, images, device)
        if faults_of(step, {}):  # of the last pass
            return Precision("fp32", "bf16 gradients of the first batch are not finite")
        if bf16_s > HOPELESS * fp32_s:
            break
    if bf16_s < WORTH_IT * fp32_s:
        return Precision("bf16", "measured: faster than fp32 here", fp32_s, bf16_s)
    return Precision("fp32", "measured: bf16 gains nothing here", fp32_s, bf16_s)


def _best_of(rounds: int, step: Step, batch: Batch, device: str) -> tuple[float, float]:
    """Seconds of a pass in fp32 and in bf16: in turns, since others work on this machine too, and
    the best of each, since the first also makes kernels."""
    fp32_s = bf16_s = math.inf
    began = time.perf_counter()
    for _ in range(rounds):
        fp32_s = min(fp32_s, _pass_s(step, batch, device, bf16=False))
        bf16_s = min(bf16_s, _pass_s(step, batch, device, bf16=True))
        if time.perf_counter() - began > ENOUGH_S:
            break
    return fp32_s, bf16_s


def _pass_s(step: Step, batch: Batch, device: str, *, bf16: bool) -> float:
    wait: Callable[[], None] = torch.cuda.synchronize if device == "cuda" else lambda: None
    for network in step.networks().values():
        network.zero_grad(set_to_none=True)
    wait()
    began = time.perf_counter()
    with torch.autocast(device, torch.bfloat16, enabled=bf16):
        step.backward(batch, share=1.0)
    wait()
    return time.perf_counter() - began


def _has_volumes(step: Step) -> bool:
    return any(
        isinstance(module, nn.Conv3d | nn.ConvTranspose3d)
        for network in step.networks().values()
        for module in network.modules()
    )
