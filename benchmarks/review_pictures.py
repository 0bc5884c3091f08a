"""The pictures of docs/review.md, from the review page as it is now.

    python benchmarks/review_pictures.py --data ../shared/data --work out/pictures

Applies the model that comes with the software to three real series, as if scanned with four times
the dose, serves them with `ldct review` as a user does, and takes pictures in Debian's Chromium.
What is in WORK already is not made again. Look at each picture before it is committed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import pydicom
from playwright.sync_api import Page, sync_playwright
from review import ARGUMENTS, CHROMIUM, VIEWER, until

DOCS = Path(__file__).parents[1] / "docs"
CHEST, HEAD, NOISY = "chest-ge-lidc0001", "head-ge-tilted", "chest-siemens-lungfcp-0006"
#: Of the chest, around the nodule that four readers outlined.
CHEST_MM = (-137.5, -100.0)
NODULE_MM = -117.5
OUTLINES = "lidc0001-nodules.xml"
LDCT = [sys.executable, "-m", "flows.cli.app"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    applied = made(arguments.data, arguments.work)
    command = [*LDCT, "review", str(applied), "--source", str(arguments.work), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
                page = browser.new_page()
                page.goto(server.stdout.readline().strip())
                page.fill("#reader", "anna")
                take_all(page)
                browser.close()
        finally:
            server.terminate()


def made(data: Path, work: Path) -> Path:
    """The folder of the derived series; their sources and the outlines are in `work`."""
    applied = work / "applied"
    if applied.is_dir():
        return applied
    sources = work / "sources"
    for name in (f"ct/{CHEST}", f"ct/{HEAD}", f"ct-noisy/{NOISY}"):
        folder = sources / Path(name).name
        folder.mkdir(parents=True)
        for path in sorted((data / name).iterdir()):
            if path.suffix == ".dcm" and (CHEST not in name or near_the_nodule(path)):
                shutil.copy(path, folder)
    shutil.copy(data / "volumes" / OUTLINES, sources)
    partial = work / "partial"
    command = [*LDCT, "apply", "anydose@pretrained", str(sources), "--dose-ratio", "4"]
    subprocess.run([*command, "--out", str(partial)], check=True)
    return partial.rename(applied)


def near_the_nodule(path: Path) -> bool:
    header = pydicom.dcmread(path, stop_before_pixels=True)
    return CHEST_MM[0] <= float(header.ImagePositionPatient[2]) <= CHEST_MM[1]


def take_all(page: Page) -> None:
    """Every picture of the page, from the worklist on."""
    page.set_viewport_size({"width": 1400, "height": 420})
    until(page, "document.querySelectorAll('#main tbody tr').length === 3")
    for case in page.evaluate("[...document.querySelectorAll('#main tbody a')].map((a) => a.hash)"):
        go(page, case)  # what changed is measured once a case is opened
        until(page, "!/measured\\)/.test(document.querySelector('.worst').textContent)")
        until(page, "document.querySelector('.worst h3')")
    go(page, "#worklist")
    page.wait_for_timeout(1500)
    height = page.evaluate("document.querySelector('.scroller').getBoundingClientRect().bottom")
    page.set_viewport_size({"width": 1400, "height": round(height) + 12})
    shoot(page, "worklist")
    page.set_viewport_size({"width": 1400, "height": 780})
    open_case(page, "B50f")
    page.keyboard.press("d")
    until(page, f"{VIEWER}.panels.length === 3 && Boolean({VIEWER}.panels[2].plane)")
    region(page)
    shoot(page, "case")
    open_case(page, OUTLINES_FLAG)
    page.keyboard.press("1")
    page.evaluate(f"{VIEWER}.moveTo([0, 0, {NODULE_MM}])")
    shoot(page, "labels")
    open_case(page, "gantry tilt")
    for key in "5s":
        page.keyboard.press(key)
    until(page, f"{VIEWER}.panels.every((panel) => panel.plane?.stack.name === 'sagittal')")
    shoot(page, "tilted")


#: What the flags of the chest's case say, whose other slices were left out.
OUTLINES_FLAG = "slices may be missing"


def go(page: Page, fragment: str) -> None:
    same = f"if (location.hash === '{fragment}') dispatchEvent(new HashChangeEvent('hashchange'));"
    page.evaluate(f"delete document.body.dataset.ready; {same} location.hash = '{fragment}'")
    until(page, f"document.body.dataset.ready === '{fragment}'")


def open_case(page: Page, text: str) -> None:
    """The case whose row of the worklist has a text."""
    go(page, "#worklist")
    rows = "[...document.querySelectorAll('#main tbody tr')]"
    row = f"{rows}.find((row) => row.innerText.includes({text!r}))"
    go(page, page.evaluate(f"{row}.querySelector('a').hash"))
    page.evaluate(f"{VIEWER}.fit()")


def region(page: Page) -> None:
    """One of 16 mm, drawn with the mouse in the first panel."""
    page.click("#tools [data-value=region]")
    box = page.locator(".panel").first.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] * 0.62, box["y"] + box["height"] * 0.5
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 26, y, steps=4)
    page.mouse.up()
    until(page, "document.querySelectorAll('#figures tr[data-role]').length === 3")


def shoot(page: Page, name: str) -> None:
    page.wait_for_timeout(800)
    page.screenshot(path=DOCS / f"review-{name}.png")


if __name__ == "__main__":
    main()
