"""Whether a training still computes with numbers, and where it does not."""

from __future__ import annotations

import math

import torch
from torch import nn

from pipeline.core.errors import LdctError
from pipeline.training.steps.base import Step

#: So many parameters are named, at most.
NAMED = 3


class NotFiniteError(LdctError):
    """A loss, a gradient or a weight is infinite or NaN; the message says which and when."""

    def __init__(self, message: str, *, in_bf16: bool = False) -> None:
        super().__init__(message)
        self.in_bf16 = in_bf16


def faults_of(step: Step, metrics: dict[str, float]) -> list[str]:
    """What is not finite before an update: names of metrics, and of parameters' gradients."""
    faults = [name for name, value in metrics.items() if not math.isfinite(value)]
    for name, network in step.networks().items():
        found = _not_finite({n: p.grad for n, p in network.named_parameters()})
        faults += [f"the gradient of {name}.{_plain(parameter)}" for parameter in found]
    return faults


def require_finite(faults: list[str], *, iteration: int, precision: str) -> None:
    """Raises NotFiniteError with the first of `faults`, if there are any."""
    if not faults:
        return
    more = f" and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
    remedy = (
        "set train.precision to auto or fp32"
        if precision == "bf16"
        else "lower train.lr, lengthen train.warmup or set train.clip_gradient_norm"
    )
    raise NotFiniteError(
        f"training stopped at iteration {iteration}, in {precision}: not finite: "
        f"{', '.join(faults[:NAMED])}{more}; {remedy}",
        in_bf16=precision == "bf16",
    )


def require_finite_weights(network: nn.Module, *, iteration: int, precision: str) -> None:
    """Raises NotFiniteError where a weight or buffer of a network is not finite."""
    found = _not_finite(network.state_dict())
    require_finite([_plain(name) for name in found], iteration=iteration, precision=precision)


def _not_finite(tensors: dict[str, torch.Tensor | None]) -> list[str]:
    """Names of those that hold an infinity or NaN. One wait for a GPU, not one for each."""
    known = {
        name: values.detach()
        for name, values in tensors.items()
        if values is not None and values.is_floating_point() and values.numel()
    }
    if not known:
        return []
    # A sum of absolute values may overflow, the largest one does not; NaN goes through both.
    largest = torch._foreach_norm(list(known.values()), float("inf"))
    finite = torch.stack([one.float() for one in largest]).isfinite().tolist()
    return [name for name, sound in zip(known, finite, strict=True) if not sound]


def _plain(name: str) -> str:
    """A parameter's name without what DistributedDataParallel and torch.compile put before it."""
    return name.removeprefix("module.").removeprefix("_orig_mod.")
