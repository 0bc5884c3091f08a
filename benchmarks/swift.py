"""The CPU's denoiser beside RED-CNN as published: `python benchmarks/swift.py --data DATA`.

RED-CNN with 96 channels learns from the two patients that swift@pretrained learned from, with its
loss, for about as long, and both are judged on every fifth slice of a third; redcnn@pretrained, of
32 channels and trained longer, stands beside them. Steps of both trainings and slices of all models
are timed in turns, on one core. Writes results/swift.json and swift.md beside this file. Goes on
where it was stopped.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from pipeline.config.component import build
from pipeline.config.load import load_config
from pipeline.config.run import RunConfig
from pipeline.core.volume import Volume
from pipeline.data.patches import PatchPairs
from pipeline.degradations.cache import degrade_store
from pipeline.degradations.digest import degradation_digest
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume
from pipeline.evaluation.denoising import evaluate_store
from pipeline.inference.denoise import apply_model
from pipeline.models.adapters.base import ModelAdapter, build_loss, build_model, place
from pipeline.models.adapters.pretrained import load_pretrained
from pipeline.store.store import Store
from pipeline.training.loop import train
from pipeline.training.steps.base import Step

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
TRAINING = ("chest-ge-lidc0001", "abdomen-ge-crlm1004")
TEST, TEST_STEP = "abdomen-ge-crlm1006", 5
PUBLISHED = "model={target: pipeline.models.redcnn.REDCNN, args: {}}"
#: One configuration, but for the network; RED-CNN's learning rate as published would not move.
RED_CNN = [PUBLISHED, "train.lr=2.0e-4"]
TRAINED_HERE, SHIPPED = "RED-CNN, 96 channels", ("swift@pretrained", "redcnn@pretrained")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data")
    parser.add_argument("--work", type=Path, default=Path("out/swift"))
    parser.add_argument("--iterations", type=int, default=1150, help="of RED-CNN, 1.3 s each")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    store = stored(arguments.data / "ct", arguments.work / "store")
    config = configured(RED_CNN)
    degrade_store(store, dict.fromkeys(TRAINING, config.data.realisations) | {TEST: 1}, config)
    models = {TRAINED_HERE: trained(config, store, arguments.iterations, arguments.work)}
    iterations = {TRAINED_HERE: arguments.iterations}
    for name in SHIPPED:
        loaded = load_pretrained(name.partition("@")[0])
        models[name] = loaded.model
        iterations[name] = loaded.config.train.iterations
    rows = {name: size(model) | quality(model, store, config) for name, model in models.items()}
    for name, seconds in step_seconds(store, arguments.repeats).items():
        rows[name] |= {"step_seconds": seconds, "iterations": iterations[name]}
    for name, seconds in slice_seconds(models, store, config, arguments.repeats).items():
        rows[name]["seconds_per_slice"] = seconds
    result = {"rows": rows, "machine": machine.facts()}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "swift.json").write_text(json.dumps(result, indent=2) + "\n")
    (RESULTS / "swift.md").write_text(markdown(result))
    print(markdown(result))


def stored(data: Path, folder: Path) -> Store:
    """The training patients whole, and every fifth slice of the test patient."""
    store = Store(folder)
    for name in (*TRAINING, TEST):
        (series,) = find_series(data / name).series
        volume = read_volume(series).volume
        step = TEST_STEP if name == TEST else 1
        part = Volume(
            volume.image_hu[::step],
            volume.valid[::step],
            volume.affine_lps,
            volume.slice_origins_mm[::step],
            volume.provenance,
        )
        store.add(part, key=name, patient=name)
    return store


def configured(changes: list[str]) -> RunConfig:
    return load_config(
        ROOT / "configs" / "denoise_swift.yaml",
        [f"data.split.test=[{TEST}]", "train.precision=fp32", "train.device=cpu", *changes],
    )


def trained(config: RunConfig, store: Store, iterations: int, work: Path) -> ModelAdapter:
    settings = config.train.model_copy(
        update={"iterations": iterations, "checkpoint_every": max(1, iterations // 20)}
    )
    config = config.model_copy(update={"train": settings})
    items = PatchPairs(store, list(TRAINING), config, iterations * settings.batch)

    def log(metrics: dict[str, float], iteration: int) -> None:
        print(f"{iteration} of {iterations}: loss {metrics['loss']:.4g}", flush=True)

    digest = store.data_digest(list(TRAINING))
    return train(config, items, folder=work / "training", log=log, data_digest=digest)


def step_seconds(store: Store, repeats: int) -> dict[str, list[float]]:
    """Of one core for an iteration, its batch's making included, the two trainings in turns."""
    configs = {TRAINED_HERE: configured(RED_CNN), SHIPPED[0]: configured([])}
    seconds: dict[str, list[float]] = {name: [] for name in configs}
    steps = {}
    for name, config in configs.items():
        batch = config.train.batch
        items = PatchPairs(store, list(TRAINING), config, (repeats + 1) * batch)
        model = place(build_model(config), "cpu", channels_last=True)
        parts = {"model": model, "loss": build_loss(config.loss), "settings": config.train}
        step = build(config.step, key="step", base=Step, **parts)
        steps[name] = step, iter(DataLoader(items, batch_size=batch))
    for turn in range(repeats + 1):
        for name, (step, batches) in steps.items():
            began = time.process_time()
            step.backward(next(batches), share=1.0)
            step.update()
            if turn:  # the first warms up
                seconds[name].append(time.process_time() - began)
    return seconds


