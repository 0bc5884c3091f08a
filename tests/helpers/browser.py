"""A real browser for tests: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from conftest import missing

from pipeline.review.assets import BUILT

#: Off the screen, as any user, and without a look outside.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_S = 20
VIEWER = "globalThis.ldctView.viewer"
#: The length of the last mark, in mm.
LAST_MM = (
    "(([a, b]) => Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]))"
    f"({VIEWER}.state.marks.last.points)"
)


# Not for a whole session: while Playwright runs, no other test's event loop can.
@contextmanager
def chromium(require_program: Callable[[str], str]) -> Iterator[Any]:
    """Chromium, where it, Playwright and the built page are there; else the test is skipped."""
    if not (BUILT / "app.js").exists():
        missing("the review page is not built: run `make page`")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not installed: it is in requirements.lock")
    program = require_program("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        yield browser
        browser.close()


#: What the reader study says of its last mark.
STUDY_PROGRESS = "document.querySelector('#study-progress').textContent"


class Tab:
    """A page of the browser, and what tests ask of it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        self.key = page.keyboard.press

    def ask(self, script: str) -> Any:
        return self.page.evaluate(script)

    def until(self, script: str, wanted: Any = True) -> None:
        """Wait for a script's value; the page's policy forbids Playwright's own way to."""
        end = time.monotonic() + PATIENCE_S
        while (found := self.ask(script)) != wanted:
            assert time.monotonic() < end, f"{script} is {found!r}, not {wanted!r}; {self.errors}"
            time.sleep(0.02)

    def go(self, fragment: str) -> None:
        self.ask(
            f"""delete document.body.dataset.ready;
            if (location.hash === "#{fragment}") dispatchEvent(new HashChangeEvent("hashchange"));
            location.hash = "{fragment}";"""
        )
        self.until("document.body.dataset.ready", f"#{fragment}")

    @property
    def indices(self) -> list[int]:
        return self.ask(f"{VIEWER}.panels.map((panel) => Number(panel.element.dataset.index))")

    def shown(self, index: int) -> None:
        self.until(f"{VIEWER}.panels.every((p) => p.element.dataset.index == {index})")

    def grey(self, panel: int, position: list[float]) -> list[int]:
        """What is on the screen at a patient position: red, green, blue."""
        time.sleep(0.05)  # the library draws at the next frame
        return self.ask(
            f"""(() => {{
              const panel = {VIEWER}.panels[{panel}], canvas = panel.viewport.getCanvas();
              const [x, y] = panel.cssOf({position});
              const scale = canvas.width / panel.canvasHost.clientWidth;
              const place = [Math.round(x * scale), Math.round(y * scale), 1, 1];
              return [...canvas.getContext("2d").getImageData(...place).data].slice(0, 3);
            }})()"""
        )


def opened(browser: Any, address: str, *, size: tuple[int, int] = (1200, 700), **how: Any) -> Tab:
    """A new page of (width, height) CSS pixels at an address, when it is ready."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, **how)
    tab = Tab(page)
    page.goto(address)
    tab.until("Boolean(document.body.dataset.ready)")
    return tab
