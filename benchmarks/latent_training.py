"""What the benchmarks of latent spaces share: a training through the one loop, and a file."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import torch

from pipeline.config.names import digest
from pipeline.config.sections import Normalize, Train
from pipeline.data.images import ImageItems
from pipeline.models.adapters.base import HUModel
from pipeline.models.vae import VAE
from pipeline.training.device import training_device
from pipeline.training.loop import Checkpoint, Loop
from pipeline.training.steps.variational import Variational

RESULTS = Path(__file__).parent / "results"


def parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--work", type=Path, default=Path("out/latent"))
    parser.add_argument("--iterations", type=int, help="fewer, for a trial")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser


def timed(name: str, part: Callable[[], dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Run a part and write what it found, with its minutes, to results/NAME.json."""
    arguments.results.mkdir(parents=True, exist_ok=True)
    began, spent = time.time(), time.process_time()
    results = part()
    results["minutes"] = (time.time() - began) / 60
    results["cpu_minutes"] = (time.process_time() - spent) / 60
    results["machine"] = machine.facts()
    text = json.dumps(results, indent=2) + "\n"
    (arguments.results / f"{name}.json").write_text(text)
    print(text)


def fit(
    name: str,
    make: Callable[[], VAE],
    items: Callable[[int], ImageItems],
    *,
    normalize: Normalize,
    arguments: argparse.Namespace,
    train: dict[str, Any],
    **step: Any,
) -> HUModel:
    """A VAE trained through the one loop; `items` gets how many the training will take."""
    if arguments.iterations:
        train = train | {"iterations": arguments.iterations}
    settings = Train(**train, precision="fp32", channels_last=False, clip_gradient_norm=10.0)
    torch.manual_seed(settings.seed)
    model = HUModel(make(), normalize=normalize, residual=False)
    identity = digest([name, settings.model_dump(), step])
    loop = Loop(
        model,
        Variational(model, settings, **step),
        training_device(settings),
        settings,
        Checkpoint(arguments.work, identity),
    )

    def log(metrics: dict[str, float], iteration: int) -> None:
        if iteration % 500 == 0:
            parts = ", ".join(f"{key} {metrics[key]:.1f}" for key in ("reconstruction", "kl"))
            print(f"{name} {iteration}: {parts}", flush=True)

    done = loop.resume(log)
    loop.run(items(settings.iterations * settings.batch), start=done, log=log)
    return model.eval()
