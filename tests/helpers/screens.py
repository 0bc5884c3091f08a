"""A browser's page on screens of any ratio of their pixels to CSS pixels."""

from __future__ import annotations

import base64
import io
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from helpers.browser import PATIENCE_S, VIEWER, Tab
from helpers.review import COLUMN_MM, COLUMNS, ROW_MM, ROWS

SIZE = (903, 561)  # CSS pixels; odd, so that panels end between pixels of the screen
WINDOW = (128, 256)  # grey levels are HU, from 0 to 255
PLACES = 12
#: An image pixel's outer part, where half a pixel of the screen decides which one is seen.
EDGE_PX = 0.2


@dataclass
class Screen:
    """A tab on a screen of some ratio of its pixels to the page's CSS pixels."""

    tab: Tab
    devtools: Any

    @property
    def ratio(self) -> float:
        return self.tab.ask("devicePixelRatio")

    def become(self, ratio: float, size: tuple[int, int] = SIZE) -> None:
        """What a zoom of the browser and a move to another screen do to an open page."""
        self.metrics(ratio, size)
        self.settle()

    def metrics(self, ratio: float, size: tuple[int, int] = SIZE) -> None:
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": ratio}
        self.devtools.send("Emulation.setDeviceMetricsOverride", {**metrics, "mobile": False})

    def settle(self) -> None:
        """Wait for the drawing: a screenshot makes an emulated screen tell what has changed of
        it, and the library draws at the next frame."""
        corner = {"x": 0, "y": 0, "width": 4, "height": 4, "scale": 1}
        self.devtools.send("Page.captureScreenshot", {"format": "png", "clip": corner})
        for _ in range(3):
            self.tab.ask("new Promise((drawn) => requestAnimationFrame(() => drawn()))")

    def show_pixels(self) -> None:
        """Grey levels that are HU, each image pixel as a block, and nothing written over it."""
        self.tab.ask(
            f"""{VIEWER}.setWindow(...{list(WINDOW)});
            if ({VIEWER}.state.overlay) {VIEWER}.toggleOverlay({VIEWER}.state.overlay);
            for (const panel of {VIEWER}.panels) {{
              panel.viewport.setProperties({{ interpolationType: 0 }});
              panel.viewport.render();
              panel.element.querySelectorAll("p, svg").forEach((each) => {{
                each.style.visibility = "hidden";
              }});
            }}"""
        )
        self.settle()

    def picture(self) -> NDArray[np.int64]:
        """[rows, columns, red green blue] of the window's screen pixels."""
        png = self.devtools.send("Page.captureScreenshot", {"optimizeForSpeed": True})["data"]
        image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
        return np.asarray(image).astype(int)

    def box(self, panel: int) -> dict[str, float]:
        return self.tab.ask(f"{VIEWER}.panels[{panel}].element.getBoundingClientRect().toJSON()")

    def told(self, x: float, y: float) -> dict[str, float]:
        """HU that the page tells by role for the cursor at a place in CSS pixels."""
        self.tab.ask("document.querySelector('#cursor').textContent = ''")
        self.tab.page.mouse.move(x, y)
        end = time.monotonic() + PATIENCE_S
        while not (text := self.tab.ask("document.querySelector('#cursor').textContent")):
            assert time.monotonic() < end, "the page tells no HU"
        lines = [line.split(": ") for line in text.splitlines()[1:]]
        return {role: float(hu.removesuffix(" HU")) for role, hu in lines if hu.endswith("HU")}


@dataclass
class Place:
    """A pixel of the screen within a panel, and the image pixel that ought to lie there."""

    x: float  # CSS pixels of the window
    y: float
    screen: tuple[int, int]  # row and column of the screenshot
    image: tuple[int, int]  # row and column of the plane


def places(
    screen: Screen,
    panel: int,
    *,
    shape: tuple[int, int] = (ROWS, COLUMNS),
    spacing_mm: tuple[float, float] = (ROW_MM, COLUMN_MM),
) -> list[Place]:
    """Places by chance where a plane fits into the middle of a panel, reckoned by hand."""
    box, ratio = screen.box(panel), screen.ratio
    rows, columns = shape
    scale = min(box["width"] / (columns * spacing_mm[1]), box["height"] / (rows * spacing_mm[0]))
    middle = np.array([box["y"] + box["height"] / 2, box["x"] + box["width"] / 2])
    css_per_pixel = scale * np.array(spacing_mm)
    rng, found = np.random.default_rng(7), []
    while len(found) < PLACES:
        corner = middle - css_per_pixel * shape / 2
        css = corner + rng.uniform(0.02, 0.98, 2) * css_per_pixel * shape
        pixel = np.floor(css * ratio)
        from_centre = ((pixel + 0.5) / ratio - middle) / css_per_pixel + (np.array(shape) - 1) / 2
        if np.abs(from_centre - np.rint(from_centre)).max() > 0.5 - EDGE_PX:
            continue
        y, x = pixel / ratio
        image = np.rint(from_centre).astype(int)
        found.append(Place(x, y, tuple(pixel.astype(int)), tuple(image)))
    return found


def drag(tab: Tab, begin: NDArray[Any], end: NDArray[Any], steps: int = 2) -> None:
    tab.page.mouse.move(*begin)
    tab.page.mouse.down()
    tab.page.mouse.move(*end, steps=steps)
    tab.page.mouse.up()
