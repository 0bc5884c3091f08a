"""Small synthetic patients, stores and runs for tests of the image side of the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.load import parse_config
from pipeline.config.run import RunConfig
from pipeline.core.volume import Volume
from pipeline.degradations.digest import degradation_digest
from pipeline.store.store import Store

SOFT_TISSUE_HU, LUNG_HU, FAT_HU, BONE_HU = 40.0, -850.0, -100.0, 700.0

#: (row, column) offset from the centre of a 64 x 64 slice, and HU, of discs inside the body.
INSERTS = (((0, -12), LUNG_HU), ((0, 12), FAT_HU), ((-11, 0), BONE_HU))
INSERT_RADIUS = 6


def body_slice(size: int = 64) -> NDArray[np.float32]:
    """An elliptical body in air, with a lung, a fat and a bone disc."""
    rows, columns = np.indices((size, size)) - (size - 1) / 2
    unit = size / 64
    image_hu = np.full((size, size), -1000.0, dtype=np.float32)
    image_hu[(rows / 22) ** 2 + (columns / 27) ** 2 <= unit**2] = SOFT_TISSUE_HU
    for (row, column), hu in INSERTS:
        distance = np.hypot(rows - row * unit, columns - column * unit)
        image_hu[distance <= INSERT_RADIUS * unit] = hu
    return image_hu


def disc(shape: tuple[int, int], radius: float) -> NDArray[np.bool_]:
    """A centred disc, radius in pixels."""
    rows, columns = np.indices(shape)
    return np.hypot(rows - (shape[0] - 1) / 2, columns - (shape[1] - 1) / 2) <= radius


def volume_of(
    image_hu: NDArray[np.float32],
    *,
    pixel_mm: tuple[float, float] = (1.0, 1.0),
    valid: NDArray[np.bool_] | None = None,
) -> Volume:
    """A Volume of [slices, rows, columns] with (row, column) spacing and 2 mm slices."""
    slices = image_hu.shape[0]
    return Volume(
        image_hu=image_hu.astype(np.float32),
        valid=np.ones(image_hu.shape, dtype=bool) if valid is None else valid,
        affine_lps=np.diag([pixel_mm[1], pixel_mm[0], 2.0, 1.0]),
        slice_origins_mm=np.outer(np.arange(slices), [0.0, 0.0, 2.0]),
    )


def run_data(**changes: Any) -> dict[str, Any]:
    """A complete run as plain data, as small as it gets; `changes` replace whole sections."""
    return {
        "name": "tiny",
        "task": "denoise",
        "data": {"patch": [32, 32]},
        "degradation": {
            "target": "pipeline.physics.lowdose.LowDoseCT",
            "args": {"dose_fraction": 0.25, "detectors": 64, "views": 48},
        },
        "model": {
            "target": "pipeline.models.redcnn.REDCNN",
            "args": {"channels": 4, "kernel": 3, "padding": True},
        },
        "step": {
            "target": "pipeline.training.steps.supervised.Supervised",
            "args": {"residual": True},
        },
        "loss": {"target": "torch.nn.MSELoss"},
        "train": tiny_train(),
        "windows": {"soft_tissue": [40, 400]},
        "register": {"name": "tiny"},
    } | changes


def tiny_train(**changes: Any) -> dict[str, Any]:
    """On the CPU in fp32, so that a test means the same on every machine.

    Networks of so few channels are several times faster with the channels first.
    """
    everywhere = {"device": "cpu", "precision": "fp32", "channels_last": False}
    return {"iterations": 4, "batch": 2, **everywhere} | changes


def run_config(**changes: Any) -> RunConfig:
    return parse_config(run_data(**changes))


def tiny_store(path: Path, *, patients: int = 3, slices: int = 2) -> Store:
    """One series `s-N` for each patient `p-N`; the brightness tells the patients apart."""
    store = Store(path)
    for number in range(patients):
        image_hu = np.stack([body_slice() + 5 * number] * slices)
        store.add(volume_of(image_hu), key=f"s-{number}", patient=f"p-{number}")
    return store


def add_inputs(store: Store, config: RunConfig, *, noise_hu: float = 0.0) -> None:
    """Cache every series' inputs: the target and white noise, without any physics."""
    for key in store.records():
        target_hu = store.load(key).image_hu
        for realisation in range(config.data.realisations):
            generator = np.random.default_rng((realisation, int(key[2:])))
            noise = noise_hu * generator.standard_normal(target_hu.shape)
            store.save_degraded(
                key,
                degradation_digest(config, realisation),
                (target_hu + noise).astype(np.float32),
            )
