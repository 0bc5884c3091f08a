"""What each further series costs, and what commands cost where much is kept.

    python benchmarks/growth.py
    python benchmarks/growth.py --parts kept

each: time and memory of `ldct ingest` and `ldct apply`. kept: commands beside 10,000 series,
100,000 pieces of work and 1,000 versions, and beside a hundred (growth_kept.py).

For each: generated series of 4 slices of 64 x 64, so that it is the series that cost and not the
slices. Each count is a process of its own, which has everything imported and one series behind it
before the clock starts. Writes results/growth.json and growth.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import machine
import numpy as np
from growth_kept import MANY, kept_lines, kept_rows

from flows.commands import apply_flow
from flows.ingest import ingest_flow
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.synthetic.phantom_series import write_phantom_series
from pipeline.export.series import Export
from pipeline.physics.phantoms.patient import Phantom

RESULTS = Path(__file__).parent / "results"
SLICES = 4
MODEL = "redcnn@pretrained"
COUNTS = {"ingest": [10, 100, 1_000], "apply": [10, 100, 300]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--ingest", type=int, nargs="*", default=COUNTS["ingest"])
    parser.add_argument("--apply", type=int, nargs="*", default=COUNTS["apply"])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--parts", nargs="+", choices=("each", "kept"), default=["each", "kept"])
    for kind, count in MANY.items():
        parser.add_argument(f"--{kind}", type=int, default=count, help="how many are kept")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        stage, count = arguments.one
        print(json.dumps(one(stage, int(count))))
        return
    path = RESULTS / "growth.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if "each" in arguments.parts:
        counts = {"ingest": arguments.ingest, "apply": arguments.apply}
        found["rows"] = [
            {"stage": stage, "series": count, **in_own_process(stage, count)}
            for _ in range(arguments.repeats)
            for stage, numbers in counts.items()
            for count in numbers
        ]
        found["machine"] = machine.facts()
    if "kept" in arguments.parts:
        most = {kind: getattr(arguments, kind) for kind in MANY}
        with tempfile.TemporaryDirectory() as scratch:
            found["kept"] = kept_rows(Path(scratch), max(2, arguments.repeats), most)
        found["kept_machine"] = machine.facts()
    path.write_text(json.dumps(found, indent=2) + "\n")
    (RESULTS / "growth.md").write_text(markdown(found))
    print(markdown(found))


def in_own_process(stage: str, count: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", stage, str(count)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(ended.stdout.splitlines()[-1])


def one(stage: str, count: int) -> dict[str, float]:
    """Seconds of the wall clock and of the processor, and MiB at most, for so many series."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        os.environ["LDCT_KEY_FILE"] = str(work / "key")
        (work / "key").write_bytes(b"k" * 32)
        write_series(work / "first", 1)
        write_series(work / "all", count)
        run = {"ingest": ingest, "apply": apply}[stage]
        run(work / "first", work / "of-first")
        before_mib = machine.peak_mib()
        began, begun = time.perf_counter(), time.process_time()
        run(work / "all", work / "of-all")
        return {
            "seconds": time.perf_counter() - began,
            "processor_s": time.process_time() - begun,
            "before_mib": before_mib,
            "peak_mib": machine.peak_mib(),
        }


def ingest(source: Path, out: Path) -> None:
    ingest_flow(source, out, IngestOptions())


def apply(source: Path, out: Path) -> None:
    apply_flow(MODEL, source, Export(out), intake=IngestOptions())


def write_series(folder: Path, count: int, *, first: int = 0, slices: int = SLICES) -> None:
    """first: the number of the first patient; another one's images are others."""
    generator = np.random.default_rng(first)
    for number in range(first, first + count):
        image_hu = generator.normal(0, 200, (slices, 64, 64)).round().astype(np.float32)
        labels = np.zeros(image_hu.shape, np.uint8)
        phantom = Phantom(image_hu, labels, spacing_mm=(2.5, 0.8, 0.8), slice_thickness_mm=2.5)
        write_phantom_series(phantom, folder / f"{number:04d}", patient_number=number + 1, seed=1)


def markdown(found: dict[str, Any]) -> str:
    """Further: beside the count before it, so that what a run costs once is left out."""
    lines = [
        f"Series of {SLICES} slices of 64 x 64; apply: {MODEL}. "
        f"{machine.described(found['machine'])}",
        "",
        "| | series | seconds | of the processor | ms of it each further series | MiB at most |",
        "|---|---|---|---|---|---|",
    ]
    before: dict[str, Any] = {}
    for row in found["rows"]:
        known = before if before.get("stage") == row["stage"] else {"series": 0, "processor_s": 0}
        seconds, series = (row[name] - known[name] for name in ("processor_s", "series"))
        each = f"{1000 * seconds / series:.1f}" if series > 0 else "–"
        lines.append(
            f"| {row['stage']} | {row['series']} | {row['seconds']:.1f} | "
            f"{row['processor_s']:.1f} | {each} | {row['peak_mib']:.0f} |"
        )
        before = row
    if "kept" in found:
        lines += ["", f"Where much is kept. {machine.described(found['kept_machine'])}"]
        lines += kept_lines(found["kept"])
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
