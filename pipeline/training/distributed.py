"""Several processes that train one model together, and what they communicate.

`torchrun` starts them and numbers them (RANK, WORLD_SIZE, LOCAL_RANK); torch.distributed
joins them, by NCCL between GPUs and by Gloo otherwise. Without torchrun there is one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from pipeline.core.errors import LdctError

#: How long the others wait for the first one, which prepares the data alone.
_TIMEOUT = timedelta(hours=24)


@dataclass(frozen=True)
class ProcessGroup:
    """Which of how many processes this is."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and logs."""
        return self.rank == 0

    def share(self, batch: int) -> int:
        """The part of a batch that each process takes; LdctError where it cannot be divided."""
        if batch % self.count:
            raise LdctError(f"train.batch: {batch} cannot be divided among {self.count} processes")
        return batch // self.count

    def parallel(self, model: Any) -> Any:
        """The model, whose gradients are the mean over all processes after each backward."""
        return ParallelModel(model) if self.count > 1 else model

    def mean(self, metrics: dict[str, float]) -> dict[str, float]:
        """Each figure's mean over the processes."""
        if self.count == 1:
            return metrics
        figures = torch.tensor(list(metrics.values()), dtype=torch.float64)
        distributed.all_reduce(figures)
        return dict(zip(metrics, (figures / self.count).tolist(), strict=True))

    def require_same(self, number: int, message: str) -> None:
        """Raises LdctError with `message` in every process where they have different numbers."""
        found: list[Any] = [number] * self.count
        if self.count > 1:
            distributed.all_gather_object(found, number)
        if len(set(found)) > 1:
            raise LdctError(f"{message}: {', '.join(map(str, found))}")

    def broadcast(self, value: Any = None) -> Any:
        """The value that the first process passes, in all of them."""
        box = [value]
        if self.count > 1:
            distributed.broadcast_object_list(box)
        return box[0]


class ParallelModel(DistributedDataParallel):
    """Forwards attributes to the model that it wraps, so that a step need not know of it."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)


def process_group() -> ProcessGroup:
    """This process among those that torchrun started; joins them when first asked."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return ProcessGroup()
    if not distributed.is_initialized():
        backend = "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
            backend = "cpu:gloo,cuda:nccl"
        distributed.init_process_group(backend, timeout=_TIMEOUT)
    return ProcessGroup(distributed.get_rank(), count)
