"""fp32 or bf16: whichever trains the run's own network faster on the processor at hand, and right.

No rule of thumb holds: on one processor bf16 took from a quarter to nine tenths of fp32's time,
by the network (docs/performance.md), and where it is emulated 14 times as much.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from pipeline.config.names import digest
from pipeline.core.errors import ConfigError
from pipeline.core.measured_choices import measured_once, place_for
from pipeline.models.computing.processor import computing_facts
from pipeline.models.computing.timing import HOPELESS, best_in_turns, faster
from pipeline.training.finite import faults_of
from pipeline.training.steps.base import Batch, Step

ROUNDS = 3
#: Images of the batch in the first passes, whose times only show whether bf16 is hopeless.
FEW = 2

VOLUMES_ON_CPUS = (
    "oneDNN's bf16 gradients of 3-D convolutions are wrong on a CPU where a volume has few slices"
)


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
        """As report.json, a checkpoint and the cache have it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> Precision:
        """From to_dict; raises TypeError or ValueError for anything else."""
        found = cls(**kept)
        if found.used not in ("fp32", "bf16"):
            raise ValueError(f"there is no precision {found.used}")
        return found


def require_sound(step: Step, device: str, precision: str) -> None:
    """Raises ConfigError where `train.precision: bf16` would train on wrong gradients."""
    if precision == "bf16" and device == "cpu" and _has_volumes(step):
        raise ConfigError(f"train.precision: bf16, but {VOLUMES_ON_CPUS}; set it to auto or fp32")


def faster_precision(step: Step, batch: Batch, device: str) -> Precision:
    """Times the step's own passes over a batch, in fp32 and bf16; once on this machine for its
    like, where the cache folder can be written to (pipeline.core.measured_choices).

    step: one that is thrown away afterwards, since passes change it. batch: of the training, on
    the device.
    """
    if device == "cpu" and _has_volumes(step):
        return Precision("fp32", VOLUMES_ON_CPUS)
    networks = {name: str(network) for name, network in step.networks().items()}
    shapes = {name: list(values.shape) for name, values in batch.items()}
    facts = {
        "of": "training",
        "step": type(step).__name__,
        "networks": digest(networks),
        "shapes": shapes,
        **computing_facts(device),
    }
    measure = partial(_measure, step, batch, device)
    place = place_for(facts)
    return measure() if place is None else measured_once(place, facts, measure, Precision.from_dict)


def _measure(step: Step, batch: Batch, device: str) -> Precision:
    few = {name: values[:FEW] for name, values in batch.items()}
    seconds: dict[str, float] = {}
    for images, rounds in ((few, 2), (batch, ROUNDS)):
        passes = {
            "fp32": partial(_pass_s, step, images, device, bf16=False),
            "bf16": partial(_pass_s, step, images, device, bf16=True),
        }
        seconds = best_in_turns(passes, rounds)
        if faults_of(step, {}):  # of the last pass
            return Precision("fp32", "bf16 gradients of the first batch are not finite")
        if seconds["bf16"] > HOPELESS * seconds["fp32"]:
            break
    times = seconds["fp32"], seconds["bf16"]
    if faster(seconds, "fp32") == "bf16":
        return Precision("bf16", "measured: faster than fp32 here", *times)
    return Precision("fp32", "measured: bf16 gains nothing here", *times)


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
