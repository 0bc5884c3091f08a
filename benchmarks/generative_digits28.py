"""VAE and GAN on digits of 28 x 28, one judge, and real digits as the control.

    python benchmarks/generative_digits28.py FOLDER [--name digits28]

FOLDER: IDX files with test files, such as benchmarks/mnist_sample.py writes. Trains the YAMLs in
WAYS with one thread; half of the publisher's test files are what everything is compared with, the
other half is the control. Writes results/generative_NAME.json, .md and .png; figures of a
training that is finished are kept in `--work`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from generative_models_table import picture, rows_of
from numpy.typing import NDArray

from pipeline.config.load import load_config
from pipeline.config.task_runs import GenerateRun
from pipeline.core.malloc import keep_freed_memory
from pipeline.evaluation.generation import reconstructions, stored_images
from pipeline.evaluation.latent import reconstruction_figures
from pipeline.evaluation.samples import Known, draw, figures_of
from pipeline.ingest.idx_pictures import store_idx
from pipeline.models.adapters.generative import Generative
from pipeline.store.store import Store
from pipeline.tasks.base import task_of
from pipeline.training.loop import train

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
WAYS = {"VAE, asked for its class": "vae_digits28", "GAN, non-saturating": "gan_digits28"}
#: Training images that samples are compared with, and that teach the classifier.
KNOWN, DRAWN, SHOWN, WHITE = 2000, 500, 40, 255.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", default="digits28")
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(arguments.folder, arguments.work or Path("out") / arguments.name)
    rows = bench.controls() | {name: [bench.figures(config)] for name, config in WAYS.items()}
    found = {"rows": rows, "drawn": DRAWN, "machine": machine.facts("auto")}
    place = RESULTS / f"generative_{arguments.name}"
    place.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n")
    lines = [machine.described(found["machine"]), "", bench.described(), "", *rows_of(rows), ""]
    lines += [
        f"{name}: held-back images come back with {row['psnr_db']:.1f} dB."
        for name, [row] in rows.items()
        if "psnr_db" in row
    ]
    place.with_suffix(".md").write_text("\n".join(lines) + "\n")
    drawn = {name: np.load(bench.work / f"{config}.npy") for name, config in WAYS.items()}
    shown = {"real, held back": np.stack(bench.control[:SHOWN])} | drawn
    picture(shown, place.with_suffix(".png"), white=WHITE)
    print("\n".join(lines))


class Bench:
    """The images of a store, and what was found of each training."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.store, self.work = Store(work / "store"), work
        store_idx(folder, self.store, lambda what, done, total: None)
        keys = sorted(self.store.records())
        self.training = [key for key in keys if key.startswith("idx-train-")]
        held_back = [key for key in keys if key.startswith("idx-test-")]
        half = len(held_back) // 2
        plain = _config("gan_digits28")
        images, labels = self._images(self.training, plain)
        chosen = np.random.default_rng(0).permutation(len(images))[:KNOWN]
        compared, _ = self._images(held_back[:half], plain)
        self.control, _ = self._images(held_back[half:], plain)
        self.held_back = held_back
        known = [images[number] for number in chosen.tolist()]
        self.known = Known(known, labels[chosen], compared, plain.first_window[1])

    def described(self) -> str:
        return (
            f"{len(self.training)} sheets to learn from; compared with {len(self.known.held_back)} "
            f"held-back images, at equal numbers, {len(self.control)} others are the control; "
            f"{DRAWN} samples. Frechet distance of the hidden layer of a classifier trained on "
            f"{len(self.known.training)} training images (not the FID of Inception). One seed each."
        )

    def controls(self) -> dict[str, list[dict[str, Any]]]:
        """What the judge says of real images, and of images that are none."""
        generator = np.random.default_rng(0)
        flat = np.stack(self.known.training).reshape(len(self.known.training), -1)
        pairs = flat[generator.integers(len(flat), size=(2, DRAWN))].mean(axis=0)
        averaged = list(pairs.reshape(-1, *self.control[0].shape).astype(np.float32))
        others = {"real, held back": self.control, "two training images averaged": averaged}
        return {name: [figures_of(images, self.known).to_dict()] for name, images in others.items()}

    def figures(self, name: str) -> dict[str, Any]:
        """Of one training; from `work` where it was measured before."""
        kept = self.work / f"{name}.json"
        if kept.exists():
            return json.loads(kept.read_text())
        config = _config(name)
        began = time.process_time()
        model = self._trained(config)
        seconds = time.process_time() - began
        began = time.process_time()
        drawn, asked = draw(model, DRAWN, labels=self.known.labels, seed=0)
        found = {
            **figures_of(drawn, self.known, asked=asked if model.labels else None).to_dict(),
            "iterations": config.train.iterations,
            "train_cpu_s": seconds,
            "parameters": sum(weights.numel() for weights in model.parameters()),
        }
        if model.encodes:
            images, labels = self._images(self.held_back, config)
            likeness = reconstruction_figures(
                reconstructions(model, images, labels), images, config.first_window[1]
            )
            found["psnr_db"] = likeness.psnr
        np.save(kept.with_suffix(".npy"), np.stack(drawn[:SHOWN]))
        kept.write_text(json.dumps(found, indent=2))
        return found

    def _trained(self, config: GenerateRun) -> Generative:
        length = config.train.iterations * config.train.batch
        model = train(
            config,
            task_of(config).training_data(self.store, self.training, config, length),
            folder=self.work / "trainings" / config.name,
            log=lambda metrics, iteration: print(iteration, metrics, flush=True),
            data_digest=self.store.data_digest(self.training),
        )
        assert isinstance(model, Generative)
        return model

    def _images(self, keys: list[str], config: GenerateRun) -> tuple[list[NDArray], NDArray]:
        images, labels = stored_images(self.store, keys, config)
        return [images[number] for number in range(len(images))], labels


def _config(name: str) -> GenerateRun:
    config = load_config(ROOT / "configs" / f"{name}.yaml", ["train.device=cpu"])
    assert isinstance(config, GenerateRun)
    return config


if __name__ == "__main__":
    keep_freed_memory()
    main()
