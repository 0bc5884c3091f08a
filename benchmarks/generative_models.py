"""Generative models side by side: the same digits, one judge, real digits as the control.

    python benchmarks/generative_models.py [--seeds 0 1 2] [--only diffusion ...]

Trains what configs/ has for digits, on six of the ten sheets of scikit-learn's digits, with one
thread. Two sheets are what everything is compared with, the last two are the control: real digits
that no training has seen either. Writes results/generative_models.json, .md and .png, and keeps
the figures of each training in `--work`, so that it goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from generative_models_table import picture, table
from numpy.typing import NDArray

from pipeline.config.load import load_config
from pipeline.config.task_runs import GenerateRun
from pipeline.core.malloc import keep_freed_memory
from pipeline.evaluation.generation import stored_images
from pipeline.evaluation.samples import Images, Known, draw, figures_of
from pipeline.ingest.bundled_pictures import store_pictures
from pipeline.models.adapters.base import build_model
from pipeline.models.adapters.generative import Generative
from pipeline.store.store import Store
from pipeline.tasks.base import task_of
from pipeline.training.loop import train

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
COMPARED, CONTROL, TRAINING = (0, 1), (2, 3), range(4, 10)
DRAWN = 500


@dataclass(frozen=True)
class Way:
    """A YAML of configs/ with settings, drawn from with other ones, if `drawn_with` has any."""

    config: str
    settings: tuple[str, ...] = ()
    drawn_with: tuple[str, ...] = ()


WAYS = {
    "VAE": Way("vae_digits", ("model.args.labels=0",)),
    "beta-VAE, beta 4": Way("vae_digits", ("model.args.labels=0", "step.args.beta=4")),
    "VAE, asked for a digit": Way("vae_digits"),
    "VAE-GAN": Way("vaegan_digits"),
    "GAN, non-saturating": Way("gan_digits"),
    "GAN, hinge": Way("gan_digits", ("step.args.objective.target=hinge",)),
    "GAN, WGAN-GP": Way("gan_digits_wgan"),
    "progressive GAN, WGAN-GP": Way("progressive_digits"),
    "diffusion, 50 steps": Way("diffusion_digits"),
    "diffusion, 10 steps": Way("diffusion_digits", (), ("model.args.sampling_steps=10",)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--work", type=Path, default=Path("out/generative_models"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=list(WAYS), default=list(WAYS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    store = Store(arguments.work / "store")
    store_pictures("digits", store, lambda what, done, total: None)
    bench = Bench(store, arguments.work)
    rows = bench.controls()
    for name, way in WAYS.items():
        runs = [bench.figures(way, seed, run=name in arguments.only) for seed in arguments.seeds]
        rows[name] = [run for run in runs if run is not None]
    found = {"rows": rows, "drawn": DRAWN, "machine": machine.facts()}
    (RESULTS / "generative_models.json").write_text(json.dumps(found, indent=2) + "\n")
    lines = [machine.described(found["machine"]), "", *table(rows, drawn=DRAWN)]
    (RESULTS / "generative_models.md").write_text("\n".join(lines) + "\n")
    picture(bench.shown(rows), RESULTS / "generative_models.png")
    print("\n".join(lines))


class Bench:
    """The digits of a store, and what was found of each way."""

    def __init__(self, store: Store, work: Path) -> None:
        self.store, self.work = store, work
        plain = self._config(WAYS["GAN, non-saturating"], 0)
        training, labels = self._images(TRAINING, plain)
        held_back, _ = self._images(COMPARED, plain)
        self.control, _ = self._images(CONTROL, plain)
        self.known = Known(training, labels, held_back, plain.first_window[1])

    def controls(self) -> dict[str, list[dict[str, Any]]]:
        """What the judge says of real digits, of training digits, and of what are none."""
        generator = np.random.default_rng(0)
        flat = np.stack(self.known.training).reshape(len(self.known.training), -1)
        normal = generator.multivariate_normal(flat.mean(axis=0), np.cov(flat.T), DRAWN)
        pairs = flat[generator.integers(len(flat), size=(2, DRAWN))].mean(axis=0)
        others = {
            "real digits, held back": self.control,
            "the training digits themselves": self.known.training,
            "normal of the digits' mean and covariance": _as_images(normal.clip(0, 16)),
            "two digits averaged": _as_images(pairs),
        }
        return {name: [figures_of(images, self.known).to_dict()] for name, images in others.items()}

    def figures(self, way: Way, seed: int, *, run: bool) -> dict[str, Any] | None:
        """Of one training; None where it was not made and is not to be."""
        name = "-".join([way.config, *way.settings, *way.drawn_with, str(seed)]).replace("/", "_")
        kept, picture_file = self.work / f"{name}.json", self.work / f"{name}.npy"
        if kept.exists():
            return json.loads(kept.read_text())
        if not run:
            return None
        config = self._config(way, seed)
        model, seconds = self._trained(config)
        if way.drawn_with:
            other = build_model(self._config(way, seed, *way.drawn_with)).eval()
            other.load_state_dict(model.state_dict())
            assert isinstance(other, Generative)
            model = other
        began = time.process_time()
        drawn, asked = draw(model, DRAWN, labels=self.known.labels, seed=seed)
        found = {
            **figures_of(drawn, self.known, asked=asked if model.labels else None).to_dict(),
            "iterations": config.train.iterations,
            "train_cpu_s": seconds,
            "draw_cpu_s": time.process_time() - began,
            "parameters": sum(weights.numel() for weights in model.parameters()),
            "samples": picture_file.name,
        }
        np.save(picture_file, np.stack(drawn[:40]))
        kept.write_text(json.dumps(found, indent=2))
        print(name, found, flush=True)
        return found

    def shown(self, rows: dict[str, list[dict[str, Any]]]) -> dict[str, NDArray[np.float32]]:
        """A row of images for the picture, by the name of its way."""
        found = {"real digits, held back": np.stack(self.control[:40])}
        for name, runs in rows.items():
            if runs and "samples" in runs[0]:
                found[name] = np.load(self.work / runs[0]["samples"])
        return found

    def _trained(self, config: GenerateRun) -> tuple[Generative, float]:
        keys = [f"digits-{number}" for number in TRAINING]
        length = config.train.iterations * config.train.batch
        folder = self.work / "trainings" / config.name
        identity = self.store.data_digest(keys)
        began, marker = time.process_time(), folder / "cpu_seconds.json"
        times = json.loads(marker.read_text()) if marker.exists() else {}
        model = train(
            config,
            task_of(config).training_data(self.store, keys, config, length),
            folder=folder,
            log=lambda metrics, iteration: None,
            data_digest=identity,
        )
        # Of a training that was made before, the checkpoint is read, and takes no time.
        seconds = times.setdefault(_identity(config), time.process_time() - began)
        marker.write_text(json.dumps(times))
        assert isinstance(model, Generative)
        return model, seconds

    def _config(self, way: Way, seed: int, *more: str) -> GenerateRun:
        own = (f"train.seed={seed}", "train.device=cpu", "train.precision=fp32")
        path = ROOT / "configs" / f"{way.config}.yaml"
        config = load_config(path, [*way.settings, *own, *more])
        assert isinstance(config, GenerateRun)
        return config

    def _images(self, sheets: range | tuple[int, ...], config: GenerateRun) -> Any:
        keys = [f"digits-{number}" for number in sheets]
        images, labels = stored_images(self.store, keys, config)
        return [images[number] for number in range(len(images))], labels


def _as_images(flat: NDArray[np.floating]) -> Images:
    return list(flat.reshape(-1, 8, 8).astype(np.float32))


def _identity(config: GenerateRun) -> str:
    return json.dumps([config.model.model_dump(), config.step.model_dump(), config.train.seed])


if __name__ == "__main__":
    keep_freed_memory()
    main()
