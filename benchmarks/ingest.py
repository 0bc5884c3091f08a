"""Ingest against SimpleITK's series reader and dcm2niix on real CT, and its time by files.

    python benchmarks/ingest.py --data ../shared/data

Both find the series of a folder by their headers and read them, warm, in turns; then both also
write NIfTI. Ours checks every header, masks padding and keeps a place for each slice; theirs
does not. Series that ours refuses are left out of both. dcm2niix is a program (`pip install
dcm2niix` brings it), so its start is in its time; without it there is no row of it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import machine
import numpy as np
import SimpleITK as sitk

from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume
from pipeline.dicom.synthetic.phantom_series import write_phantom_series
from pipeline.ingest.ingest import ingest
from pipeline.physics.phantoms.patient import Phantom
from pipeline.store.store import Store

KEY = b"k" * 32
RESULTS = Path(__file__).parent / "results"
COUNTS = (1_000, 2_500, 5_000, 10_000)
SLICES = 50
DCM2NIIX = "dcm2niix"


def main() -> None:
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of real CT")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--counts", type=int, nargs="*", default=list(COUNTS), help="of files")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = usable_series(arguments.data / "ct", Path(scratch) / "ct")
        result = {
            "against SimpleITK": against_simpleitk(root, Path(scratch), arguments.repeats),
            "linearity": linearity(Path(scratch), arguments.counts),
            "machine": machine.facts(),
            "SimpleITK": sitk.Version_VersionString(),
        }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "ingest.json").write_text(json.dumps(result, indent=2) + "\n")
    (RESULTS / "ingest.md").write_text(markdown(result))
    print(markdown(result))


def usable_series(source: Path, root: Path) -> Path:
    """Links to the slices of every series that can be ingested, a folder each."""
    for series in find_series(source).series:
        folder = root / series.instances[0].path.parent.name
        folder.mkdir(parents=True)
        for instance in series.instances:
            (folder / instance.path.name).symlink_to(instance.path.resolve())
    return root


def simpleitk_volumes(root: Path) -> list[sitk.Image]:
    volumes = []
    for folder in sorted(root.iterdir()):
        for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
            reader = sitk.ImageSeriesReader()
            reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid))
            volumes.append(reader.Execute())
    return volumes


def dcm2niix(root: Path, out: Path) -> None:
    out.mkdir()
    command = [DCM2NIIX, "-d", "1", "-b", "n", "-z", "n", "-o", str(out), str(root)]
    subprocess.run(command, check=True, capture_output=True)


def against_simpleitk(root: Path, scratch: Path, repeats: int) -> dict:
    def ours_read() -> None:
        [read_volume(series) for series in find_series(root).series]

    def ours_stored() -> None:
        ingest(root, Store(scratch / "store"), key=KEY)

    def theirs_stored() -> None:
        (scratch / "itk").mkdir()
        for number, volume in enumerate(simpleitk_volumes(root)):
            sitk.WriteImage(sitk.Cast(volume, sitk.sitkFloat32), str(scratch / f"itk/{number}.nii"))

    runs: dict[str, Callable[[], object]] = {
        "SimpleITK, read": lambda: simpleitk_volumes(root),
        "ldct, read": ours_read,
        "SimpleITK, read and write NIfTI": theirs_stored,
        "ldct, ingest into a store": ours_stored,
    }
    if shutil.which(DCM2NIIX):
        runs[DCM2NIIX] = lambda: dcm2niix(root, scratch / "dcm2niix")
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            for folder in ("store", "itk", "dcm2niix"):
                shutil.rmtree(scratch / folder, ignore_errors=True)
            start = time.perf_counter()
            run()
            if repeat:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    slices = sum(len(list(folder.iterdir())) for folder in root.iterdir())
    return {"slices": slices, "seconds": seconds}


def linearity(scratch: Path, counts: list[int]) -> dict[str, float]:
    """Seconds to ingest folders of small slices in series of 50, by the number of files."""
    found = {}
    generator = np.random.default_rng(0)
    image_hu = generator.normal(0, 200, (SLICES, 64, 64)).round().astype(np.float32)
    labels = np.zeros(image_hu.shape, np.uint8)
    phantom = Phantom(image_hu, labels, spacing_mm=(2.5, 0.8, 0.8), slice_thickness_mm=2.5)
    done = 0
    for count in counts:
        for number in range(done, count // SLICES):
            folder = scratch / "many" / f"{number:04d}"
            write_phantom_series(phantom, folder, patient_number=number + 1, seed=1)
        done = count // SLICES
        start = time.perf_counter()
        ingest(scratch / "many", Store(scratch / f"store-{count}"), key=KEY)
        found[str(count)] = time.perf_counter() - start
    return found


def markdown(result: dict) -> str:
    runs = result["against SimpleITK"]["seconds"]
    middle = {name: statistics.median(seconds) for name, seconds in runs.items()}
    itk_read, read, itk_stored, stored = list(middle.values())[:4]
    repeats = len(next(iter(runs.values())))
    lines = [
        f"{result['against SimpleITK']['slices']} slices of real CT, warm, median of {repeats} "
        f"runs in turns; {machine.described(result['machine'])}\n",
        "| | seconds | fastest to slowest |",
        "|---|---|---|",
        *(f"| {k} | {middle[k]:.3f} | {min(v):.3f} to {max(v):.3f} |" for k, v in runs.items()),
        "",
        "| SimpleITK's time over ours | |",
        "|---|---|",
        f"| read | {itk_read / read:.2f} |",
        f"| read and write | {itk_stored / stored:.2f} |",
        f"| their read alone, our whole ingest | {itk_read / stored:.2f} |",
        *(
            [f"| dcm2niix's time over our ingest | {middle[DCM2NIIX] / stored:.2f} |"]
            if DCM2NIIX in middle
            else []
        ),
    ]
    if result["linearity"]:
        lines += ["", "| files (64 x 64, series of 50) | seconds | ms a file |", "|---|---|---|"]
    for count, seconds in result["linearity"].items():
        lines.append(f"| {count} | {seconds:.2f} | {1000 * seconds / int(count):.2f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
