"""Degrades one series and saves its inputs; run with OPENBLAS_CORETYPE set, in a process of its
own: numpy reads it once. `python draws_on_core.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from pipeline.config.load import parse_config
from pipeline.degradations.cache import degrade_store
from pipeline.degradations.digest import degradation_digest
from pipeline.degradations.resolution import Downsample
from pipeline.store.store import Store

from .images import body_slice, run_data, volume_of

#: Few photons, so that starved rays, drawn count by count, are among them.
LOW_DOSE = {"dose_fraction": 0.25, "photons_per_ray": 3e3, "detectors": 96, "views": 72}
DEGRADATIONS = {
    "low_dose": {"target": "pipeline.physics.lowdose.LowDoseCT", "args": LOW_DOSE},
    "gaussian": {"target": "pipeline.degradations.base.GaussianNoise", "args": {"sigma": 30.0}},
}


def main(folder: Path) -> None:
    """Write pixels.npy, as stored, and NAME.npy, degraded, for each of DEGRADATIONS."""
    folder.mkdir(parents=True)
    # Products of matrices in float32: their last bits are the processor's.
    smaller = Downsample(2, method="bicubic")
    fine = np.stack([body_slice(128) + 3 * number for number in range(3)])
    pixels = smaller.degrade(fine, np.random.default_rng(0))
    np.save(folder / "pixels.npy", pixels)
    store = Store(folder / "store")
    store.add(volume_of(pixels, pixel_mm=(4.0, 4.0)), key="s-0", patient="p-0")
    for name, degradation in DEGRADATIONS.items():
        config = parse_config(run_data(degradation=degradation))
        degrade_store(store, {"s-0": 1}, config)
        np.save(folder / f"{name}.npy", store.load_degraded("s-0", degradation_digest(config, 0)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
