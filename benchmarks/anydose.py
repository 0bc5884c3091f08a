"""Every figure of anydose@pretrained's card: `python benchmarks/anydose.py --data ../shared/data`.

held_out: series of patients that training never saw, and of a vendor that it never saw, at doses
that are simulated on them (their own noise goes on in what is added), beside the undenoised
input, swift@pretrained and BM3D, whose strength is tuned for each dose on the patients of the
validation side. noisy: a real scan of little dose without a twin, before and after. kernels: the
noise of one scan with two kernels, predicted from one of them. Writes results/anydose.json and
anydose.md beside this file.

BM3D comes from the `bm3d` package, whose licence is for non-commercial use: it is not among the
project's dependencies (benchmarks/requirements.txt). It takes half a minute a slice, so it is
compared on a square of CROP pixels around the body's middle, as all others are beside it; with
`--bm3d-of results/anydose.json` its figures are those of an earlier run on the same inputs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import numpy as np
from anydose_noise import before_and_after, two_kernels
from anydose_scans import Denoise, Images, Scan, held_scans
from anydose_tables import markdown
from numpy.typing import NDArray

from pipeline.core.atomic_files import write_json
from pipeline.core.masks import body_mask
from pipeline.core.units import Window
from pipeline.evaluation.per_patient import PatientMeasurement
from pipeline.inference.denoise import apply_model
from pipeline.models.adapters.any_dose import at_dose_ratio
from pipeline.physics.calibration import CalibrationError
from pipeline.physics.image_noise import FlatTissue
from pipeline.physics.lowdose import LowDoseCT
from pipeline.store.published_splits import VALIDATION

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
DOSES = (0.05, 0.1, 0.25, 0.5)
WINDOWS = {"soft_tissue": Window(40, 400), "lung": Window(-600, 1500)}
CROP = 256
#: Inputs whose PSNR differs by less are one and the same, on another processor.
SAME_DB = 1e-3
#: BM3D's strength: what the noise measured in the image is multiplied by.
FACTORS = (0.5, 0.8, 1.25, 2.0, 3.2, 5.0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data")
    parser.add_argument("--work", type=Path, default=Path("out/anydose"), help="kept between runs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--model", default="anydose@pretrained")
    parser.add_argument("--no-bm3d", action="store_true")
    parser.add_argument("--bm3d-of", type=Path, help="anydose.json of an earlier run")
    arguments = parser.parse_args()
    scans = held_scans(arguments.data, arguments.work)
    ways = denoisers(arguments.model)
    tested = [scan for scan in scans if scan.side != VALIDATION]
    tuning = [] if arguments.no_bm3d else [scan for scan in scans if scan.side == VALIDATION]
    if arguments.bm3d_of:
        earlier = json.loads(arguments.bm3d_of.read_text(encoding="utf-8"))["held_out"]
        rows = with_bm3d_of(earlier, held_out(tested, ways, [], arguments.work, squares=True))
    else:
        rows = held_out(tested, ways, tuning, arguments.work)
    found = {
        "model": arguments.model,
        "held_out": rows,
        "noisy": before_and_after(arguments.data / "ct-noisy", arguments.work, ways["anydose"]),
        "kernels": two_kernels(arguments.data / "train" / "series", arguments.work),
        "machine": machine.facts(),
    }
    write_json(arguments.results / "anydose.json", found)
    (arguments.results / "anydose.md").write_text(markdown(found), encoding="utf-8")


def denoisers(reference: str) -> dict[str, Denoise]:
    """By name: each takes [slices, rows, columns] in HU and the dose ratio to make up for."""
    import flows  # noqa: F401  (sets Prefect and MLflow up before they are imported)
    from flows.tracking.references import load_named

    loaded, plain = load_named(reference).model, load_named("swift@pretrained").model
    return {
        "input": lambda images_hu, ratio: images_hu,
        "swift": lambda images_hu, ratio: apply_model(plain, images_hu),
        "anydose": lambda images_hu, ratio: apply_model(at_dose_ratio(loaded, ratio), images_hu),
    }


def with_bm3d_of(earlier: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with BM3D's figures of an earlier run. Raises SystemExit where its input was
    another one, by PSNR."""
    known = {(row["scan"], row["dose"]): row for row in earlier if "in_square" in row}
    for row in rows:
        before = known.get((row["scan"], row["dose"]))
        if before is None or abs(psnr_of_input(before) - psnr_of_input(row)) > SAME_DB:
            raise SystemExit(f"{row['label']} at {row['dose']}: BM3D was not run on this input")
        row["bm3d_factor"] = before["bm3d_factor"]
        row["in_square"]["bm3d"] = before["in_square"]["bm3d"]
    return rows


def psnr_of_input(row: dict[str, Any]) -> float:
    """What the undenoised square has, in dB."""
    return row["in_square"]["input"]["soft_tissue"]["psnr"]


def held_out(
    scans: list[Scan],
    ways: dict[str, Denoise],
    tuning: list[Scan],
    work: Path,
    *,
    squares: bool = False,
) -> list[dict[str, Any]]:
    """A row for each scan and dose; one that cannot be simulated is left out, by name. tuning: the
    scans on which BM3D is tuned; without any it is left out. squares: measured without it too."""
    rows = []
    for dose in DOSES:
        factor = tuned_factor(tuning, dose, work) if tuning else None
        for scan in scans:
            low_hu = simulated(scan, dose, work)
            if low_hu is not None:
                rows.append(row_of(scan, dose, low_hu, ways, factor, work, squares=squares))
                print(rows[-1]["label"], scan.side, dose, psnrs(rows[-1]), flush=True)
    return rows


