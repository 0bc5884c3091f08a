"""The review page on any screen: the pixel that is seen is the one whose HU is told.

Every pixel of the series has a value of its own chance, and the window makes grey levels of HU
one to one: a picture that lies a pixel off shows other greys. Screenshots are the truth for what
is seen, at one value for each pixel of the screen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from helpers.browser import ARGUMENTS, LAST_MM, VIEWER, Tab, opened
from helpers.derived import write_derived
from helpers.dicom import OPERATION, only_series
from helpers.review import (
    COLUMN_MM,
    COLUMNS,
    ROW_MM,
    ROWS,
    SLICES,
    STEP_MM,
    case_of,
    collected,
    write_original,
)
from helpers.screens import PLACES, SIZE, Screen, drag, places
from numpy.typing import NDArray

from pipeline.dicom.read.volume import read_volume
from pipeline.review.static_export import write_disk
from pipeline.review.worklist import Collection
from pipeline.store.store import LPS_TO_RAS

RATIOS = (1, 1.25, 1.5, 2, 3)
HU = np.random.default_rng(23).integers(0, 256, (SLICES, ROWS, COLUMNS)).astype(np.int16)
SHIFT_HU = np.random.default_rng(24).integers(-90, 91, HU.shape).astype(np.int16)
LABELS = np.random.default_rng(25).integers(0, 2, HU.shape).astype(np.uint8)
MIDDLE = SLICES // 2
ROLES = ("original", "denoised")


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    root = tmp_path_factory.mktemp("pixels")
    source = root / "sources" / "1"
    write_original(source, 1, images=list(HU))
    write_derived((HU + SHIFT_HU).astype(np.float32), only_series(source), OPERATION, root / "made")
    write_labels(source, root / "labels.nii")
    return collected(root)


def write_labels(original: Path, path: Path) -> None:
    affine = read_volume(only_series(original)).volume.affine_lps
    image = nibabel.Nifti1Image(LABELS.T, LPS_TO_RAS @ affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


@pytest.fixture(scope="module")
def address(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page on a disk: the same scripts, and no token that opens one tab only."""
    out = tmp_path_factory.mktemp("disk") / "page"
    return (out / write_disk(collection, out)).as_uri()


@pytest.fixture(scope="module", params=RATIOS)
def opened_at_ratio(
    browser: Any, address: str, collection: Collection, request: pytest.FixtureRequest
) -> Iterator[tuple[Screen, float]]:
    tab = opened(browser, address)
    screen = Screen(tab, tab.page.context.new_cdp_session(tab.page))
    screen.become(request.param)
    tab.page.reload()
    tab.until("Boolean(document.body.dataset.ready)")
    yield screen, request.param
    tab.page.close()


@pytest.fixture
def screen(opened_at_ratio: tuple[Screen, float], collection: Collection) -> Iterator[Screen]:
    """The case, opened anew on a screen of each ratio: two panels, the middle slice."""
    screen, ratio = opened_at_ratio
    screen.become(ratio)
    assert screen.ratio == ratio
    open_case(screen, collection)
    yield screen
    assert screen.tab.errors == []


def open_case(screen: Screen, collection: Collection) -> None:
    screen.tab.go(f"case/{case_of(collection, collection.root / 'made')}")
    screen.tab.until(f"{VIEWER}.panels.length", 2)
    screen.show_pixels()


def assert_seen_is_told(screen: Screen, plane_hu: NDArray[Any], panel: int = 0) -> None:
    """A plane's HU at each place, the HU that the page tells there, and the grey that is seen."""
    spots = places(screen, panel, shape=plane_hu.shape, spacing_mm=spacing_mm_of(plane_hu))
    expected = [plane_hu[spot.image] for spot in spots]
    seen = screen.picture()
    assert_greys([seen[spot.screen] for spot in spots], expected)
    assert [screen.told(spot.x, spot.y)[ROLES[panel]] for spot in spots] == expected


def spacing_mm_of(plane_hu: NDArray[Any]) -> tuple[float, float]:
    """(row, column) spacing of an axial or a coronal plane."""
    return (ROW_MM if len(plane_hu) == ROWS else STEP_MM), COLUMN_MM


def assert_greys(found: list[NDArray[np.int64]], hu: list[Any]) -> None:
    levels = np.clip(np.array(hu, float) * 255 / 256, 0, 255)
    assert np.abs(np.array(found) - levels[:, None]).max() <= 1


