"""Direct against residual learning: `python benchmarks/restore_convergence.py`.

RED-Net of configs/denoise_photo.yaml, of 10 and of 20 layers, learns the clean picture itself or
what is to be corrected, from the same pieces in the same order, none of them seen twice; so the
loss of each batch is that of pieces not seen before. Writes results/restore_convergence.json and
.png beside this file.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import machine
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from pipeline.config.load import load_config
from pipeline.config.run import RunConfig
from pipeline.core.malloc import keep_freed_memory
from pipeline.core.pseudonyms import installation_key
from pipeline.store.store import Store
from pipeline.tasks.base import task_of
from pipeline.training.loop import train

ROOT, RESULTS = Path(__file__).parents[1], Path(__file__).parent / "results"
LAYERS = (10, 20)
ITERATIONS, MEAN_OVER = 192, 12
WAYS = {"residual": "true", "direct": "false"}
Curves = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("out/restore_convergence"))
    work = parser.parse_args().work
    store = Store(work / "store")
    curves: Curves = {}
    for layers in LAYERS:
        for way, residual in WAYS.items():
            config = load_config(
                ROOT / "configs" / "denoise_photo.yaml",
                [
                    f"model.args.layers={layers}",
                    f"step.args.residual={residual}",
                    f"train.iterations={ITERATIONS}",
                    "train.log_every=1",
                ],
            )
            curves[f"{layers} layers, {way}"] = psnr_of_batches(store, config, work)
            print(layers, way, curves[f"{layers} layers, {way}"][-1], flush=True)
    RESULTS.mkdir(exist_ok=True)
    results = {"psnr_db": curves, "mean_over": MEAN_OVER, "machine": machine.facts("auto")}
    (RESULTS / "restore_convergence.json").write_text(json.dumps(results) + "\n")
    draw(curves, RESULTS / "restore_convergence.png")


def psnr_of_batches(store: Store, config: RunConfig, work: Path) -> list[float]:
    """PSNR in dB of the mean square error of MEAN_OVER batches each, grey levels 0 to 255."""
    task = task_of(config)
    report = task.ingest(None, store, config, key=installation_key())
    held_back = config.data.split.test
    assert isinstance(held_back, list)
    keys = [row.series for row in report.series if row.patient not in held_back]
    usable = [key for key in keys if task.usable(store, key, config)]
    items = task.training_data(store, usable, config, ITERATIONS * config.train.batch)
    losses: list[float] = []
    train(
        config,
        items,
        folder=work,
        log=lambda metrics, iteration: losses.append(metrics["loss"]),
        data_digest=store.data_digest(usable),
    )
    white = 255 / config.normalize_hu.scale
    means = np.array(losses).reshape(-1, MEAN_OVER).mean(axis=1)
    return [10 * math.log10(white**2 / mean) for mean in means.tolist()]


def draw(curves: Curves, path: Path) -> None:
    matplotlib.use("agg")
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for name, psnr_db in curves.items():
        iterations = (np.arange(len(psnr_db)) + 0.5) * MEAN_OVER
        layers, way = name.split(", ")
        style = "-" if way == "residual" else "--"
        colour = {f"{LAYERS[0]} layers": "#1f77b4", f"{LAYERS[1]} layers": "#d62728"}[layers]
        axes.plot(iterations, psnr_db, style, color=colour, label=name)
    axes.set_xlabel("iteration")
    axes.set_ylabel("PSNR of pieces not seen before, dB")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    keep_freed_memory()
    main()
