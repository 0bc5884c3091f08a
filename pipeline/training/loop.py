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
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from pipeline.config.component import build, named
from pipeline.config.names import digest
from pipeline.config.run import RunConfig
from pipeline.config.sections import Train
from pipeline.core.errors import ConfigError
from pipeline.models.adapters.base import ModelAdapter, build_loss, build_model, place
from pipeline.models.adapters.weights import load_weights
from pipeline.models.computing.processor import has_bf16
from pipeline.training.checkpoint import Checkpoint, OnDamage
from pipeline.training.device import training_device
from pipeline.training.distributed import ProcessGroup, process_group
from pipeline.training.finite import (
    NotFiniteError,
    faults_of,
    require_finite,
    require_finite_weights,
)
from pipeline.training.precision import Precision, faster_precision, require_sound
from pipeline.training.steps.base import Batch, Step

if TYPE_CHECKING:  # it reads patches, and so imports MONAI, which takes seconds
    from pipeline.training.best_weights import BestWeights

Log = Callable[[dict[str, float], int], None]
#: The precision of checkpoints of version 0.1.0, which do not say it.
UNRECORDED = {"used": "fp32", "why": "the checkpoint is of a version that did not record it"}


def train(
    config: RunConfig,
    dataset: Dataset,
    *,
    folder: Path,
    log: Log,
    data_digest: str,
    selection: BestWeights | None = None,
    on_precision: Callable[[Precision], None] = lambda precision: None,
    on_damage: OnDamage = lambda fault: None,
) -> ModelAdapter:
    """Train the run's model on `dataset` and return it in fp32 on the CPU, in eval mode.

    dataset: item i is the i-th training pair, {"input", "target"}, each [1, rows, columns] in
    HU; iterations x accumulate x batch of them are taken. folder: where the checkpoint is kept,
    under the digest of configuration and data, so that another run never resumes from it. log
    gets metrics and the iteration; a resumed training first repeats what was logged before.
    selection: validates, and may choose the weights to return; by default the last ones are.
    on_precision gets what is computed in, once that is known and where it changes. on_damage gets
    the fault of a damaged checkpoint whose predecessor the training goes on from; without one
    ConfigError is raised.

    Raises NotFiniteError where a loss, a gradient or a weight is not finite; where
    `train.precision: auto` had chosen bf16, the training goes on in fp32 from its last
    checkpoint, or from its beginning, and the precision says so.
    """
    require_step_for(process_group(), config)
    identity = digest([_what_training_depends_on(config), data_digest])
    attempt = Attempt(
        config, dataset, Checkpoint(folder, identity), selection, on_precision, on_damage
    )
    try:
        return attempt.run(log)
    except NotFiniteError as error:
        if config.train.precision != "auto" or not error.in_bf16:
            raise
        instead = Precision("fp32", f"bf16 failed: {error}")
        return attempt.run(log, instead)


@dataclass(frozen=True)
class Attempt:
    """A training from its checkpoint, or from its beginning, to its end."""

    config: RunConfig
    dataset: Dataset
    checkpoint: Checkpoint
    selection: BestWeights | None
    on_precision: Callable[[Precision], None]
    on_damage: OnDamage

    def run(self, log: Log, precision: Precision | None = None) -> ModelAdapter:
        """precision: what to compute in whatever the configuration says, after another failed."""
        settings, own = self.config.train, process_group()
        device = training_device(settings)
        torch.manual_seed(settings.seed)
        model, step = build_training(self.config, device)
        require_sound(step, device, settings.precision)
        strength, model.strength = model.strength, 1.0  # or the network would make up for it
        if self.selection is not None and precision is not None:
            self.selection.forget()
        loop = Loop(model, step, device, settings, self.checkpoint, self.selection, own)
        # What came before a failure was logged when it came.
        again = log if precision is None else lambda metrics, iteration: None
        done = loop.resume(again, self.on_damage)
        loop.precision = precision or self._precision(device, loop.precision if done else None)
        self.on_precision(loop.precision)
        loop.run(self.dataset, start=done, log=log)
        if self.selection is not None and self.selection.chooses:
            model.load_state_dict(self.selection.weights)
        model.strength = strength
        return place(model, "cpu", channels_last=False).eval()

    def _precision(self, device: str, before: Precision | None) -> Precision:
        """As asked for, as before the training was interrupted, or as measured here."""
        settings, own = self.config.train, process_group()
        if settings.precision != "auto":
            return Precision(settings.precision)
        if before is not None and (not before.bf16 or has_bf16(device)):
            return before
        if not own.is_first:
            return Precision(**own.broadcast())
        with torch.random.fork_rng(devices=None if device == "cuda" else []):
            _, step = build_training(self.config, device, alone=True)
            batch = default_collate([self.dataset[item] for item in range(settings.batch)])
            batch = {name: values.to(device) for name, values in batch.items()}
            return Precision(**own.broadcast(faster_precision(step, batch, device).to_dict()))


