"""RED-CNN against BM3D on real CT at 25 % dose: `python benchmarks/denoise.py --data DATA`.

Trains configs/denoise_redcnn.yaml on chest-ge-lidc0001 and abdomen-ge-crlm1004, tests on every
slice of abdomen-ge-crlm1006, and gives BM3D the sigma that serves it best on those very slices.
Writes results/denoise.json and results/denoise.md beside this file. BM3D comes from the `bm3d`
package, whose licence is for non-commercial use: it is not among the project's dependencies;
install benchmarks/requirements.txt.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

import flows  # noqa: F401  (sets Prefect and MLflow up before they are imported)
from flows.registry import Registry
from flows.single import train_flow
from pipeline.config import load_config
from pipeline.dataset import degradation_digest
from pipeline.evaluate import PatientFigures, summarise
from pipeline.identity import installation_key
from pipeline.ingest import ingest
from pipeline.store import Store
from pipeline.versions import versions

ROOT = Path(__file__).parents[1]
TRAINING = ("chest-ge-lidc0001", "abdomen-ge-crlm1004")
TEST = "abdomen-ge-crlm1006"
SIGMAS_HU = (100, 150, 200, 250, 300, 350)
#: Every so many slices serve to find BM3D's best sigma; all of them give its figures.
TUNING_STEP = 17


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data")
    parser.add_argument("--work", type=Path, default=Path("out/benchmark"))
    parser.add_argument("--skip-bm3d", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C")
    arguments = parser.parse_args()

    store = Store(arguments.work / "store")
    patients = {
        name: ingest(arguments.data / "ct" / name, store, key=installation_key()).series[0]
        for name in (*TRAINING, TEST)
    }
    held_back = patients[TEST]
    chosen = [f"data.split.test=[{held_back['patient']}]", "data.split.validation=0.0"]
    config = load_config(ROOT / "configs" / "denoise_redcnn.yaml", [*chosen, *arguments.set])
    trained = train_flow(config, store.path)

    volume = store.load(held_back["series"])
    input_hu = store.load_degraded(held_back["series"], degradation_digest(config, 0))
    results = {
        "training": trained["stages"],
        "redcnn": trained["metrics"]["patients"][held_back["patient"]],
        "model": Registry.default().find(trained["model"]["uri"]).name,
        "parameters": trained["model"]["parameters"],
        "versions": versions(),
    }
    if not arguments.skip_bm3d:
        results["bm3d"] = best_bm3d(volume, input_hu, config)
    write(results)


def best_bm3d(volume, input_hu, config) -> dict:
    """BM3D's figures on all slices, with the sigma of the highest PSNR on some of them."""
    some = slice(None, None, TUNING_STEP)
    tried = {
        sigma: figures(volume, input_hu, bm3d_hu(input_hu[some], sigma), config, some)
        for sigma in SIGMAS_HU
    }
    best = max(tried, key=lambda s: tried[s]["windows"]["soft_tissue"]["output"]["psnr"])
    began = time.perf_counter()
    output_hu = bm3d_hu(input_hu, best)
    seconds = time.perf_counter() - began
    return {
        "sigma_hu": best,
        "tried_psnr_db": {
            sigma: row["windows"]["soft_tissue"]["output"]["psnr"] for sigma, row in tried.items()
        },
        "seconds_per_slice": seconds / len(input_hu),
        **figures(volume, input_hu, output_hu, config, slice(None)),
    }


def bm3d_hu(image_hu, sigma_hu: float):
    """BM3D of every slice; its sigma is in the image's own units."""
    from bm3d import bm3d

    return np.stack([bm3d(np.asarray(s, dtype=np.float64), sigma_hu) for s in image_hu]).astype(
        np.float32
    )


def figures(volume, input_hu, output_hu, config, some: slice) -> dict:
    patient = PatientFigures(config.windows)
    patient.add(
        input_hu=input_hu[some],
        output_hu=output_hu,
        target_hu=volume.image_hu[some],
        valid=volume.valid[some],
    )
    return summarise({"patient": patient})["patients"]["patient"]


def write(results: dict) -> None:
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "denoise.json").write_text(json.dumps(results, indent=2) + "\n")
    rows = [("25 % dose", results["redcnn"], "input"), ("RED-CNN", results["redcnn"], "output")]
    if "bm3d" in results:
        label = f"BM3D, sigma {results['bm3d']['sigma_hu']} HU"
        rows.insert(1, (label, results["bm3d"], "output"))
    lines = [
        "Window 40/400, PSNR and SSIM over the whole slice with range 400 HU, RMSE within the",
        "body, mean over the 51 slices of abdomen-ge-crlm1006.",
        "",
        "| | PSNR dB | SSIM | RMSE HU | bias in soft tissue HU |",
        "|---|---|---|---|---|",
    ]
    for label, result, kind in rows:
        row = result["windows"]["soft_tissue"][kind]
        bias = result["hu_bias"][kind]["soft_tissue"]
        lines.append(
            f"| {label} | {row['psnr']:.2f} | {row['ssim']:.4f} | {row['rmse_hu']:.1f} "
            f"| {bias:+.2f} |"
        )
    (folder / "denoise.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
