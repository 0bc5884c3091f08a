"""Restoring pictures and slices: `python benchmarks/restore.py [NAME ...] [--seeds 0 1 2]`, or
`make gallery`.

Trains each configuration of the task restore as it is in configs/, one after the other, and
measures it on the pictures that its split holds back beside the classical answers, each tuned on
training pictures, and BM3D with the noise's own sigma. Runs on CT take SLICES slices of each
series of DATA/ct, with HELD_BACK as the test. Writes results/restore.json and restore.md beside
this file, and docs/gallery.md with a strip of pictures for each run. Ends with exit code 5, as
`ldct run` does, where one of them does not pass its gate: the tables say which and why. BM3D is
measured where it is installed (benchmarks/requirements.txt). What was measured before, in --work,
is not measured again. Trainings of at most SHORT_MINUTES are made with every one of --seeds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import machine
import numpy as np
import yaml
from PIL import Image
from pydicom import dcmread
from restore_tables import RESULTS, gate_of, write_tables

from pipeline.config.load import load_config
from pipeline.config.names import digest
from pipeline.config.run import RunConfig
from pipeline.config.task_runs import RestoreRun
from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.malloc import keep_freed_memory
from pipeline.core.pseudonyms import installation_key
from pipeline.data.stored_pictures import StoredPictures
from pipeline.evaluation.restoration import OUTPUT, RestorationResult, picture_figures
from pipeline.ingest.ingest import IngestedSeries
from pipeline.models.adapters.base import ModelAdapter
from pipeline.models.adapters.restorer import degradation_of
from pipeline.report.restoration import restoration_strips
from pipeline.store.published_splits import TEST, TRAIN
from pipeline.store.splits import split_patients
from pipeline.store.store import Store
from pipeline.tasks.base import task_of
from pipeline.training.loop import train

ROOT = Path(__file__).parents[1]
GALLERY = ROOT / "docs" / "gallery"
#: Consecutive slices of each CT series, of its middle, and the series that is the test.
SLICES, HELD_BACK = 16, "abdomen-ge-crlm1006"
GATE_FAILED = 5
#: CPU minutes of a training that is made with other seeds too.
SHORT_MINUTES = 4.0
FIGURES, STRIPS = "figures.json", "strips.jpg"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="configurations; all of the task restore if none")
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data")
    parser.add_argument("--work", type=Path, default=Path("out/restore"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[], help="beside the shipped one")
    arguments = parser.parse_args()
    for name in arguments.names or restoring():
        try:
            measure(name, arguments.data, arguments.work / name, arguments.seeds)
        except LdctError as fault:
            print(f"{name}: {fault}", flush=True)
    failed = collect(arguments.work)
    for line in failed:
        print(f"gate failed: {line}", flush=True)
    return GATE_FAILED if failed else 0


def measure(name: str, data: Path, work: Path, seeds: list[int]) -> None:
    """Train and measure a configuration, unless its figures are there already."""
    config = load_config(ROOT / "configs" / f"{name}.yaml")
    path = work / FIGURES
    identity = identity_of(name)
    kept = json.loads(path.read_text()) if path.exists() else {}
    own = config.train.seed
    seeds = [own, *(seed for seed in seeds if seed != own)]
    known = {int(seed) for seed in kept.get("seeds", [own])}
    if kept.get("config_digest") == identity and known.issuperset(wanted(seeds, kept)):
        return
    figures = {
        "config_digest": identity,
        **measured(config, data, work, seeds),
        "machine": machine.facts("auto"),
    }
    path.write_text(json.dumps(figures, indent=1) + "\n")


def identity_of(name: str) -> str:
    """Of a configuration as it is written: a new setting's default does not make figures old."""
    return digest(yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text()))


def wanted(seeds: list[int], run: dict[str, Any]) -> list[int]:
    """The seeds that a run is trained with: its own, the first, alone where that takes long."""
    return seeds if run["training"]["cpu_minutes"] <= SHORT_MINUTES else seeds[:1]


