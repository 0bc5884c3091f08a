"""The CPU's denoiser beside RED-CNN as published: `python benchmarks/swift.py --data DATA`.

Both learn from the same two patients, with the same loss, for the same seconds of one core, and
are judged on every fifth slice of a third; redcnn@pretrained, which had 24 minutes of two cores,
stands beside them. Then all take the same slice in turns. Writes results/swift.json and swift.md
beside this file. Goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.config import RunConfig, load_config
from pipeline.dataset import PatchPairs, degradation_digest
from pipeline.degrade import degrade_store
from pipeline.dicom.read import read_volume
from pipeline.dicom.series import find_series
from pipeline.evaluate import evaluate_store
from pipeline.infer import apply_model
from pipeline.models.shell import Shell
from pipeline.pretrained import load_pretrained
from pipeline.store import Store
from pipeline.train import train
from pipeline.versions import versions
from pipeline.volume import Volume

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
TRAINING = ("chest-ge-lidc0001", "abdomen-ge-crlm1004")
TEST, TEST_STEP = "abdomen-ge-crlm1006", 5
PUBLISHED = "model={target: pipeline.models.redcnn.REDCNN, args: {}}"
ARMS: dict[str, list[str]] = {
    "RED-CNN, 96 channels": [PUBLISHED, "train.lr=2.0e-4"],
    "SwiftUNet": [],
}
#: Iterations from which the seconds of one are told.
REHEARSAL = {"RED-CNN, 96 channels": 4, "SwiftUNet": 60}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data")
    parser.add_argument("--work", type=Path, default=Path("out/swift"))
    parser.add_argument("--seconds", type=float, default=600, help="of one core, each training")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    store = stored(arguments.data / "ct", arguments.work / "store")
    models: dict[str, Shell] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name, changes in ARMS.items():
        config = configured(changes)
        degrade_store(store, {key: config.data.realisations for key in TRAINING}, config)
        degrade_store(store, {TEST: 1}, config)
        rows[name] = {"iterations": affordable(name, config, store, arguments)}
        began = time.process_time()
        models[name] = trained(config, store, rows[name]["iterations"], arguments.work)
        rows[name]["cpu_seconds"] = time.process_time() - began
    models["redcnn@pretrained"] = load_pretrained("redcnn")[0]
    for name, model in models.items():
        rows[name] = rows.get(name, {}) | size(model) | quality(model, store, config)
    for name, seconds in speed(models, store, config, arguments.repeats).items():
        rows[name]["seconds_per_slice"] = seconds
    result = {"rows": rows, "machine": platform.machine(), "versions": versions()}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "swift.json").write_text(json.dumps(result, indent=2) + "\n")
    (RESULTS / "swift.md").write_text(markdown(rows))
    print(markdown(rows))


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


def affordable(name: str, config: RunConfig, store: Store, arguments: argparse.Namespace) -> int:
    """How many iterations the seconds pay for; told once, so that a run goes on with as many."""
    path = arguments.work / f"iterations-{name.split()[0].strip(',')}-{arguments.seconds:g}.json"
    if path.exists():
        return json.loads(path.read_text())
    began, few = time.process_time(), REHEARSAL[name]
    trained(config, store, few, arguments.work / "rehearsal")
    iterations = int(arguments.seconds * few / (time.process_time() - began))
    path.write_text(json.dumps(iterations))
    return iterations


def trained(config: RunConfig, store: Store, iterations: int, work: Path) -> Shell:
    settings = config.train.model_copy(
        update={"iterations": iterations, "checkpoint_every": max(1, iterations // 20)}
    )
    config = config.model_copy(update={"train": settings})
    items = PatchPairs(store, list(TRAINING), config, iterations * settings.batch)

    def log(metrics: dict[str, float], iteration: int) -> None:
        if iteration % (10 * settings.log_every) == 0:
            print(config.model.target, iteration, f"{metrics['loss']:.4g}", flush=True)

    digest = store.data_digest(list(TRAINING))
    return train(config, items, folder=work / "training", log=log, data_digest=digest)


def size(model: Shell) -> dict[str, float]:
    """Parameters, and 10^9 multiplications and additions for a slice of 512 x 512."""
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        model(torch.zeros(1, 1, 512, 512))
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "gmac": counter.get_total_flops() / 2e9,
    }


def quality(model: Shell, store: Store, config: RunConfig) -> dict[str, Any]:
    overall = evaluate_store(model, store, [TEST], config)["overall"]
    return {"windows": overall["windows"], "hu_bias": overall["hu_bias"]}


def speed(
    models: dict[str, Shell], store: Store, config: RunConfig, repeats: int
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


def markdown(rows: dict[str, dict[str, Any]]) -> str:
    first = rows["RED-CNN, 96 channels"]
    lines = [
        __doc__.split("\n\n")[1].split("\nstands")[0].replace("\n", " ") + " stands beside them.",
        "",
        "| | GMAC | parameters | iterations | core s | s a slice | slices/s, times RED-CNN's | "
        "PSNR dB | SSIM | largest HU bias |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        soft = row["windows"]["soft_tissue"]["output"]
        median = statistics.median(row["seconds_per_slice"])
        ratio = statistics.median(first["seconds_per_slice"]) / median
        bias = max(abs(value) for value in row["hu_bias"]["output"].values())
        spent = f"{row['cpu_seconds']:.0f}" if "cpu_seconds" in row else ""
        lines.append(
            f"| {name} | {row['gmac']:.1f} | {row['parameters']:,} | {row.get('iterations', '')} | "
            f"{spent} | {median:.3f} | {ratio:.1f} | {soft['psnr']:.2f} | {soft['ssim']:.4f} | "
            f"{bias:.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
