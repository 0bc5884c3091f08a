"""What a run can know at its start: everything that its configuration names is built once.

A misspelled argument, a class that is not allowed or a GPU that is not there is refused before
ingest, which may take hours.
"""

from __future__ import annotations

import torch

from pipeline.config.component import build, named
from pipeline.config.run import RunConfig
from pipeline.config.task_runs import DenoiseRun, RestoreRun, SegmentRun
from pipeline.core.errors import ConfigError
from pipeline.models.adapters.base import build_loss
from pipeline.training.device import training_device
from pipeline.training.distributed import process_group
from pipeline.training.loop import build_training, require_step_for
from pipeline.training.precision import require_sound
from pipeline.training.steps.base import Step


def check_run(config: RunConfig) -> None:
    """Raises ConfigError for what training would stumble over, with the key and the likely one.

    Device and precision, degradation, transforms, model, loss and step are resolved and built, as
    training will build them; where a segmentation is still to be planned, what does not depend on
    the plan. Leaves torch's generators as they were.
    """
    device = training_device(config.train)
    named(config.model, key="model", base=torch.nn.Module)
    require_step_for(process_group(), config)
    _require_step_of_sequences(config)
    if config.degradation is not None:
        build(config.degradation, key="degradation", base=object)
    if isinstance(config, DenoiseRun | SegmentRun) and config.transforms is not None:
        _check_transforms(config)
    if not config.is_complete:
        if config.loss is not None:
            build_loss(config.loss)
        return
    with torch.random.fork_rng(devices=[]):
        _, step = build_training(config, device)
    require_sound(step, device, config.train.precision)


def _require_step_of_sequences(config: RunConfig) -> None:
    """Neighbours make a batch of two places in a row, which no other step takes, nor this one
    anything else."""
    step, target = named(config.step, key="step", base=Step), config.step.target
    neighbours = config.restoration.neighbours if isinstance(config, RestoreRun) else None
    if step.takes_sequences and neighbours is None:
        raise ConfigError(
            f"step.target: {target} learns of two places of a sequence; set restoration.neighbours "
            "(0 where each is restored by itself), or for single pictures another step, such as "
            "supervised"
        )
    if neighbours is not None and not step.takes_sequences:
        raise ConfigError(
            f"restoration.neighbours: {target} learns of pictures one by one; leave it out, or set "
            "step.target to temporal_consistency or adversarial_frames"
        )


def _check_transforms(config: DenoiseRun | SegmentRun) -> None:
    # MONAI takes seconds to import
    from pipeline.data.monai_transforms import named_label_transforms, named_transforms

    if isinstance(config, SegmentRun):
        named_label_transforms(config.transforms)
        return
    for part in ("training", "slices", "validation"):
        named_transforms(config.transforms, part)