def collect(work: Path) -> list[str]:
    """Tables and gallery of what was measured in `work` of configurations as they are, and of what
    the results have of other runs; returns the runs that did not pass their gates, with the limits
    that they missed."""
    results = json.loads((RESULTS / "restore.json").read_text())
    files = {name: work / name / FIGURES for name in restoring()}
    kept = {name: json.loads(path.read_text()) for name, path in files.items() if path.exists()}
    found = {
        name: figures
        for name, figures in kept.items()
        if figures["config_digest"] == identity_of(name)
    }
    all_runs = results["runs"] | found
    runs = {name: all_runs[name] for name in restoring() if name in all_runs}
    write_tables({**results, "runs": runs})
    GALLERY.mkdir(parents=True, exist_ok=True)
    for name in found:
        shutil.copyfile(work / name / STRIPS, GALLERY / f"{name}.jpg")
    gates = {name: gate_of(name, run) for name, run in runs.items()}
    return [f"{name}: {gate.reasons}" for name, gate in gates.items() if not gate.passed]


def restoring() -> list[str]:
    """The configurations that learn to restore, but of pictures that only a user has."""
    paths = sorted((ROOT / "configs").glob("*.yaml"))
    found = {path.stem: load_config(path) for path in paths}
    return [
        name
        for name, config in found.items()
        if isinstance(config, RestoreRun) and config.restoration.source not in ("pairs", "pictures")
    ]


def measured(config: RestoreRun, data: Path, work: Path, seeds: list[int]) -> dict[str, Any]:
    """Train a run's model and measure it on what the run holds back."""
    config, store, keys = prepared(config, data, work)
    task = task_of(config)
    model, training = trained(store, keys[TRAIN], config, work)
    figures = task.evaluate(model, store, keys[TEST], config)
    overall, tested = figures.to_dict()["overall"], config.as_tested()
    if config.name.startswith("denoise_photo") and find_spec("bm3d"):
        for window in overall["windows"]:
            overall["windows"][window]["bm3d"] = bm3d_figures(store, keys[TEST], tested, window)
    strips = restoration_strips(model, store, keys[TEST], tested, tuning=figures.overall.tuning)
    as_one(strips).save(work / STRIPS, quality=88)
    held_back = HELD_BACK if _on_ct(config) else keys[TEST]
    outputs = {seeds[0]: output_of(figures)}
    for seed in wanted(seeds, {"training": training})[1:]:
        seeded = config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})
        other, _ = trained(store, keys[TRAIN], seeded, work / f"seed-{seed}")
        outputs[seed] = output_of(task.evaluate(other, store, keys[TEST], config))
    return {
        "training": training,
        "training_images": len(keys[TRAIN]),
        "held_back": held_back,
        **({"seeds": outputs} if len(outputs) > 1 else {}),
        **overall,
    }


def output_of(figures: RestorationResult) -> dict[str, dict[str, float | None]]:
    """The network's figures in each window, and of no window its Frechet distance, if any."""
    texture = figures.overall.texture
    of_texture = {"frechet": texture.frechet.get(OUTPUT)} if texture else {}
    windows = figures.overall.windows.items()
    return {name: {**one.answers[OUTPUT], **of_texture} for name, one in windows}


def prepared(
    config: RestoreRun, data: Path, work: Path
) -> tuple[RestoreRun, Store, dict[str, list[str]]]:
    """The run with its test side, its store with the inputs made, and the keys of each side."""
    task, store, is_ct = task_of(config), Store(work / "store"), _on_ct(config)
    if is_ct and not (data / "ct").is_dir():
        raise ConfigError(f"{config.name} learns from CT, and {data / 'ct'} is no folder: --data")
    root = thinned(data / "ct", work.parent / "ct") if is_ct else None
    ingested = task.ingest(root, store, config, key=installation_key())
    if is_ct:
        config = _holding_back(config, ingested.series, ingested.sources)
    patients = sorted({row.patient for row in ingested.series})
    sides = split_patients(
        patients, config.data.split, key=installation_key(), recorded=store.split()
    )
    store.record_split(sides)
    keys: dict[str, list[str]] = {TRAIN: [], TEST: []}
    for row in ingested.series:
        if task.usable(store, row.series, config):
            keys[sides[row.patient]].append(row.series)
    task.prepare(store, keys, config)
    return config, store, keys