def test_the_pixel_under_the_cursor_is_the_one_that_is_told(screen: Screen) -> None:
    assert_seen_is_told(screen, HU[MIDDLE])
    assert_seen_is_told(screen, HU[MIDDLE] + SHIFT_HU[MIDDLE], panel=1)


def test_another_orientation(screen: Screen) -> None:
    screen.tab.key("c")
    screen.tab.until(f"{VIEWER}.panels[0].plane?.stack.name", "coronal")
    screen.show_pixels()
    index = screen.tab.indices[0]
    assert_seen_is_told(screen, HU[::-1, index])


def test_a_zoom_of_the_browser_while_the_page_is_open(screen: Screen) -> None:
    """110 % and 67 %: as many pixels of the screen, of another number of CSS pixels."""
    ratio = screen.ratio
    for zoom in (1.1, 0.67):
        screen.become(ratio * zoom, (round(SIZE[0] / zoom), round(SIZE[1] / zoom)))
        assert_seen_is_told(screen, HU[MIDDLE])


def test_a_move_to_another_screen(screen: Screen) -> None:
    """As many CSS pixels, of another number of pixels of the screen; there and back."""
    ratio = screen.ratio
    for other in (4.5 - ratio, ratio):
        screen.become(other)
        assert screen.ratio == other
        canvas = screen.tab.ask(f"{VIEWER}.panels[0].viewport.getCanvas().width")
        assert canvas == pytest.approx(screen.box(0)["width"] * other, abs=1)
        assert_seen_is_told(screen, HU[MIDDLE])


def test_a_screen_that_the_page_is_not_told_of_yet(screen: Screen) -> None:
    """The canvas is still the other screen's, drawn larger or smaller over the same place."""
    screen.metrics(4.5 - screen.ratio)
    spots = places(screen, 0)
    told = [screen.told(spot.x, spot.y)["original"] for spot in spots]
    assert told == [HU[MIDDLE][spot.image] for spot in spots]


def test_the_difference(screen: Screen) -> None:
    screen.tab.key("d")
    screen.tab.until(f"Boolean({VIEWER}.panels[2]?.plane)")
    screen.show_pixels()
    seen = screen.picture()
    for spot in places(screen, 2):
        shift = SHIFT_HU[MIDDLE][spot.image]
        red, _, blue = seen[spot.screen]
        assert np.sign(red - blue) == np.sign(shift) or abs(shift) < 3
        assert screen.told(spot.x, spot.y)["denoised − original"] == shift


def test_a_segmentation_lies_over_its_pixels(screen: Screen) -> None:
    screen.tab.key("l")
    screen.tab.until(f"{VIEWER}.panels.some((panel) => panel.overlay.canvas.hidden)", False)
    screen.settle()
    seen = screen.picture()
    for spot in places(screen, 0):
        red, green, _ = seen[spot.screen]
        assert (red != green) == bool(LABELS[MIDDLE][spot.image])


def test_the_whole_window_is_magnified_by_two_fingers(screen: Screen) -> None:
    """This changes neither the layout nor the ratio: what is drawn is enlarged."""
    scale = 1.5
    screen.devtools.send("Emulation.setPageScaleFactor", {"pageScaleFactor": scale})
    screen.settle()
    assert screen.tab.ask("visualViewport.scale") == scale
    seen = screen.picture()
    for spot in places(screen, 0):
        at = tuple(np.floor((np.array(spot.screen) + 0.5) * scale).astype(int))
        if at[0] < len(seen) and at[1] < seen.shape[1]:
            hu = screen.told(spot.x, spot.y)["original"]
            assert hu == HU[MIDDLE][spot.image]
            assert_greys([seen[at]], [hu])
    screen.devtools.send("Emulation.setPageScaleFactor", {"pageScaleFactor": 1})


def test_a_page_that_is_scrolled(screen: Screen) -> None:
    """On a narrow window the panels stand above the case's facts, and the page scrolls."""
    screen.become(screen.ratio, (703, 501))
    screen.tab.ask("scrollTo(0, 61)")
    screen.settle()
    assert screen.tab.ask("scrollY") > 40
    spots = [spot for spot in places(screen, 0) if 10 < spot.y < 490]
    seen = screen.picture()
    assert len(spots) > PLACES / 2
    for spot in spots:
        hu = screen.told(spot.x, spot.y)["original"]
        assert hu == HU[MIDDLE][spot.image]
        assert_greys([seen[spot.screen]], [hu])


