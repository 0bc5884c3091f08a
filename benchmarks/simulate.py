"""Projection, reconstruction and low-dose noise: how fast, and how true on real CT.

    python benchmarks/simulate.py --data ../shared/data

Speed is against scikit-image's radon and iradon (parallel beam) at as many views, in turns;
truth is each real series' noise, predicted in slices that its calibration has not seen.
Writes results/simulate.json and results/simulate.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import machine
import numpy as np
import torch
from skimage.transform import iradon, radon

from pipeline.core.units import hu_to_mu_per_mm
from pipeline.core.volume import Volume
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume
from pipeline.physics.calibration import SLICES, calibrate
from pipeline.physics.calibration_check import agreement
from pipeline.physics.detector import FLOOR_COUNTS
from pipeline.physics.fan_beam import adjoint_project, filtered_backprojection, forward_project
from pipeline.physics.fan_beam_geometry import FanBeam
from pipeline.physics.lowdose import LowDoseCT
from pipeline.physics.noise_insertion import added_noise

RESULTS = Path(__file__).parent / "results"
GEOMETRY = FanBeam()
BLOCK = 32
PATIENTS = ("abdomen-ge-crlm1004", "abdomen-ge-crlm1006", "chest-ge-lidc0001")
#: Every so many of the slices that are held out are looked at.
HELD_OUT_STEP = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of real CT")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    (volume,) = volumes(arguments.data / "ct" / PATIENTS[0])
    result = {
        "seconds": speed(volume, arguments.repeats),
        "counted truth": counted_truth(),
        "real noise": real_noise(arguments.data),
        "gpu": gpu_speed(volume),
        "machine": machine.facts(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "simulate.json").write_text(json.dumps(result, indent=2) + "\n")
    (RESULTS / "simulate.md").write_text(markdown(result))
    print(markdown(result))


def volumes(folder: Path, intake: IngestOptions | None = None) -> list[Volume]:
    found = find_series(folder, intake=intake or IngestOptions())
    return [read_volume(series).volume for series in found.series]


def speed(volume: Volume, repeats: int) -> dict[str, list[float]]:
    """Seconds a slice of 512 x 512, every way once a round."""
    image = hu_to_mu_per_mm(volume.image_hu[:BLOCK])
    shape, spacing_mm = image.shape[1:], volume.spacing_mm[1:]
    angles = np.arange(GEOMETRY.views) * 180 / GEOMETRY.views
    there = {"spacing_mm": spacing_mm, "geometry": GEOMETRY}
    fan = forward_project(image, **there)
    parallel = radon(image[0], angles, circle=False)
    model = LowDoseCT(dose_fraction=0.25)
    block = part(volume, BLOCK)
    ways: dict[str, tuple[Callable[[], object], int]] = {
        "scikit-image, radon": (lambda: radon(image[0], angles, circle=False), 1),
        "ldct, forward, one slice": (lambda: forward_project(image[:1], **there), 1),
        "scikit-image, iradon": (lambda: iradon(parallel, angles, circle=False), 1),
        "ldct, FBP, one slice": (
            lambda: filtered_backprojection(fan[:1], shape=shape, **there),
            1,
        ),
        "ldct, forward, block of 32": (lambda: forward_project(image, **there), len(image)),
        "ldct, FBP, block of 32": (
            lambda: filtered_backprojection(fan, shape=shape, **there),
            len(image),
        ),
        "ldct, adjoint, block of 32": (
            lambda: adjoint_project(fan, shape=shape, **there),
            len(image),
        ),
        "ldct, whole simulation, block of 32": (
            lambda: model(block, np.random.default_rng(0)),
            len(image),
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, (run, slices) in ways.items():
            start = time.perf_counter()
            run()
            if repeat:  # the first round warms up
                seconds[name].append((time.perf_counter() - start) / slices)
    return seconds


def part(volume: Volume, slices: int) -> Volume:
    return Volume(
        volume.image_hu[:slices],
        volume.valid[:slices],
        volume.affine_lps,
        volume.slice_origins_mm[:slices],
    )


def counted(counts: np.ndarray, ne: float, rng: np.random.Generator) -> np.ndarray:
    """One measurement of each mean of `counts` quanta, drawn: its logarithm, floored."""
    read = rng.poisson(counts) + rng.normal(0, math.sqrt(ne), counts.shape)
    return np.log(np.maximum(read, FLOOR_COUNTS))


def counted_truth() -> list[dict[str, float]]:
    """Full dose plus added noise against the low dose counted, ray by ray: N0 1.5e5, 25 %."""
    n0, a, ne, size = 1.5e5, 0.25, 10.0, 1_000_000
    rng = np.random.default_rng(0)
    rows = []
    for p in range(1, 10):
        counts = np.full(size, n0 * math.exp(-p))
        full = math.log(n0) - counted(counts, ne, rng)
        truth = math.log(a * n0) - counted(a * counts, ne, rng)
        noise = added_noise(
            counts.astype(np.float32), dose_fraction=a, electronic_noise=ne, generator=rng
        )
        rows.append(
            {
                "p": p,
                "counts": a * counts[0],
                "deviation ratio": float((full + noise).std() / truth.std()),
                "bias": float((full + noise).mean() - truth.mean()),
            }
        )
    return rows


def real_noise(data: Path) -> dict[str, dict]:
    """Predicted over measured noise in held-out slices: each patient's, the phantom's other."""
    first, second, _ = volumes(data / "phantom" / "uniform-ge-hd750", IngestOptions(gaps="slices"))
    found = {"uniform-ge-hd750, water": held_out(first, second, (0,))}
    for name in PATIENTS:
        (volume,) = volumes(data / "ct" / name)
        count = len(volume.image_hu)
        fitted = set(np.linspace(0, count - 1, SLICES).round().astype(int))
        rest = tuple(n for n in range(count) if n not in fitted)[::HELD_OUT_STEP]
        found[f"{name}, tissue"] = held_out(volume, volume, rest)
    return found


def held_out(fitted: Volume, tested: Volume, slices: tuple[int, ...]) -> dict:
    start = time.perf_counter()
    calibration = calibrate(fitted)
    seconds = time.perf_counter() - start
    rows = agreement(tested, calibration, slices)
    return {
        "photons_per_ray": calibration.photons_per_ray,
        "cutoff": calibration.cutoff,
        "notes": list(calibration.notes),
        "seconds": seconds,
        "slices": [row._asdict() for row in rows],
    }


def gpu_speed(volume: Volume) -> float | None:
    """Slices a second of the whole simulation on a GPU; None where there is none."""
    if not torch.cuda.is_available():
        return None
    model, block = LowDoseCT(dose_fraction=0.25, device="cuda"), part(volume, BLOCK)
    model(block, np.random.default_rng(0))
    start = time.perf_counter()
    model(block, np.random.default_rng(0))
    return len(block.image_hu) / (time.perf_counter() - start)


def markdown(result: dict) -> str:
    lines = [
        f"Seconds a slice of 512 x 512, {GEOMETRY.views} views ({GEOMETRY.detectors} cells), "
        f"median of {len(next(iter(result['seconds'].values())))} runs in turns; "
        f"{machine.described(result['machine'])}",
        "",
        "| | seconds | fastest to slowest |",
        "|---|---|---|",
    ]
    median = {name: statistics.median(each) for name, each in result["seconds"].items()}
    for name, each in result["seconds"].items():
        lines.append(f"| {name} | {median[name]:.3f} | {min(each):.3f} to {max(each):.3f} |")
    theirs = median["scikit-image, radon"] + median["scikit-image, iradon"]
    lines += ["", "| scikit-image's radon + iradon over ours | |", "|---|---|"]
    for size in ("one slice", "block of 32"):
        ours = median[f"ldct, forward, {size}"] + median[f"ldct, FBP, {size}"]
        lines.append(f"| {size} | {theirs / ours:.1f} |")
    gpu = "not checked, no GPU here" if result["gpu"] is None else f"{result['gpu']:.0f} slices/s"
    lines += ["", f"On a GPU: {gpu}.", "", *truth_table(result), "", *real_table(result)]
    return "\n".join(lines) + "\n"


def truth_table(result: dict) -> list[str]:
    lines = [
        "Full dose plus added noise over the low dose counted quantum by quantum (25 % of 1.5e5",
        "photons, electronic noise 10, floor of one count), a million rays each:",
        "",
        "| line integral | counts | standard deviation | bias |",
        "|---|---|---|---|",
    ]
    for row in result["counted truth"]:
        lines.append(
            f"| {row['p']} | {row['counts']:.1f} | {row['deviation ratio']:.3f} "
            f"| {row['bias']:+.4f} |"
        )
    return lines


def real_table(result: dict) -> list[str]:
    lines = [
        "Predicted over measured noise in slices that the calibration has not seen (above 0.1",
        "cycles per mm, median over flat patches; then the plain standard deviation, which holds",
        "anatomy's own):",
        "",
        "| | photons per ray | kernel | slices | noise HU | median | lowest to highest | plain "
        "| s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in result["real noise"].items():
        ratios = [each["ratio"] for each in row["slices"]]
        noise = statistics.median(each["measured_hu"] for each in row["slices"])
        whole = statistics.median(each["whole_ratio"] for each in row["slices"])
        lines.append(
            f"| {name} | {row['photons_per_ray']:.2g} | {row['cutoff']:.2f} | {len(ratios)} "
            f"| {noise:.1f} | {statistics.median(ratios):.3f} "
            f"| {min(ratios):.3f} to {max(ratios):.3f} | {whole:.3f} | {row['seconds']:.1f} |"
        )
    return lines


if __name__ == "__main__":
    main()
