"""The one training loop: iterate, accumulate, clip, checkpoint, resume, report.

What an iteration *is* belongs to the step (pipeline/training/steps). Every batch depends on the
seed and its number alone, so a run that was killed and resumed ends as an uninterrupted one does,
and several processes (pipeline.training.distributed) compute together what one would.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, Dataset, Subset

from pipeline.config.component import build, named
from pipeline.config.run import RunConfig, digest
from pipeline.config.sections import Train
from pipeline.core.atomic_files import replacing
from pipeline.core.errors import ConfigError
from pipeline.models.adapters.base import ModelAdapter, build_loss, build_model, place
from pipeline.models.adapters.weights import load_weights
from pipeline.training.distributed import ProcessGroup, process_group
from pipeline.training.steps.base import Batch, Step

if TYPE_CHECKING:  # it reads patches, and so imports MONAI, which takes seconds
    from pipeline.training.best_weights import BestWeights

Log = Callable[[dict[str, float], int], None]


@dataclass(frozen=True)
class Checkpoint:
    """Where a training is kept: a file of its own for each configuration and data set."""

    folder: Path
    identity: str

    @property
    def path(self) -> Path:
        """The file; the same configuration and data give the same name."""
        return self.folder / f"checkpoint-{self.identity[:16]}.pt"


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
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def train(
    config: RunConfig,
    dataset: Dataset,
    *,
    folder: Path,
    log: Log,
    data_digest: str,
    selection: BestWeights | None = None,
) -> ModelAdapter:
    """Train the run's model on `dataset` and return it in fp32 on the CPU, in eval mode.

    dataset: item i is the i-th training pair, {"input", "target"}, each [1, rows, columns] in
    HU; iterations x accumulate x batch of them are taken. folder: where the checkpoint is kept,
    under the digest of configuration and data, so that another run never resumes from it. log
    gets metrics and the iteration; a resumed training first repeats what was logged before.
    selection: chooses the weights to return; by default the last ones are.
    """
    settings, own = config.train, process_group()
    require_step_for(own, config)
    device = choose_device(settings)
    torch.manual_seed(settings.seed)
    model, step = build_training(config, device)
    strength, model.strength = model.strength, 1.0  # or the network would learn to make up for it
    identity = digest([_what_training_depends_on(config), data_digest])
    loop = Loop(model, step, device, settings, Checkpoint(folder, identity), selection, own)
    done = loop.resume(log)
    loop.run(dataset, start=done, log=log)
    if selection is not None:
        model.load_state_dict(selection.weights)
    model.strength = strength
    return place(model, "cpu", channels_last=False).eval()


def build_training(config: RunConfig, device: Device) -> tuple[ModelAdapter, Step]:
    """The run's model on a device and the step that will move it, from torch's global generator.

    Raises ConfigError where the configuration names what cannot be built, or weights that do not
    fit.
    """
    settings = config.train
    model = place(build_model(config), device.kind, channels_last=settings.channels_last)
    if settings.start_from is not None:
        load_weights(model, Path(settings.start_from))
    return model, build(
        config.step,
        key="step",
        base=Step,
        model=process_group().parallel(torch.compile(model) if settings.compile else model),
        **({"loss": build_loss(config.loss)} if config.loss else {}),
        settings=settings,
    )


def require_step_for(own: ProcessGroup, config: RunConfig) -> None:
    """Raises ConfigError for a step that several processes cannot take together."""
    if own.count > 1 and not named(config.step, key="step", base=Step).supports_ddp:
        raise ConfigError(f"step.target: {config.step.target} trains in one process; no torchrun")


def _what_training_depends_on(config: RunConfig) -> dict[str, Any]:
    """So that another gate, window or strength does not train the same weights once more.

    The version of the noise draws (pipeline.degradations.digest) is no part of it: a training
    that was interrupted over an upgrade goes on, on inputs that are drawn anew.
    """
    judged_later = ("name", "metrics", "windows", "convention", "phantoms", "register", "strength")
    return {key: value for key, value in config.resolved().items() if key not in judged_later}


@dataclass
class Loop:
    """The state of a training: the model and the step that moves it."""

    model: ModelAdapter
    step: Step
    device: Device
    settings: Train
    checkpoint: Checkpoint
    selection: BestWeights | None = None
    process_group: ProcessGroup = field(default_factory=ProcessGroup)
    logged: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    def run(self, dataset: Dataset, *, start: int, log: Log) -> None:
        """Train from iteration `start` + 1 to the last; log and save when due."""
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
            is_last = iteration == settings.iterations
            validation = self._validate(iteration, is_last)
            if iteration % settings.log_every == 0 or is_last or validation:
                metrics |= validation
                seconds = time.perf_counter() - began
                patches = (iteration - start) * settings.batch * settings.accumulate
                metrics["patches_per_s"] = patches / seconds
                metrics["waiting_fraction"] = waited / seconds
                metrics = self.process_group.mean(metrics)
                self.logged.append((iteration, metrics))
                log(metrics, iteration)
            if self.process_group.is_first and (
                iteration % settings.checkpoint_every == 0 or is_last
            ):
                self.save(iteration)

    def _validate(self, iteration: int, is_last: bool) -> dict[str, float]:
        if self.selection is None:
            return {}
        return self.selection.validate(self.model, iteration, last=is_last)

    def _batches(self, dataset: Dataset, start: int) -> Iterator[Batch]:
        settings = self.settings
        first = start * settings.accumulate * settings.batch
        total = settings.iterations * settings.accumulate * settings.batch
        # Of each batch every process takes its own items: together they are that batch.
        rest = Subset(
            dataset, range(first + self.process_group.rank, total, self.process_group.count)
        )
        loader = DataLoader(
            rest,
            batch_size=self.process_group.share(settings.batch),
            num_workers=settings.workers,
            pin_memory=self.device.kind == "cuda",
            persistent_workers=settings.workers > 0,
            # Its own, or the loader would draw from the network's and a resumed run differ.
            generator=torch.Generator(),
        )
        for batch in loader:
            yield {
                name: values.to(self.device.kind, non_blocking=True)
                for name, values in batch.items()
            }

    def save(self, iteration: int) -> None:
        """Write the checkpoint whole or not at all."""
        state = {
            "iteration": iteration,
            "logged": self.logged,
            "model": self.model.state_dict(),
            "step": self.step.state_dict(),
            "generators": _generators(self.device),
            "selection": self.selection.state_dict() if self.selection else {},
        }
        with replacing(self.checkpoint.path) as partial:
            torch.save(state, partial)

    def resume(self, log: Log) -> int:
        """Load the checkpoint, if any; returns the iterations already done."""
        path = self.checkpoint.path
        there = path.exists()
        message = "the processes do not all see the checkpoint; they need one disk"
        self.process_group.require_same(int(there), message)
        if not there:
            return 0
        state = torch.load(path, map_location=self.device.kind, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.step.load_state_dict(state["step"])
        _set_generators(state["generators"])
        if self.selection:
            self.selection.load_state_dict(state["selection"])
        self.logged = state["logged"]
        for iteration, metrics in self.logged:
            log(metrics, iteration)
        return int(state["iteration"])


def _generators(device: Device) -> list[torch.Tensor]:
    """The states of the generators that a network draws from (dropout)."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state()] if device.kind == "cuda" else states


def _set_generators(states: list[torch.Tensor]) -> None:
    torch.set_rng_state(states[0].cpu())
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1].cpu())