def build_training(
    config: RunConfig, device: str, *, alone: bool = False
) -> tuple[ModelAdapter, Step]:
    """The run's model on a device and the step that will move it, from torch's global generator.

    alone: neither compiled nor joined with other processes. Raises ConfigError where the
    configuration names what cannot be built, or weights that do not fit.
    """
    settings = config.train
    model = place(build_model(config), device, channels_last=settings.channels_last)
    if settings.start_from is not None:
        load_weights(model, Path(settings.start_from))
    trained: Any = model
    if not alone:
        trained = process_group().parallel(torch.compile(model) if settings.compile else model)
    return model, build(
        config.step,
        key="step",
        base=Step,
        model=trained,
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
    that was interrupted over an upgrade goes on, on inputs that are drawn again.
    """
    judged_later = ("name", "metrics", "windows", "convention", "phantoms", "register", "strength")
    return {key: value for key, value in config.resolved().items() if key not in judged_later}


@dataclass
class Loop:
    """The state of a training: the model and the step that moves it."""

    model: ModelAdapter
    step: Step
    device: str
    settings: Train
    checkpoint: Checkpoint
    selection: BestWeights | None = None
    process_group: ProcessGroup = field(default_factory=ProcessGroup)
    precision: Precision = field(default_factory=lambda: Precision("fp32"))
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
                with torch.autocast(self.device, torch.bfloat16, enabled=self.precision.bf16):
                    metrics |= self.step.backward(batch, share=1 / settings.accumulate)
            self._require_finite(metrics, iteration)
            metrics |= self.step.update()
            is_last = iteration == settings.iterations
            looked = time.perf_counter()
            validation = self._validate(iteration, is_last)
            began += time.perf_counter() - looked  # the speed is the training's alone
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

    def _require_finite(self, metrics: dict[str, float], iteration: int) -> None:
        faults = faults_of(self.step, metrics)
        if self.process_group.mean({"faults": float(len(faults))})["faults"]:
            # All processes stop together, or the others would wait for this one.
            faults = faults or ["another process's loss"]
            require_finite(faults, iteration=iteration, precision=self.precision.used)

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
            pin_memory=self.device == "cuda",
            persistent_workers=settings.workers > 0,
            # Its own, or the loader would draw from the network's and a resumed run differ.
            generator=torch.Generator(),
        )
        for batch in loader:
            yield {
                name: values.to(self.device, non_blocking=True) for name, values in batch.items()
            }

    def save(self, iteration: int) -> None:
        """Write the checkpoint whole or not at all; NotFiniteError where it would be no use."""
        require_finite_weights(self.model, iteration=iteration, precision=self.precision.used)
        state = {
            "iteration": iteration,
            "precision": self.precision.to_dict(),
            "logged": self.logged,
            "model": self.model.state_dict(),
            "step": self.step.state_dict(),
            "generators": _generators(self.device),
            "selection": self.selection.state_dict() if self.selection else {},
        }
        self.checkpoint.save(state)

    def resume(self, log: Log, on_damage: OnDamage = lambda fault: None) -> int:
        """Load the checkpoint, if any; returns the iterations already done.

        on_damage, and what is raised: as of Checkpoint.load.
        """
        message = "the processes do not all see the checkpoint; they need one disk"
        self.process_group.require_same(int(self.checkpoint.exists()), message)
        state = self.checkpoint.load(self.device, on_damage)
        self.process_group.require_same(state["iteration"] if state else 0, message)
        if state is None:
            return 0
        self.model.load_state_dict(state["model"])
        self.step.load_state_dict(state["step"])
        _set_generators(state["generators"])
        if self.selection:
            self.selection.load_state_dict(state["selection"])
        self.precision = Precision(**state.get("precision", UNRECORDED))
        self.logged = state["logged"]
        for iteration, metrics in self.logged:
            log(metrics, iteration)
        return int(state["iteration"])


def _generators(device: str) -> list[torch.Tensor]:
    """The states of the generators that a network draws from (dropout)."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state()] if device == "cuda" else states


def _set_generators(states: list[torch.Tensor]) -> None:
    torch.set_rng_state(states[0].cpu())
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1].cpu())