def _on_ct(config: RunConfig) -> bool:
    return config.restoration.source == "series"


def thinned(source: Path, to: Path) -> Path:
    """Neighbouring slices of each series, as links in a folder of its own."""
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        if folder.name.startswith("head"):  # its slices are tilted, unevenly spaced, and few
            continue
        own = to / folder.name
        own.mkdir(parents=True, exist_ok=True)
        files = sorted(folder.rglob("*.dcm"), key=_height_mm)
        for path in files[max(0, (len(files) - SLICES) // 2) :][:SLICES]:
            link = own / path.name
            if not link.exists():
                link.symlink_to(path.resolve())
    return to


def _height_mm(path: Path) -> float:
    """Names need not be in the order of the slices."""
    return float(dcmread(path, stop_before_pixels=True).ImagePositionPatient[2])


def _holding_back(
    config: RestoreRun, rows: list[IngestedSeries], sources: dict[str, Any]
) -> RestoreRun:
    """The run with one known series as its test, whatever key this installation has."""
    patients = [
        row.patient for row in rows if HELD_BACK in str(sources[row.series].instances[0].path)
    ]
    split = config.data.split.model_copy(update={"test": patients, "validation": 0.0})
    return config.model_copy(update={"data": config.data.model_copy(update={"split": split})})


def trained(
    store: Store, keys: list[str], config: RunConfig, work: Path
) -> tuple[ModelAdapter, dict[str, Any]]:
    """The project's loop; the time of a training that was done before is read again."""
    length = config.train.iterations * config.train.batch * config.train.accumulate
    dataset = task_of(config).training_data(store, keys, config, length)
    curve: list[dict[str, float]] = []
    wall, cpu = time.perf_counter(), time.process_time()
    model = train(
        config,
        dataset,
        folder=work,
        log=lambda metrics, iteration: curve.append({"iteration": iteration, **metrics}),
        data_digest=store.data_digest(keys),
    )
    kept = work / "training.json"
    facts = {
        "iterations": config.train.iterations,
        "parameters": sum(weights.numel() for weights in model.parameters()),
        "wall_minutes": (time.perf_counter() - wall) / 60,
        "cpu_minutes": (time.process_time() - cpu) / 60,
    }
    if facts["cpu_minutes"] < 0.2 and kept.exists():  # a checkpoint of all its iterations
        return model, json.loads(kept.read_text())["facts"]
    kept.write_text(json.dumps({"facts": facts, "curve": curve}, indent=1) + "\n")
    return model, facts


def bm3d_figures(
    store: Store, keys: list[str], config: RestoreRun, window: str
) -> dict[str, float]:
    """BM3D (Dabov et al. 2007) with the noise's sigma; of colour pictures its CBM3D."""
    from bm3d import bm3d, bm3d_rgb

    pictures, degradation = StoredPictures(store, keys, config), degradation_of(config)
    sigma = degradation.sigma  # type: ignore[attr-defined]
    rows = []
    for number in range(len(pictures)):
        noisy = np.moveaxis(pictures.degraded(number), 0, -1)
        found = bm3d(noisy[..., 0], sigma)[..., None] if noisy.shape[-1] == 1 else None
        found = bm3d_rgb(noisy, sigma) if found is None else found
        levels = np.clip(np.moveaxis(found, -1, 0), 0, 255).astype(np.float32)
        rows.append(picture_figures(levels, pictures[number], config.windows[window]))
    return {figure: float(np.mean([row[figure] for row in rows])) for figure in rows[0]}


def as_one(strips: dict[str, np.ndarray]) -> Image.Image:
    """The strips of a run's pictures, one below the other."""
    width = max(strip.shape[1] for strip in strips.values())
    rows = [
        np.pad(strip, ((0, 4), (0, width - strip.shape[1]), (0, 0)), constant_values=255)
        for strip in strips.values()
    ]
    return Image.fromarray(np.concatenate(rows))


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
