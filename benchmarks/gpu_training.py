"""The longest training that fits what is left of the time: the last part of benchmarks/gpu.py."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from gpu_pack import unpack
from gpu_parts import CONFIGS, Work

from pipeline.config.load import load_config
from pipeline.config.run import RunConfig
from pipeline.core.types import Json
from pipeline.data.patches import PatchPairs
from pipeline.degradations.cache import degrade_store
from pipeline.models.adapters.weights import WEIGHTS, save_model
from pipeline.physics.calibration import CalibrationError
from pipeline.store.store import Store
from pipeline.training.loop import train

CONFIG = "denoise_any_dose_gpu.yaml"
#: Iterations whose rate is measured first, those before which it has settled, and the share of the
#: time left that the training is then made for: evaluating and writing need some, and rates change.
TRIAL, SHARE = 300, 0.85
#: Noise draws of a slice: half of the configuration's, to begin sooner.
REALISATIONS = 2
#: Seconds before the end at which nothing new is begun.
RESERVE_S = 10.0


class OutOfTimeError(RuntimeError):
    """The training took longer than its first iterations promised."""


def longest_training(work: Work) -> Json:
    """Trains configs/denoise_any_dose_gpu.yaml on the packed slices; weights and configuration are
    in work.out/anydose-gpu. Nothing is measured of the result but its loss: the pack has no
    held-back patient."""
    if work.packed is None:
        return {"failed": "no packed training data: make it by `gpu.py pack --data DATA`"}
    began = time.time()
    store = Store(work.out / "store")
    keys = unpack(work.packed, store)
    config = _config(work, _trial(work), device=True)
    keys, without_noise = degraded(store, keys, config)
    prepared_s = time.time() - began
    rate = _rate(work, store, keys, config)
    left_s = work.ends_at - RESERVE_S - time.time()
    iterations = int(SHARE * left_s * rate)
    if iterations < 1:
        return {"failed": f"{left_s:.0f} s are left after preparing {len(keys)} series"}
    if work.tiny:
        iterations = min(iterations, 4)
    final = _config(work, iterations, device=True)
    logged: list[tuple[int, float]] = []
    seen: dict[str, float] = {}

    def log(metrics: dict[str, float], iteration: int) -> None:
        logged.append((iteration, metrics["loss"]))
        seen.update(metrics)
        if time.time() > work.ends_at:
            raise OutOfTimeError(
                f"at iteration {iteration} of {iterations}, at the end of the time"
            )

    trained_from = time.time()
    items = PatchPairs(store, keys, final, iterations * final.train.batch)
    folder = work.out / "training"
    model = train(final, items, folder=folder, log=log, data_digest=store.data_digest(keys))
    # As another machine can load it: where this one simulated the dose is no part of the model.
    public = _config(work, iterations, device=False).resolved()
    sha256 = save_model(model, public, work.out / "anydose-gpu")
    return {
        "series": len(keys),
        "series_without_measurable_noise": without_noise,
        "prepared_s": prepared_s,
        "iterations": iterations,
        "batch": final.train.batch,
        "training_s": time.time() - trained_from,
        "patches_per_s": seen["patches_per_s"],
        "waiting_fraction": seen["waiting_fraction"],
        "loss": logged[:: max(1, len(logged) // 50)],
        "weights": str((work.out / "anydose-gpu" / WEIGHTS).relative_to(work.out)),
        "weights_sha256": sha256,
    }


def _trial(work: Work) -> int:
    return 2 if work.tiny else TRIAL


def _config(work: Work, iterations: int, *, device: bool) -> RunConfig:
    """device: with where this machine simulates and trains."""
    changes = [f"train.iterations={iterations}", f"data.realisations={REALISATIONS}"]
    changes += [f"train.warmup={min(1000, iterations // 20)}", "train.log_every=50"]
    if work.tiny:
        changes += ["model.args.channels=[4, 8]", "model.args.depth=1", "data.patch=[32, 32]"]
        changes += ["train.batch=2", "train.workers=0", "degradation.args.views=48"]
        changes += ["degradation.args.photons_per_ray=1.0e+5", "degradation.args.detectors=64"]
    if device:
        changes += [f"train.device={work.device}"]
        changes += ["degradation.args.device=cuda"] if work.on_gpu else ["train.precision=fp32"]
    return load_config(CONFIGS / CONFIG, changes)


def degraded(store: Store, keys: list[str], config: RunConfig) -> tuple[list[str], int]:
    """The series whose noise could be measured, and so continued; and how many could not."""
    usable = []
    for key in keys:
        try:
            degrade_store(store, {key: config.data.realisations}, config)
        except CalibrationError:
            continue
        usable.append(key)
    return usable, len(keys) - len(usable)


def _rate(work: Work, store: Store, keys: list[str], config: RunConfig) -> float:
    """Iterations a second of a short training, by what it took from a third of it to its end."""
    times: dict[int, float] = {}

    def log(metrics: dict[str, float], iteration: int) -> None:
        times[iteration] = time.time()

    count = config.train.iterations
    every = max(1, count // 3)
    settings = config.train.model_copy(update={"log_every": every, "checkpoint_every": 10 * count})
    trial = config.model_copy(update={"train": settings})
    items = PatchPairs(store, keys, trial, count * trial.train.batch)
    with tempfile.TemporaryDirectory() as folder:  # or one of the same name would be gone on with
        digest = store.data_digest(keys)
        train(trial, items, folder=Path(folder), log=log, data_digest=digest)
    first, last = min(times), max(times)
    if first == last:
        raise ValueError(f"a trial of {count} iterations logged once")
    return (last - first) / (times[last] - times[first])
