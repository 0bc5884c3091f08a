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
from pipeline.inference.dose_choice import LEAST_RATIO
from pipeline.ingest.ingest import ingest
from pipeline.physics.image_noise import FlatTissue
from pipeline.store.store import Store

#: The share of the series that is to lie below the fit. The more of them, the fewer full doses
#: are changed, and the less is done for a lower dose (`changed` in what is printed).
QUANTILE = 0.9
DOSES = (1.0, 0.5, 0.25, 0.1)


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


def changed(residuals: NDArray[np.float64], dose: float) -> dict[str, float]:
    """At a dose: the share of the series that `auto` changes, and their median dose ratio."""
    ratios = np.exp(2 * residuals) / dose
    made_up = ratios[ratios >= LEAST_RATIO]
    return {
        "share": round(len(made_up) / len(ratios), 2),
        "median_dose_ratio": round(float(np.median(made_up)), 2),
    }


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
    found = {
        "series": len(rows),
        "fit": fit.round(3).tolist(),
        "residual": spread,
        "changed": {f"{dose:g}": changed(residuals, dose) for dose in DOSES},
    }
    print(json.dumps(found | {"machine": machine.facts()}))


if __name__ == "__main__":
    main()
