"""The calibration of anydose@pretrained's uncertainty, `python benchmarks/uncertainty.py --data D`.

Calibrated on the series that benchmarks/anydose.py measures on, none of which training saw, at 5,
10, 25 and 50 % of their own dose, which the model is asked to make up for. The coverage that is
written is of each patient by a calibration on all others. Writes pretrained/NAME/uncertainty.json,
and results/uncertainty.md beside this file.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import machine
import numpy as np
from anydose import DOSES, RESULTS, ROOT, denoisers, simulated
from anydose_scans import Scan, held_scans
from numpy.typing import NDArray

from pipeline.config.shipped import find_pretrained
from pipeline.core.masks import body_mask
from pipeline.core.types import ImageHU
from pipeline.core.units import TISSUE_RANGES_HU
from pipeline.metrics.image import tissue_masks
from pipeline.models.adapters.pretrained import UNCERTAINTY, load_pretrained
from pipeline.quality.uncertainty import Calibration, VoxelTraits, of_traits, voxel_traits
from pipeline.quality.uncertainty_fit import Drawn, calibrate, draw, held

MODEL = "anydose"


@dataclass(frozen=True)
class Measured:
    """One scan at one dose: traits, errors in HU and tissues by name, of each slice."""

    dose_ratio: float
    traits: list[VoxelTraits]
    errors_hu: list[ImageHU]
    tissues: list[dict[str, NDArray[np.bool_]]]
    drawn: list[Drawn]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data")
    parser.add_argument("--work", type=Path, default=Path("out/anydose"), help="of anydose.py")
    asked = parser.parse_args()
    path = find_pretrained(MODEL) / UNCERTAINTY
    path.unlink(missing_ok=True)  # of other weights the model would not be loaded with it
    weights = load_pretrained(MODEL).card.weights_sha256
    scans = held_scans(asked.data, asked.work)
    measured = {scan.name: measure(scan, asked.work) for scan in scans}
    drawn = {name: [d for one in found for d in one.drawn] for name, found in measured.items()}
    shares = {
        scan.name: coverage(
            measured[scan.name],
            calibrate({o.name: drawn[o.name] for o in scans if o.patient != scan.patient}, weights),
        )
        for scan in scans
    }
    calibration = calibrate(drawn, weights)
    path.write_text(json.dumps(calibration.to_dict(), indent=1) + "\n")
    table = markdown(shares, len({scan.patient for scan in scans}))
    (RESULTS / "uncertainty.md").write_text(table, encoding="utf-8")
    print(table)


def measure(scan: Scan, work: Path) -> list[Measured]:
    """A scan at each dose that can be simulated on it."""
    anydose = denoisers(f"{MODEL}@pretrained")["anydose"]
    rng = np.random.default_rng(0)
    found = []
    for dose in DOSES:
        low_hu = simulated(scan, dose, work)
        if low_hu is None:
            continue
        target_hu, valid = scan.volume.image_hu, scan.volume.valid
        output_hu = anydose(low_hu, 1 / dose)
        traits = [voxel_traits(a, b, 1 / dose) for a, b in zip(low_hu, output_hu, strict=True)]
        inside = [body_mask(one) & v for one, v in zip(target_hu, valid, strict=True)]
        errors = list(output_hu - target_hu)
        tissues = [tissue_masks(t, m) for t, m in zip(target_hu, inside, strict=True)]
        drawn = draw(traits, errors, inside, 1 / dose, rng)
        found.append(Measured(1 / dose, traits, errors, tissues, drawn))
    print(scan.label, scan.side, flush=True)
    return found


Shares = dict[tuple[float, str], tuple[float, float]]


def coverage(measured: list[Measured], calibration: Calibration) -> Shares:
    """By dose ratio and tissue, which is chosen on the target: the shares that intervals hold."""
    found: Shares = {}
    for one in measured:
        widths = [of_traits(traits, one.dose_ratio, calibration) for traits in one.traits]
        narrow, wide = (np.stack(each) for each in zip(*widths, strict=True))
        errors_hu = np.stack(one.errors_hu)
        for name in TISSUE_RANGES_HU:
            tissue = np.stack([masks[name] for masks in one.tissues])
            found[one.dose_ratio, name] = held(errors_hu, (narrow, wide), tissue)
    return found


def markdown(shares: dict[str, Shares], patients: int) -> str:
    """A row for each dose and tissue: means over the series, and lowest and highest series."""
    by_group: dict[tuple[float, str], list[tuple[float, float]]] = defaultdict(list)
    for found in shares.values():
        for group, pair in found.items():
            if np.isfinite(pair[0]):
                by_group[group].append(pair)
    lines = [
        f"# Uncertainty of {MODEL}@pretrained: what its intervals hold",
        "",
        f"{machine.described(machine.facts()).rstrip('.')}.",
        "",
        f"{len(shares)} series of {patients} patients that training did not see; each is measured "
        "by a calibration on the other patients. Of each tissue in the full-dose image, how many "
        "voxels lie within the interval about the denoised one: mean over series (lowest - "
        "highest).",
        "",
        "| dose | tissue | series | 68 % interval | 95 % interval |",
        "|---|---|---|---|---|",
    ]
    for (ratio, name), pairs in sorted(by_group.items(), key=lambda row: (-row[0][0], row[0][1])):
        cells = [
            f"{np.mean(of):.1%} ({np.min(of):.0%} - {np.max(of):.0%})"
            for of in zip(*pairs, strict=True)
        ]
        lines.append(f"| {1 / ratio:.0%} | {name} | {len(pairs)} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
