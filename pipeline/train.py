"""The one training loop: iterate, accumulate, clip, checkpoint, resume, report.

What an iteration *is* belongs to the step (pipeline/steps). Every batch is a function of the
seed and its number alone, so a run that was killed ends as an unbroken one does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from pipeline.config import RunConfig, Train, build, digest
from pipeline.errors import ConfigError
from pipeline.models.shell import HUModel, build_loss, build_model
from pipeline.steps.supervised import Batch

Log = Callable[[dict[str, float], int], None]
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Device:
    """Where and how precisely to compute."""

    kind: str
    bf16: bool


def choose_device(settings: Train) -> Device:
    """Resolve `auto`; raises ConfigError for what this machine does not have."""
    cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not cuda:
        raise ConfigError("train.device: cuda, but PyTorch finds no GPU here; set it to auto")
    kind = "cuda" if cuda and settings.device != "cpu" else "cpu"
    fast = torch.cuda.is_bf16_supported() if kind == "cuda" else _cpu_has_fast_bf16()
    if settings.precision == "bf16" and not fast:
        # Emulated bf16 convolutions were measured 14 times slower than fp32.
        raise ConfigError(
            f"train.precision: bf16, but this {kind} has no bf16 arithmetic; set it to auto"
        )
    return Device(kind, bf16=fast and settings.precision != "fp32")


def _cpu_has_fast_bf16() -> bool:
    capabilities = torch.backends.cpu.get_cpu_capability(), torch.cpu.get_capabilities()
    return bool(capabilities[1].get("avx512_bf16") or capabilities[1].get("amx_bf16"))


def train(
    config: RunConfig, dataset: Dataset, *, folder: Path, log: Log, data_digest: str
) -> HUModel:
    """Train the run's model on `dataset` and return it in fp32 on the CPU, in eval mode.

    dataset: item i is the i-th training pair, {"input", "target"}, each [1, rows, columns] in
    HU; its length is iterations x accumulate x batch. folder: where the checkpoint is kept;
    one of another configuration or data set is refused. log gets metrics and the step.
    """
    settings = config.train
    device = choose_device(settings)
    torch.manual_seed(settings.seed)
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    model = build_model(config).to(device.kind, memory_format=layout)
    step = build(
        config.step,
        key="step",
        base=object,
        model=torch.compile(model) if settings.compile else model,
        loss=build_loss(config.loss),
        settings=settings,
    )
    loop = Loop(model, step, device, settings)
    identity = digest([config.resolved(), data_digest])
    done = loop.resume(folder / CHECKPOINT, identity)
    loop.run(
        dataset, start=done, log=log, save=lambda n: loop.save(folder / CHECKPOINT, n, identity)
    )
    return model.to("cpu", memory_format=torch.contiguous_format).eval()


@dataclass
class Loop:
    """The state of a training: the model and the step that moves it."""

    model: nn.Module
    step: object
    device: Device
    settings: Train

    def run(self, dataset: Dataset, *, start: int, log: Log, save: Callable[[int], None]) -> None:
        settings = self.settings
        batches = self._batches(dataset, start)
        self.model.train()
        began, waited = time.perf_counter(), 0.0
        for iteration in range(start + 1, settings.iterations + 1):
            metrics: dict[str, float] = {}
            for _ in range(settings.accumulate):
                asked = time.perf_counter()
                batch = next(batches)
                waited += time.perf_counter() - asked
                with torch.autocast(self.device.kind, torch.bfloat16, enabled=self.device.bf16):
                    metrics |= self.step.backward(batch, share=1 / settings.accumulate)
            metrics |= self.step.update()
            if iteration % settings.log_every == 0 or iteration == settings.iterations:
                seconds = time.perf_counter() - began
                patches = (iteration - start) * settings.batch * settings.accumulate
                metrics["patches_per_s"] = patches / seconds
                metrics["waiting_fraction"] = waited / seconds
                log(metrics, iteration)
            if iteration % settings.checkpoint_every == 0 or iteration == settings.iterations:
                save(iteration)

    def _batches(self, dataset: Dataset, start: int) -> Iterator[Batch]:
        settings = self.settings
        first = start * settings.accumulate * settings.batch
        rest = Subset(dataset, range(first, len(dataset)))
        loader = DataLoader(
            rest,
            batch_size=settings.batch,
            num_workers=settings.workers,
            pin_memory=self.device.kind == "cuda",
            persistent_workers=settings.workers > 0,
        )
        for batch in loader:
            yield {
                name: values.to(self.device.kind, non_blocking=True)
                for name, values in batch.items()
            }

    def save(self, path: Path, iteration: int, identity: str) -> None:
        """Write the checkpoint whole or not at all."""
        state = {
            "identity": identity,
            "iteration": iteration,
            "model": self.model.state_dict(),
            "step": self.step.state_dict(),
            "generator": torch.get_rng_state(),
        }
        partial = path.with_suffix(".partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, partial)
        os.replace(partial, path)

    def resume(self, path: Path, identity: str) -> int:
        """Take up the checkpoint at `path`, if any; returns the iterations already done."""
        if not path.exists():
            return 0
        state = torch.load(path, map_location=self.device.kind, weights_only=True)
        if state["identity"] != identity:
            raise ConfigError(
                f"{path} belongs to another configuration or data set; "
                "give another --out or remove that file"
            )
        self.model.load_state_dict(state["model"])
        self.step.load_state_dict(state["step"])
        torch.set_rng_state(state["generator"].cpu())
        return int(state["iteration"])