def test_marks_lie_where_they_were_drawn(screen: Screen) -> None:
    """A distance, dragged out, and a region, in CSS pixels of the window and in mm."""
    tab, box = screen.tab, screen.box(0)
    begin, across = np.array([box["x"] + 100, box["y"] + 150]), np.array([60, 45])

    def drawn(mark: str) -> NDArray[np.float64]:
        found = f"{VIEWER}.panels[0].svg.querySelector('{mark}').getBBox()"
        left, top, width, height = tab.ask(
            f"(({{x, y, width, height}}) => [x, y, width, height])({found})"
        )
        return np.array([box["x"] + left, box["y"] + top, width, height])

    tab.page.click("#tools [data-value=distance]")
    drag(tab, begin, begin + across)
    assert drawn("[data-kind=distance]") == pytest.approx([*begin, *across], abs=1.5 / screen.ratio)
    css_per_mm = min(box["width"] / (COLUMNS * COLUMN_MM), box["height"] / (ROWS * ROW_MM))
    assert tab.ask(LAST_MM) == pytest.approx(75 / css_per_mm, rel=0.01)
    tab.page.click("#tools [data-value=region]")
    drag(tab, begin, begin + across)
    assert drawn("[data-kind=region]") == pytest.approx(
        [*(begin - 75), 150, 150], abs=2.5 / screen.ratio
    )
    tab.key("Escape")


def test_the_picture_moves_with_the_mouse_that_drags_it(screen: Screen) -> None:
    tab, box = screen.tab, screen.box(0)
    begin, moved = np.array([box["x"] + 100, box["y"] + 140]), np.array([100, 80])
    before = screen.told(*begin)
    tab.page.click("#tools [data-value=pan]")
    drag(tab, begin, begin + moved, steps=20)
    screen.settle()
    assert screen.told(*(begin + moved)) == before
    seen = screen.picture()
    at = np.floor((begin + moved + 0.001)[::-1] * screen.ratio).astype(int)
    assert_greys([seen[tuple(at)]], [before["original"]])


def test_the_picture_moves_with_two_fingers(screen: Screen) -> None:
    box = screen.box(0)
    begin, moved = np.array([box["x"] + 100, box["y"] + 140]), np.array([100, 80])
    before = screen.told(*begin)
    for kind, shares in (("touchStart", [0]), ("touchMove", [0.25, 1]), ("touchEnd", [None])):
        for share in shares:
            fingers = [begin + x + share * moved for x in (0, 60)] if share is not None else []
            points = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(fingers)]
            screen.devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert screen.told(*(begin + moved)) == before


def test_a_real_ratio_and_a_real_window(
    browser: Any, address: str, collection: Collection, require_program: Callable[[str], str]
) -> None:
    """Not emulated: the browser's own count of the pixels that a panel covers, at any width."""
    ratio, program = 1.25, browser.browser_type
    arguments = [*ARGUMENTS, f"--force-device-scale-factor={ratio}"]
    other = program.launch(executable_path=require_program("chromium"), args=arguments)
    page = other.new_page(no_viewport=True)
    screen = Screen(Tab(page), page.context.new_cdp_session(page))
    page.goto(address)
    screen.tab.until("Boolean(document.body.dataset.ready)")
    open_case(screen, collection)
    assert screen.ratio == ratio
    window = screen.devtools.send("Browser.getWindowForTarget")["windowId"]
    for width in range(900, 912):
        bounds = {"width": width, "height": 700 + width % 7}
        screen.devtools.send("Browser.setWindowBounds", {"windowId": window, "bounds": bounds})
        screen.settle()
        assert_canvas_is_fitted(screen)
    assert_seen_is_told(screen, HU[MIDDLE] + SHIFT_HU[MIDDLE], panel=1)
    other.close()


def assert_canvas_is_fitted(screen: Screen) -> None:
    sizes = screen.tab.ask(
        f"""Promise.all({VIEWER}.panels.map((panel) => new Promise((told) => {{
          const {{ width, height }} = panel.viewport.getCanvas();
          new ResizeObserver(([entry]) => {{
            const [{{ inlineSize, blockSize }}] = entry.devicePixelContentBoxSize;
            told([[width, height], [inlineSize, blockSize]]);
          }}).observe(panel.element, {{ box: "device-pixel-content-box" }});
        }})))"""
    )
    assert all(canvas == counted for canvas, counted in sizes), sizes