def size(model: ModelAdapter) -> dict[str, float]:
    """Parameters, and 10^9 multiplications and additions for a slice of 512 x 512, by PyTorch's own
    convolutions: without numbers, since ours would go another way."""
    counter, plain = FlopCounterMode(display=False), copy.deepcopy(model).to("meta")
    with counter, torch.inference_mode():
        plain(torch.zeros(1, 1, 512, 512, device="meta"))
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "gmac": counter.get_total_flops() / 2e9,
    }


def quality(model: ModelAdapter, store: Store, config: RunConfig) -> dict[str, Any]:
    overall = evaluate_store(model, store, [TEST], config).overall.to_dict()
    return {"windows": overall["windows"], "hu_bias": overall["hu_bias"]}


def slice_seconds(
    models: dict[str, ModelAdapter], store: Store, config: RunConfig, repeats: int
) -> dict[str, list[float]]:
    """Seconds of one core for a slice, every model once a round."""
    one = np.array(store.load_degraded(TEST, degradation_digest(config, 0))[:1], dtype=np.float32)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(repeats + 1):
        for name, model in models.items():
            began = time.perf_counter()
            apply_model(model, one)
            if turn:  # the first warms up
                seconds[name].append(time.perf_counter() - began)
    return seconds


def markdown(result: dict[str, Any]) -> str:
    rows = result["rows"]
    first = rows[TRAINED_HERE]
    lines = [
        "Training and slices on one core; quality on every fifth slice of a patient held back, "
        f"25 % dose. {machine.described(result['machine'])}",
        "",
        "| | GMAC | parameters | training: iterations x s | s a slice | slices/s, times RED-CNN's "
        "| PSNR dB, SSIM: soft tissue | lung | largest HU bias |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        median = statistics.median(row["seconds_per_slice"])
        ratio = statistics.median(first["seconds_per_slice"]) / median
        bias = max(abs(value) for value in row["hu_bias"]["output"].values())
        spent = ""
        if "iterations" in row:
            spent = f"{row['iterations']} x {statistics.median(row['step_seconds']):.3g}"
        likeness = [
            f"{found['output']['psnr']:.2f}, {found['output']['ssim']:.4f}"
            for found in (row["windows"]["soft_tissue"], row["windows"]["lung"])
        ]
        cells = [name, f"{row['gmac']:.1f}", f"{row['parameters']:,}", spent, f"{median:.3f}"]
        lines.append("| " + " | ".join([*cells, f"{ratio:.1f}", *likeness, f"{bias:.2f}"]) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
