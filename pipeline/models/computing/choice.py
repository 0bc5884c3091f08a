"""Which way a denoiser is computed: the fastest of those that give what fp32 gives.

Measured once for each processor, network and size of slices, on a synthetic slice, and kept on this
machine (pipeline.core.measured_choices), so that a series comes out the same every time. Only on a
CPU: on a GPU in fp32.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import nn

from pipeline.config.computing import Compute
from pipeline.core.measured_choices import measured_once, place_for
from pipeline.core.types import ImageHU, Json
from pipeline.models.adapters.base import ModelAdapter
from pipeline.models.computing.processor import computing_facts, has_bf16
from pipeline.models.computing.timing import HOPELESS, best_in_turns, faster
from pipeline.models.computing.ways import (
    FP32,
    LIMIT,
    Difference,
    Way,
    computed_by,
    convolutions,
    difference,
    has_winograd,
)
from pipeline.physics.phantoms.patient import patient_phantom

#: Of a series with fewer slices, measuring and checking take longer than they save.
MIN_SLICES = 24
#: Ways are kept to this share of the limit on the synthetic slice: on real ones, single voxels at
#: edges differed three to four times as much.
MARGIN = 0.15
ROUNDS = 5
#: Errors of single convolutions may add up to this, the first that is near enough together: they
#: meet in few voxels.
SUMS_HU = (0.4, 0.25, 0.15, 0.08)
#: Side of the part of the slice on which each convolution is looked at by itself.
PART = 256
#: Of the synthetic slice, at the centre of the body.
NOISE_HU = 40.0
#: Changes where the measurement itself does: what was kept before is then measured again.
MEASUREMENT = 1


@dataclass(frozen=True)
class Choice:
    """A way and why. seconds: of a slice, by way, where that was measured. difference: from fp32
    on the slice that was looked at last; None where nothing was."""

    way: Way
    why: str
    seconds: dict[str, float] = field(default_factory=dict)
    difference: Difference | None = None

    def to_dict(self) -> Json:
        """As report.json and the cache have it."""
        return {
            "way": self.way.to_dict(),
            "description": self.way.description,
            "why": self.why,
            "seconds": self.seconds,
            "difference": asdict(self.difference) if self.difference else None,
        }

    @classmethod
    def from_dict(cls, kept: Json) -> Choice:
        """From to_dict; raises KeyError, TypeError or ValueError for anything else."""
        seconds = {str(name): float(value) for name, value in kept["seconds"].items()}
        distance = Difference(**kept["difference"]) if kept["difference"] else None
        return cls(Way.from_dict(kept["way"]), str(kept["why"]), seconds, distance)

    @property
    def sentence(self) -> str:
        """For a derived header."""
        checked = self.way != FP32 and self.difference is not None
        near = f", within {LIMIT.voxel_hu:g} HU of fp32 on a slice of it" if checked else ""
        return f"Computed in {self.way.description}{near}."


def choose(
    model: nn.Module, *, network: str, shape: tuple[int, int], slices: int, asked: Compute
) -> Choice:
    """How to compute a series with so many slices of `shape` [rows, columns].

    model: HU in, HU out, [batch, 1 or 2 neighbours + 1, rows, columns]. network: the digest of its
    weights and configuration. asked: auto, or always fp32, or bf16 without timing it; what is not
    within LIMIT of fp32 is not taken in any case.
    """
    if asked == "fp32":
        return Choice(FP32, "asked for")
    device = next((weights.device.type for weights in model.parameters()), "cpu")
    if device != "cpu":
        return Choice(FP32, "other ways are for CPUs")
    if not isinstance(model, ModelAdapter) or not convolutions(model):
        return Choice(FP32, "the network has no convolutions of images")
    if asked == "auto" and slices < MIN_SLICES:
        return Choice(FP32, f"a series of fewer than {MIN_SLICES} slices is not worth measuring")
    if not has_bf16("cpu") and not (asked == "auto" and has_winograd(model)):
        return Choice(FP32, "this processor has no bf16 arithmetic")
    facts = {
        "of": "inference",
        "measurement": MEASUREMENT,
        "network": network,
        "shape": list(shape),
        "asked": asked,
        **computing_facts("cpu"),
    }
    place = place_for(facts)
    if place is None:
        return Choice(FP32, "the cache folder cannot be written to: see LDCT_CACHE_DIR")
    measure = partial(_measured, model, shape, timed=asked == "auto")
    return measured_once(place, facts, measure, Choice.from_dict)


def checked(
    choice: Choice,
    model: ModelAdapter,
    image_hu: ImageHU,
    applied: Callable[[ModelAdapter], nn.Module] = lambda model: model,
) -> Choice:
    """The choice, if it gives what fp32 gives on a slice [rows, columns] of the series at hand;
    else fp32. applied: the model as it is for this series, such as at its dose."""
    if choice.way == FP32:
        return choice
    seen = _seen(model, image_hu)
    with _one_worker():
        reference_hu = _output(applied(model), seen)
        output_hu = _output(applied(computed_by(model, choice.way)), seen)
    distance = difference(output_hu, reference_hu)
    if distance.within(LIMIT):
        return replace(choice, difference=distance)
    why = f"{choice.way.description} is {distance.voxel_hu:.2g} HU from fp32 on this series"
    return Choice(FP32, why, choice.seconds, distance)


def _measured(model: ModelAdapter, shape: tuple[int, int], *, timed: bool) -> Choice:
    image = _seen(model, synthetic_slice_hu(shape))
    with _one_worker():
        reference_hu = _output(model, image)
        near: dict[str, tuple[Way, Difference]] = {}
        for way in _candidates(model, image, reference_hu, winograd_too=timed):
            distance = difference(_output(computed_by(model, way), image), reference_hu)
            if distance.within(LIMIT, MARGIN):
                near[way.name] = way, distance
        if not near:
            return Choice(FP32, "no other way is as near to fp32 as it must be")
        if not timed:
            way, distance = next(iter(near.values()))
            return Choice(way, "asked for", difference=distance)
        ways = {"fp32": FP32} | {name: way for name, (way, _) in near.items()}
        seconds = _seconds(model, image, ways)
    best = faster(seconds, "fp32")
    if best == "fp32":
        return Choice(FP32, "measured: no other way is faster here", seconds)
    return Choice(near[best][0], "measured: faster than fp32 here", seconds, near[best][1])


def _candidates(
    model: ModelAdapter, image: torch.Tensor, reference_hu: ImageHU, *, winograd_too: bool
) -> Iterator[Way]:
    """bf16 first: in all of the network, then in as many convolutions as the limit allows."""
    if has_bf16("cpu"):
        yield Way("bf16")
        yield from _some_layers(model, image, reference_hu)
    if winograd_too and has_winograd(model):
        yield Way("fp32_direct")


def _some_layers(model: ModelAdapter, image: torch.Tensor, reference_hu: ImageHU) -> Iterator[Way]:
    """Those convolutions in bf16 whose errors, each alone, are the least: as many as together are
    near enough."""
    part, names = _middle(image), convolutions(model)
    of_part_hu = _output(model, part)

    def error_hu(name: str) -> float:
        """Of one convolution in bf16."""
        way = Way("bf16_layers", (name,))
        return difference(_output(computed_by(model, way), part), of_part_hu).voxel_hu

    alone = {name: error_hu(name) for name in names}
    for sum_hu in SUMS_HU:
        taken = _least(alone, sum_hu)
        if not taken:
            return
        way = Way("bf16_layers", tuple(name for name in names if name in taken), len(names))
        if difference(_output(computed_by(model, way), image), reference_hu).within(LIMIT, MARGIN):
            yield way
            return


def _least(errors_hu: dict[str, float], sum_hu: float) -> set[str]:
    """Those of the least errors that add up to no more than this."""
    taken, sum_so_far = set(), 0.0
    for name in sorted(errors_hu, key=lambda name: errors_hu[name]):
        sum_so_far += errors_hu[name]
        if sum_so_far > sum_hu:
            break
        taken.add(name)
    return taken


def _seconds(model: ModelAdapter, image: torch.Tensor, ways: dict[str, Way]) -> dict[str, float]:
    models = {name: computed_by(model, way) for name, way in ways.items()}
    first = best_in_turns(_timed(models, _middle(image)), 2)
    hopeful = [name for name in models if first[name] <= HOPELESS * first["fp32"]]
    return best_in_turns(_timed({name: models[name] for name in hopeful}, image), ROUNDS)


def _timed(models: Mapping[str, nn.Module], image: torch.Tensor) -> dict[str, Callable[[], float]]:
    # A thread's own time, where there is but one: other programs do not count.
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter

    def seconds(model: nn.Module) -> float:
        began = clock()
        _output(model, image)
        return clock() - began

    return {name: partial(seconds, model) for name, model in models.items()}


@contextmanager
def _one_worker() -> Iterator[None]:
    """With as many threads as a slice has in pipeline.inference.denoise, of a batch of 4."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // min(4, threads)))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.inference_mode()
def _output(model: nn.Module, image: torch.Tensor) -> ImageHU:
    return model(image)[0, 0].numpy()


def _seen(model: nn.Module, image_hu: ImageHU) -> torch.Tensor:
    """[1, channels, rows, columns]: the slice, and for a model with neighbours itself as those."""
    channels = 2 * int(getattr(model, "neighbours", 0)) + 1
    return torch.from_numpy(np.array(image_hu, dtype=np.float32)).expand(1, channels, -1, -1)


def _middle(image: torch.Tensor) -> torch.Tensor:
    top, left = (max(0, (side - PART) // 2) for side in image.shape[2:])
    return image[:, :, top : top + PART, left : left + PART].contiguous()


def synthetic_slice_hu(shape: tuple[int, int]) -> ImageHU:
    """A slice through a synthetic chest [rows, columns] with the noise of a low dose; always the
    same one."""
    phantom = patient_phantom(
        np.random.default_rng(0), slices=1, matrix=max(shape), noise_hu=NOISE_HU
    )
    top, left = ((max(shape) - side) // 2 for side in shape)
    return phantom.image_hu[0, top : top + shape[0], left : left + shape[1]]
