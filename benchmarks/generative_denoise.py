"""Denoisers trained against a discriminator, beside the same network trained without.

What is traded: PSNR for the noise texture of full dose.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from generative_training import log_to_stderr, picture_grid
from numpy.typing import NDArray

from pipeline.config.load import load_config
from pipeline.config.run import RunConfig
from pipeline.core.pseudonyms import installation_key
from pipeline.core.units import SOFT_TISSUE
from pipeline.data.patches import PatchPairs
from pipeline.degradations.cache import degrade_store
from pipeline.degradations.digest import degradation_digest
from pipeline.evaluation.denoising import evaluate_store
from pipeline.inference.denoise import apply_model
from pipeline.ingest.ingest import IngestedSeries, ingest
from pipeline.models.adapters.base import HUModel
from pipeline.physics.phantoms.image_quality import PhantomGrid, water_phantom
from pipeline.quality.nps import NoisePower, less_mean_of_repeats, noise_power
from pipeline.quality.phantom_scan import Scanner, scan
from pipeline.quality.rois import cut_regions, tile_places_mm
from pipeline.store.store import Store
from pipeline.training.loop import train

CONFIGS = Path(__file__).parents[1] / "configs"
TRAINING = ("chest-ge-lidc0001", "abdomen-ge-crlm1004")
TEST = "abdomen-ge-crlm1006"
DOSE = 0.25
#: A rehearsal that never ends is plain supervised training, here of as many updates.
ALONE = "step={target: pipeline.training.steps.supervised.Supervised, args: {residual: true}}"
ARMS: dict[str, tuple[str, list[str]]] = {
    "RED-CNN, mean square error": ("denoise_pix2pix", [ALONE, "train.iterations=2600"]),
    "RED-CNN, WGAN and perceptual": ("denoise_wgan_perceptual", []),
    "RED-CNN, pix2pix": ("denoise_pix2pix", []),
}
SHOWN_SLICE, SHOWN_PLACE, SHOWN_SIDE = 25, (190, 130), 160


def denoise(data: Path, work: Path, results: Path, iterations: int | None = None) -> dict[str, Any]:
    """Train the arms, evaluate them on the test patient and on scans of a water phantom."""
    quick = [f"train.iterations={iterations}"] if iterations else []
    store, patients = stored(data, work / "store")
    models: dict[str, HUModel] = {}
    figures: dict[str, Any] = {}
    phantom = water_scans()
    for name, (config_name, changes) in ARMS.items():
        config = load_config(
            CONFIGS / f"{config_name}.yaml",
            [f"data.split.test=[{patients[TEST].patient}]", *changes, *quick],
        )
        began = time.process_time()
        models[name] = trained(config, store, patients, work / "training")
        seconds = time.process_time() - began
        figures[name] = measured(models[name], store, patients, config, phantom)
        figures[name]["cpu_seconds"] = seconds
    figures["undenoised phantom"] = texture(phantom["low"], phantom["full"])
    show(models, store, patients, config, results)
    return figures


def stored(data: Path, folder: Path) -> tuple[Store, dict[str, IngestedSeries]]:
    store = Store(folder)
    key = installation_key()
    names = (*TRAINING, TEST)
    return store, {name: ingest(data / "ct" / name, store, key=key).series[0] for name in names}


def trained(
    config: RunConfig, store: Store, patients: dict[str, IngestedSeries], folder: Path
) -> HUModel:
    keys = [patients[name].series for name in TRAINING]
    draws = {key: config.data.realisations for key in keys} | {patients[TEST].series: 1}
    degrade_store(store, draws, config)
    items = PatchPairs(store, keys, config, config.train.iterations * config.train.batch)
    log = log_to_stderr(config.name, config.train.iterations)
    return train(config, items, folder=folder, log=log, data_digest=store.data_digest(keys))


def measured(
    model: HUModel,
    store: Store,
    patients: dict[str, IngestedSeries],
    config: RunConfig,
    phantom: dict[str, NDArray[np.float32]],
) -> dict[str, Any]:
    """Figures of the test patient, and the texture left in a phantom of water."""
    overall = evaluate_store(model, store, [patients[TEST].series], config).overall.to_dict()
    return {
        "patient": overall,
        "phantom": texture(apply_model(model, phantom["low"]), phantom["full"]),
    }


def water_scans() -> dict[str, NDArray[np.float32]]:
    grid = PhantomGrid()
    images = scan(
        water_phantom(grid).volume.image_hu[0],
        pixel_mm=grid.pixel_mm,
        scanner=Scanner(),
        realisations=12,
        generator=np.random.default_rng(0),
    )
    return {"low": images.at_dose(DOSE), "full": images.at_dose(1.0)}


def texture(image_hu: NDArray[np.float32], full_hu: NDArray[np.float32]) -> dict[str, float]:
    """Noise strength, and how far its spectrum has moved from full dose's."""
    found, wanted = spectrum(image_hu), spectrum(full_hu)
    peaks = found.peak_frequency_per_mm, wanted.peak_frequency_per_mm
    means = found.mean_frequency_per_mm, wanted.mean_frequency_per_mm
    return {
        "noise_hu": float(np.sqrt(found.variance_hu2)),
        "full_dose_noise_hu": float(np.sqrt(wanted.variance_hu2)),
        "peak_per_mm": peaks[0],
        "peak_shift": peaks[0] / peaks[1] - 1,
        "mean_frequency_shift": means[0] / means[1] - 1,
    }


def spectrum(image_hu: NDArray[np.float32]) -> NoisePower:
    pixel_mm = PhantomGrid().pixel_mm
    places = tile_places_mm(half_width_mm=25, step_mm=32 * pixel_mm)
    noise_hu = less_mean_of_repeats(image_hu)
    regions = cut_regions(noise_hu, places, pixel_mm=pixel_mm, size_pixels=64)
    return noise_power(regions, pixel_mm=(pixel_mm, pixel_mm))


def show(
    models: dict[str, HUModel],
    store: Store,
    patients: dict[str, IngestedSeries],
    config: RunConfig,
    results: Path,
) -> None:
    """Full dose, low dose and every arm: a part of one slice in window 40/400, enlarged."""
    key = patients[TEST].series
    input_hu = np.array(store.load_degraded(key, degradation_digest(config, 0))[[SHOWN_SLICE]])
    target_hu = np.array(store.load(key).image_hu[[SHOWN_SLICE]])
    outputs = [apply_model(model, input_hu) for model in models.values()]
    rows, columns = (slice(first, first + SHOWN_SIDE) for first in SHOWN_PLACE)
    row = [image_hu[0, rows, columns] for image_hu in (target_hu, input_hu, *outputs)]
    window = {"low": SOFT_TISSUE.low_hu, "high": SOFT_TISSUE.high_hu}
    picture_grid([row], results / "generative_denoise.png", **window, zoom=2)
