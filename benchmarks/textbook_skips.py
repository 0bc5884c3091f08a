"""RED-Net of twenty layers with and without inner skips, and an FCN, on noisy photographs.

Figure 4 of Mao et al., NIPS 2016: without skips a deep network of this form learns late, and what
it restores has lost detail. None has a skip from input to output here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pipeline.config.load import load_config
from pipeline.config.run import RunConfig
from pipeline.core.pseudonyms import installation_key
from pipeline.store.published_splits import TEST, TRAIN
from pipeline.store.splits import split_patients
from pipeline.store.store import Store
from pipeline.tasks.base import task_of
from pipeline.training.loop import train

ROOT = Path(__file__).parents[1]
REDNET = "model={target: rednet, args: {layers: 20, channels: 16, skips: %s}}"
NETWORKS = {
    "RED-Net, 20 layers": REDNET % "true",
    "RED-Net without inner skips": REDNET % "false",
    "FCN, four levels": "model={target: fcn, args: {out_channels: 1, features: [16, 32, 64, 128]}}",
}
SETTINGS = [
    *(
        "step.args.residual=false",
        "data.patch=[48, 48]",
        "degradation={target: gaussian_noise, args: {sigma: 25}}",
    ),
    *("train.iterations=1000", "train.batch=8", "train.lr=1.0e-3", "train.precision=fp32"),
    *("train.device=cpu", "train.log_every=10", "restoration.references=[]"),
]


def skips(work: Path, picture: Path) -> dict[str, Any]:
    """PSNR of held-back photographs, sigma 25, and the loss of each training as it fell."""
    found, curves = {}, {}
    for name, network in NETWORKS.items():
        config = load_config(ROOT / "configs" / "denoise_photo.yaml", [network, *SETTINGS])
        task, store, keys = task_of(config), Store(work / "photographs"), photographs(config, work)
        losses: list[float] = []
        length = config.train.iterations * config.train.batch
        trained = train(
            config,
            task.training_data(store, keys[TRAIN], config, length),
            folder=work / "skips",
            log=lambda metrics, iteration, losses=losses: losses.append(metrics["loss"]),
            data_digest=store.data_digest(keys[TRAIN]),
        )
        answers = (
            task.evaluate(trained, store, keys[TEST], config).overall.windows["levels"].answers
        )
        found[name] = {
            "psnr_db": answers["output"]["psnr"],
            "noisy_psnr_db": answers["input"]["psnr"],
            "parameters": sum(weights.numel() for weights in trained.parameters()),
        }
        curves[name] = losses
    _draw(curves, found, picture)
    return found


def photographs(config: RunConfig, work: Path) -> dict[str, list[str]]:
    """Store the shipped photographs, degraded; the keys of both sides."""
    task, store = task_of(config), Store(work / "photographs")
    ingested = task.ingest(None, store, config, key=installation_key())
    patients = sorted({row.patient for row in ingested.series})
    sides = split_patients(
        patients, config.data.split, key=installation_key(), recorded=store.split()
    )
    store.record_split(sides)
    keys: dict[str, list[str]] = {TRAIN: [], TEST: []}
    for row in ingested.series:
        keys[sides[row.patient]].append(row.series)
    task.prepare(store, keys, config)
    return keys


def _draw(curves: dict[str, list[float]], found: dict[str, Any], picture: Path) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, losses in curves.items():
        smooth = np.convolve(losses, np.ones(5) / 5, mode="valid")
        label = f"{name}: {found[name]['psnr_db']:.1f} dB on held-back photographs"
        axes.semilogy(10 * np.arange(3, len(smooth) + 3), smooth, label=label)
    axes.set(xlabel="iterations", ylabel="mean square error of training patches")
    axes.legend()
    axes.grid(alpha=0.2)
    figure.savefig(picture, dpi=110)
