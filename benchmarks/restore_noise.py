"""Blind denoisers at several strengths of noise: `python benchmarks/restore_noise.py [NAME ...]`.

Trains configs/denoise_photo_blind.yaml and denoise_photo_blind_colour.yaml, or those named, as they
are, unless --work has them already, and measures each on its held-back photographs with noise of
every one of SIGMAS, beside BM3D (in colour CBM3D), which is given the sigma. BM3D:
benchmarks/requirements.txt; what it reached is kept in --work. Writes results/restore_noise.json
and .md beside this file; what is not named keeps its rows.
"""

from __future__ import annotations

import argparse
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import machine
import restore

from pipeline.config.load import load_config
from pipeline.config.task_runs import RestoreRun
from pipeline.core.malloc import keep_freed_memory
from pipeline.degradations.cache import degrade_store
from pipeline.store.published_splits import TEST, TRAIN
from pipeline.store.store import Store
from pipeline.tasks.base import task_of

ROOT, RESULTS = Path(__file__).parents[1], Path(__file__).parent / "results"
NAMES = {"denoise_photo_blind": "grey", "denoise_photo_blind_colour": "colour"}
SIGMAS = (5, 15, 25, 50)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(NAMES))
    parser.add_argument("--work", type=Path, default=Path("out/restore"))
    arguments = parser.parse_args()
    path = RESULTS / "restore_noise.json"
    runs = json.loads(path.read_text())
    for name in arguments.names:
        runs[name] = measured(name, arguments.work / name)
    path.write_text(json.dumps(runs, indent=1) + "\n")
    path.with_suffix(".md").write_text("\n".join(table(runs)) + "\n")


def measured(name: str, work: Path) -> dict[str, Any]:
    """Figures of one run at each strength of the noise."""
    config = load_config(ROOT / "configs" / f"{name}.yaml")
    assert isinstance(config, RestoreRun)
    config, store, keys = restore.prepared(config, Path(), work)
    model, training = restore.trained(store, keys[TRAIN], config, work)
    strengths = {}
    for sigma in SIGMAS:
        at = with_noise(config, sigma)
        degrade_store(store, dict.fromkeys(keys[TEST], 1), at)
        window = at.first_window[0]
        found = task_of(at).evaluate(model, store, keys[TEST], at).overall.windows[window].answers
        strengths[sigma] = {answer: dict(found[answer]) for answer in ("input", "output")}
        if find_spec("bm3d"):
            strengths[sigma]["bm3d"] = of_bm3d(store, keys[TEST], at, work / f"bm3d-{sigma}.json")
        print(name, sigma, strengths[sigma], flush=True)
    return {
        "training": training,
        "training_images": len(keys[TRAIN]),
        "sigmas": strengths,
        "machine": machine.facts("auto"),
    }


def of_bm3d(store: Store, keys: list[str], config: RestoreRun, kept: Path) -> dict[str, float]:
    """BM3D's figures in the first window, which no training changes."""
    if not kept.exists():
        found = restore.bm3d_figures(store, keys, config, config.first_window[0])
        kept.write_text(json.dumps(found) + "\n")
    return json.loads(kept.read_text())


def with_noise(config: RestoreRun, sigma: float) -> RestoreRun:
    """The run with white noise of `sigma`, and without references that would be tuned to it."""
    noise = {"target": "gaussian_noise", "args": {"sigma": sigma}}
    raw = config.resolved()
    raw["degradation"], raw["restoration"]["references"] = noise, []
    raw["restoration"]["test_degradation"] = None
    return RestoreRun.model_validate(raw)


def table(runs: dict[str, Any]) -> list[str]:
    """The lines of restore_noise.md."""
    lines = []
    for name, run in runs.items():
        training = run["training"]
        lines += [
            f"configs/{name}.yaml: {run['training_images']} training pictures, "
            f"{training['iterations']} iterations, {training['parameters']:,} parameters, "
            f"{training['wall_minutes']:.1f} minutes, {training['cpu_minutes']:.1f} CPU minutes, "
            f"one seed. {machine.described(run['machine'])}",
            "",
        ]
    lines += [
        "| pictures | sigma | noisy, dB | BM3D, dB | SSIM | network, dB | SSIM | ahead, dB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, run in runs.items():
        for sigma, found in run["sigmas"].items():
            lines.append(row(NAMES[name], sigma, found))
    return lines


def row(pictures: str, sigma: float, found: dict[str, dict[str, float]]) -> str:
    """One strength: mean over the held-back photographs."""
    other, own = found.get("bm3d"), found["output"]
    peer = ("", "") if other is None else (f"{other['psnr']:.2f}", f"{other['ssim']:.3f}")
    ahead = "" if other is None else f"{own['psnr'] - other['psnr']:+.2f}"
    cells = [
        pictures,
        f"{sigma}",
        f"{found['input']['psnr']:.2f}",
        *peer,
        f"**{own['psnr']:.2f}**",
        f"**{own['ssim']:.3f}**",
        ahead,
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    keep_freed_memory()
    main()