def row_of(
    scan: Scan,
    dose: float,
    low_hu: Images,
    ways: dict[str, Denoise],
    bm3d_factor: float | None,
    work: Path,
    *,
    squares: bool = False,
) -> dict[str, Any]:
    """Figures of one scan at one dose, by every way; in a square too, where BM3D has a factor or
    `squares` asks for it."""
    outputs = {name: way(low_hu, 1 / dose) for name, way in ways.items()}
    row = {
        "scan": scan.name,
        "label": scan.label,
        "side": scan.side,
        "sharp": scan.is_sharp,
        "dose": dose,
        "slices": len(low_hu),
        "figures": {name: figures(out, low_hu, scan) for name, out in outputs.items()},
    }
    if bm3d_factor is None and not squares:
        return row
    square = cropped(scan)
    cut = {name: square(out) for name, out in outputs.items()}
    if bm3d_factor is not None:
        kept = kept_bm3d(work, scan, dose, bm3d_factor)
        cut["bm3d"] = bm3d(low_hu, scan, bm3d_factor, kept)
    low_square = square(low_hu)
    in_square = {name: figures(out, low_square, scan, square) for name, out in cut.items()}
    return {**row, "bm3d_factor": bm3d_factor, "in_square": in_square}


def psnrs(row: dict[str, Any]) -> str:
    """For whoever waits."""
    shown = row.get("in_square", row["figures"])
    return ", ".join(f"{name} {found['soft_tissue']['psnr']:.2f}" for name, found in shown.items())


def simulated(scan: Scan, dose: float, work: Path) -> Images | None:
    """The scan's slices at a fraction of their own dose; None where their noise says too little."""
    path = work / "simulated" / f"{scan.name}-{dose:g}.npy"
    if path.exists():
        return np.load(path)
    try:
        low_hu = LowDoseCT(dose, photons_per_ray=None)(scan.volume, np.random.default_rng(17))
    except CalibrationError as error:
        print(f"{scan.label} is left out: {error}")
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, low_hu)
    return low_hu


def figures(
    output_hu: Images,
    input_hu: Images,
    scan: Scan,
    cut: Callable[[NDArray], NDArray] = lambda image: image,
) -> dict[str, Any]:
    """PSNR, SSIM and RMSE by window, and the bias by tissue, mean over the slices."""
    patient = PatientMeasurement(WINDOWS)
    patient.add(
        input_hu=input_hu,
        output_hu=output_hu,
        target_hu=cut(scan.volume.image_hu),
        valid=cut(scan.volume.valid),
    )
    summary = patient.summary()
    by_window = {name: dict(window.output) for name, window in summary.windows.items()}
    return {**by_window, "bias_hu": summary.hu_bias["output"]}


def cropped(scan: Scan) -> Callable[[NDArray], NDArray]:
    """Cuts a square of CROP pixels around the body's middle out of [slices, rows, columns]."""
    rows, columns = np.nonzero(np.any([body_mask(one) for one in scan.volume.image_hu], axis=0))
    starts = [
        int(np.clip(np.median(places) - CROP / 2, 0, size - CROP))
        for places, size in zip((rows, columns), scan.volume.image_hu.shape[1:], strict=True)
    ]
    box = (slice(None), *(slice(start, start + CROP) for start in starts))
    return lambda images: images[box]


def tuned_factor(scans: list[Scan], dose: float, work: Path) -> float:
    """The factor on the measured noise with BM3D's best PSNR on these scans."""
    all_low = [(scan, simulated(scan, dose, work)) for scan in scans]
    pairs = [(scan, low_hu) for scan, low_hu in all_low if low_hu is not None]

    def psnr(scan: Scan, low_hu: Images, factor: float) -> float:
        square = cropped(scan)
        output_hu = bm3d(low_hu, scan, factor, kept_bm3d(work, scan, dose, factor))
        return figures(output_hu, square(low_hu), scan, square)["soft_tissue"]["psnr"]

    return max(FACTORS, key=lambda f: np.mean([psnr(scan, low, f) for scan, low in pairs]))


def bm3d(low_hu: Images, scan: Scan, factor: float, kept: Path) -> Images:
    """BM3D (Dabov et al. 2007) of the square of each slice; its noise is white and of one level.

    kept: a file for the result, from which the next run takes it.
    """
    if kept.exists():
        return np.load(kept)
    from bm3d import bm3d as denoise

    tissue = FlatTissue.of(scan.volume)
    noise = tissue.noise([low_hu[number] for number in tissue.slices])
    assert noise is not None  # or nothing could have been simulated
    squares = cropped(scan)(low_hu).astype(np.float64)
    found = np.stack([denoise(one, factor * noise.noise_hu) for one in squares]).astype(np.float32)
    kept.parent.mkdir(parents=True, exist_ok=True)
    np.save(kept, found)
    return found


def kept_bm3d(work: Path, scan: Scan, dose: float, factor: float) -> Path:
    """Where BM3D's result for a scan lies."""
    return work / "bm3d" / f"{scan.name}-{dose:g}-{factor:g}.npy"


if __name__ == "__main__":
    main()
