"""How fast the review page opens and scrolls 512 x 512 x 500, in Chromium without a graphics card.

    python benchmarks/review.py

Makes such a series and a derived one of it, serves both with `ldct review` as a user does, and
opens them in Debian's Chromium (headless, software rendering) with two panels of the usual size.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import machine
import numpy as np
from playwright.sync_api import Page, sync_playwright

from pipeline.dicom.derived.write import DENOISED, Operation
from pipeline.dicom.read.pixels import read_slice
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import Slice
from pipeline.dicom.synthetic.phantom_series import write_phantom_series
from pipeline.export.series import Export, publish
from pipeline.physics.phantoms.patient import Phantom

RESULTS = Path(__file__).parent / "results"
MATRIX, SLICES = 512, 500
SCROLLED = 150
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
VIEWER = "globalThis.ldctView.viewer"
OPERATION = Operation(
    label="AI DENOISED invented v0",
    description="Made for a benchmark.",
    code=DENOISED,
    equipment="invented",
    equipment_version="0",
    identity="invented/0",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        write_case(root)
        runs = [measured(root) for _ in range(arguments.repeats)]
    result: dict[str, Any] = {
        name: round(statistics.median(run[name] for run in runs), 2) for name in runs[0]
    }
    result |= {
        "repeats": len(runs),
        "machine": machine.facts(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "review.json").write_text(json.dumps(result, indent=2) + "\n")
    (RESULTS / "review.md").write_text(markdown(result))
    print(markdown(result))


def write_case(root: Path) -> None:
    """A cylinder of water with noise, and the same without a tenth of it as the derived one."""
    rows, columns = np.mgrid[:MATRIX, :MATRIX]
    inside = np.hypot(rows - MATRIX / 2, columns - MATRIX / 2) < 0.4 * MATRIX
    generator = np.random.default_rng(0)
    image_hu = np.empty((SLICES, MATRIX, MATRIX), np.float32)
    for plane in image_hu:
        plane[:] = np.where(inside, generator.normal(0, 20, inside.shape), -1000)
    labels = np.broadcast_to(np.uint8(0), image_hu.shape)
    phantom = Phantom(image_hu, labels, (1.0, 0.7, 0.7), 1.0)
    write_phantom_series(phantom, root / "original", patient_number=1, seed=0)
    series = find_series(root / "original").series[0]
    pairs = zip(series.instances, 0.9 * image_hu[::-1], strict=True)
    made = (Slice(instance, read_slice(instance), slice_hu) for instance, slice_hu in pairs)
    publish(made, series, OPERATION, Export(root / "derived"))


def measured(root: Path) -> dict[str, float]:
    """One start of the server and one visit: seconds, slices per second, memory in MiB."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "flows.cli.app", "review", str(root), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        listening = time.perf_counter() - started
        try:
            return {"server ready, s": listening, **visited(address), **memory(server.pid)}
        finally:
            server.terminate()


def visited(address: str) -> dict[str, float]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1600, "height": 900})
        page.goto(address)
        until(page, "Boolean(document.querySelector('#main tbody a'))")
        case = page.evaluate("document.querySelector('#main tbody a').hash")
        origin = address.split("?")[0]
        page.goto("about:blank")
        started = time.perf_counter()
        page.goto(origin + case)  # a new page: its scripts, the worklist, both series
        until(page, f"document.body.dataset.ready === '{case}'")
        opened = time.perf_counter() - started
        before = processor_s()
        axial = scrolled(page, 100)
        busy_ms = 1000 * (processor_s() - before) / SCROLLED
        page.keyboard.press("c")
        started = time.perf_counter()
        until(page, f"{VIEWER}.panels.every((panel) => panel.plane?.stack.name === 'coronal')")
        coronal_opened = time.perf_counter() - started
        coronal = scrolled(page, 100)
        heap = page.evaluate("performance.memory.usedJSHeapSize") / 2**20
        browser.close()
    return {
        "open to both images, s": opened,
        "scroll, slices/s": axial,
        "browser's processor time for a slice, ms": busy_ms,
        "first coronal plane, s": coronal_opened,
        "scroll coronal, planes/s": coronal,
        "page's heap, MiB": heap,
    }


def scrolled(page: Page, first: int) -> float:
    """Planes per second, one by one, both panels drawn and a frame shown after each."""
    return page.evaluate(
        f"""(async () => {{
          const frame = () => new Promise((done) => requestAnimationFrame(done));
          await {VIEWER}.goTo({first});
          const started = performance.now();
          for (let i = 1; i <= {SCROLLED}; i++) {{
            await {VIEWER}.goTo({first} + i);
            await frame();
          }}
          return {SCROLLED} / ((performance.now() - started) / 1000);
        }})()"""
    )


def processor_s() -> float:
    """Of all processes of the browser: shows its cost on a machine that others load, too."""
    ticks = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile
            if b"chromium" in (process / "cmdline").read_bytes().split(b"\0")[0]:
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def until(page: Page, script: str) -> None:
    end = time.monotonic() + 120
    while not page.evaluate(script):
        if time.monotonic() > end:
            raise SystemExit(f"waited two minutes for {script}")
        time.sleep(0.01)


def memory(pid: int) -> dict[str, float]:
    """The server's own memory: what the system pages in from the scratch file is not its."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return {"server's own memory, MiB": int(fields["RssAnon"].split()[0]) / 1024}


def markdown(result: dict[str, Any]) -> str:
    rows = [f"| {name} | {value} |" for name, value in result.items() if name != "machine"]
    return "\n".join(
        [
            f"# The review page with {MATRIX} x {MATRIX} x {SLICES}, original and denoised",
            "",
            "`python benchmarks/review.py`: medians; Chromium headless, no graphics card. "
            f"{machine.described(result['machine'])}",
            "",
            "| | |",
            "|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    main()
