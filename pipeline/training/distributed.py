"""Several processes that train as one: who they are, and what they tell each other.

`torchrun` starts them and says who each is (RANK, WORLD_SIZE, LOCAL_RANK); torch.distributed
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

#: The others wait so long for the first one, which prepares the data alone.
_PATIENCE = timedelta(hours=24)


@dataclass(frozen=True)
class ProcessGroup:
    """Which of how many processes this is."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Of all processes this one writes."""
        return self.rank == 0

    def share(self, batch: int) -> int:
        """Of a batch, what each process takes. Raises LdctError where it cannot be divided."""
        if batch % self.count:
            raise LdctError(f"train.batch: {batch} cannot be divided among {self.count} processes")
        return batch // self.count

    def spread(self, model: Any) -> Any:
        """The model, whose gradients are the mean over all processes after each backward."""
        return Spread(model) if self.count > 1 else model

    def mean(self, metrics: dict[str, float]) -> dict[str, float]:
        """Each figure's mean over the processes."""
        if self.count == 1:
            return metrics
        figures = torch.tensor(list(metrics.values()), dtype=torch.float64)
        distributed.all_reduce(figures)
        return dict(zip(metrics, (figures / self.count).tolist(), strict=True))

    def require_same(self, number: int, told: str) -> None:
        """Raises LdctError with `told` in every process where they do not all have one number."""
        found: list[Any] = [number] * self.count
        if self.count > 1:
            distributed.all_gather_object(found, number)
        if len(set(found)) > 1:
            raise LdctError(f"{told}: {', '.join(map(str, found))}")

    def hand_out(self, what: Any = None) -> Any:
        """What the first process gives, in all of them."""
        box = [what]
        if self.count > 1:
            distributed.broadcast_object_list(box)
        return box[0]


class Spread(DistributedDataParallel):
    """Has the attributes of the model that it wraps: a step need not know of it."""

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
        distributed.init_process_group(backend, timeout=_PATIENCE)
    return ProcessGroup(distributed.get_rank(), count)
