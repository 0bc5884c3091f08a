"""The noise of full-dose scans by kernel and thickness: _USUAL of pipeline.physics.image_noise.

`python benchmarks/usual_noise.py FOLDER`, with the public full-dose series for training: measures
each series' noise and fits its logarithm by quantile regression, which is a linear programme.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path

import machine
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from pipeline.core.pseudonyms import installation_key
from pipeline.ingest.ingest import ingest
from pipeline.physics.image_noise import FlatTissue
from pipeline.store.store import Store

#: The share of the series that is to lie below the fit.
QUANTILE = 0.75


def measured(store: Store) -> NDArray[np.float64]:
    """(log noise in HU, fineness, log thickness in mm) of each series that can be measured."""
    rows = []
    for key, record in store.records().items():
        volume = store.load(key)
        tissue = FlatTissue.of(volume)
        noise = tissue.noise([volume.image_hu[number] for number in tissue.slices])
        thickness_mm = record.provenance.get("SliceThickness")
        if noise and thickness_mm:
            row = math.log(noise.noise_hu), noise.fineness, math.log(float(thickness_mm))
            rows.append(row)
    return np.array(rows)


def fitted(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Level, slope by fineness and slope by log thickness (Koenker and Bassett 1978, eq. 3.1)."""
    count = len(rows)
    known = np.column_stack([np.ones(count), rows[:, 1:]])
    cost = np.r_[np.zeros(3), np.full(count, QUANTILE), np.full(count, 1 - QUANTILE)]
    equal = np.column_stack([known, np.eye(count), -np.eye(count)])
    bounds = [(None, None)] * 3 + [(0, None)] * (2 * count)
    return linprog(cost, A_eq=equal, b_eq=rows[:, 0], bounds=bounds).x[:3]


def main() -> None:
    """Print the fit as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(Path(scratch))
        ingest(folder, store, key=installation_key())
        rows = measured(store)
    fit = fitted(rows)
    residuals = rows[:, 0] - np.column_stack([np.ones(len(rows)), rows[:, 1:]]) @ fit
    spread = round(float(residuals.std()), 3)
    found = {"series": len(rows), "fit": fit.round(3).tolist(), "residual": spread}
    print(json.dumps(found | {"machine": machine.facts()}))


if __name__ == "__main__":
    main()
