"""All that a mouse draws on the panels, by the keyboard: a crosshair, arrows and Enter."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.browser import VIEWER, Tab
from helpers.review import (
    COLUMN_MM,
    COLUMNS,
    ROW_MM,
    ROWS,
    SLICES,
    STEP_MM,
    body_hu,
    collected,
    write_case,
)

from pipeline.review import measurements
from pipeline.review.worklist import Collection

SAID = "document.querySelector('#said').textContent"
MARKS = f"{VIEWER}.state.marks.list"
CURSOR = f"{VIEWER}.state.keyCursor"
MIDDLE = SLICES // 2
#: Where the crosshair begins: half a pixel beside the middle, which lies between pixels.
ROW, COLUMN = ROWS // 2, COLUMNS // 2


def position(row: float, column: float, index: float = MIDDLE) -> list[float]:
    return [-28 + column * COLUMN_MM, -38 + row * ROW_MM, index * STEP_MM]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    root = tmp_path_factory.mktemp("keyboard")
    write_case(root, 1)
    return collected(root)


@pytest.fixture
def tab(entered: Tab, collection: Collection) -> Tab:
    entered.page.fill("#reader", "anna")
    entered.go(f"case/{next(iter(collection.cases))}")
    return entered


def choose(tab: Tab, tool: str) -> None:
    """By Tab and Enter; the crosshair is then there and has the arrows."""
    tab.page.locator("#main").focus()
    for _ in range(60):
        tab.key("Tab")
        if tab.ask(f"document.activeElement.dataset.value === {tool!r}"):
            tab.key("Enter")
            break
    assert tab.ask("document.querySelector('#tools [aria-pressed=true]').innerText") == tool
    assert tab.ask("document.activeElement.id") == "main"


def move(tab: Tab, rows: int, columns: int) -> None:
    for count, forward, back in ((rows, "Down", "Up"), (columns, "Right", "Left")):
        key = f"Arrow{forward if count > 0 else back}"
        tens, ones = divmod(abs(count), 10)
        for _ in range(tens):
            tab.key(f"Shift+{key}")
        for _ in range(ones):
            tab.key(key)


def start(tab: Tab) -> tuple[float, float]:
    """The crosshair's row and column."""
    x, y, _ = tab.ask(CURSOR)
    return round((y + 38) / ROW_MM), round((x + 28) / COLUMN_MM)


def test_the_crosshair_goes_by_pixels_and_shows_their_hu(tab: Tab) -> None:
    tab.key("Enter")
    row, column = start(tab)
    assert (abs(row - ROW), abs(column - COLUMN)) <= (1, 1)
    move(tab, 20 - row, 15 - column)
    assert tab.ask(CURSOR) == pytest.approx(position(20, 15))
    value = int(body_hu(MIDDLE)[20, 15])
    tab.until(f"document.querySelector('#cursor').textContent.includes('original: {value} HU')")
    assert tab.indices == [MIDDLE] * 2  # arrows moved it and not the slices
    tab.key("PageDown")
    tab.shown(MIDDLE - 1)
    value = int(body_hu(MIDDLE - 1)[20, 15])
    tab.until(f"document.querySelector('#cursor').textContent.includes('original: {value} HU')")
    for _ in range(9):
        tab.key("Shift+ArrowLeft")
    assert tab.ask(CURSOR)[0] == pytest.approx(-28)  # the picture's edge holds it
    lines = f"{VIEWER}.panels.map((panel) => panel.svg.querySelectorAll('.key-cursor').length)"
    assert tab.ask(lines) == [4, 4]
    tab.key("Escape")
    assert tab.ask(lines) == [0, 0]
    tab.key("ArrowDown")
    tab.shown(MIDDLE - 2)


def test_it_stays_in_sight_where_the_picture_is_enlarged(tab: Tab) -> None:
    for _ in range(8):
        tab.key("+")
    tab.key("Enter")
    move(tab, 40, 30)
    panel = f"{VIEWER}.panels[1]"
    x, y = tab.ask(f"{panel}.cssOf({CURSOR})")
    box = tab.ask(f"{panel}.canvasHost.getBoundingClientRect().toJSON()")
    assert 0 <= x <= box["width"]
    assert 0 <= y <= box["height"]


def test_every_mark_is_drawn_measured_and_saved(tab: Tab, collection: Collection) -> None:
    choose(tab, "distance")
    row, column = start(tab)
    tab.key("Enter")
    assert "point 2 of 2 of the distance" in tab.ask(SAID)
    move(tab, 0, 20)
    tab.key("Enter")
    choose(tab, "ellipse")
    move(tab, -4, -10)
    tab.key("Enter")
    move(tab, 5, 8)
    tab.key("Enter")
    choose(tab, "region")
    tab.key("Enter")
    move(tab, 0, 6)
    tab.key("Enter")
    choose(tab, "angle")
    for rows, columns in ((0, -30), (0, 15), (20, 0)):
        move(tab, rows, columns)
        tab.key("Enter")
    found = tab.ask(MARKS)
    assert [mark["kind"] for mark in found] == ["distance", "region", "region", "angle"]
    assert found[0]["points"] == [
        pytest.approx(position(row, column)),
        pytest.approx(position(row, column + 20)),
    ]
    # The ellipse's crosshair began where the distance ended.
    centre = (row - 4, column + 10)
    ends = [(centre[0], centre[1] + 8), (centre[0] + 5, centre[1])]
    assert found[1]["points"] == [pytest.approx(position(*each)) for each in (centre, *ends)]
    one, apex, other = found[3]["points"]
    assert np.dot(np.subtract(one, apex), np.subtract(other, apex)) == pytest.approx(0, abs=1e-9)
    tab.until("document.querySelectorAll('#figures section').length", 4)
    text = tab.ask("document.querySelector('#figures').innerText")
    assert f"1: distance, {20 * COLUMN_MM:.1f} mm" in text
    assert f"{np.pi * 8 * COLUMN_MM * 5 * ROW_MM:.0f} mm²" in text
    assert "4: angle, 90.0°" in text
    for _ in range(90):
        if tab.ask("document.activeElement.id") == "save-marks":
            break
        tab.key("Tab")
    tab.key("Enter")
    tab.until(f"{SAID}.startsWith('saved as ')")
    (case,) = collection.cases.values()
    kinds = [mark.kind for mark in measurements.saved(collection.root, case)]
    assert kinds == ["distance", "region", "region", "angle"]


def test_what_is_not_complete_is_given_up(tab: Tab) -> None:
    before = tab.ask(f"{MARKS}.length")
    choose(tab, "angle")
    tab.key("Enter")
    move(tab, 0, 5)
    assert tab.ask(f"{MARKS}.length") == before + 1
    tab.key("Escape")
    assert tab.ask(f"{MARKS}.length") == before
    assert tab.ask(f"Boolean({CURSOR})")
    tab.key("Enter")
    move(tab, 0, 5)
    tab.key("PageUp")  # a mark lies on one slice
    tab.shown(MIDDLE + 1)
    tab.until(f"{MARKS}.length", before)
    tab.key("Enter")
    move(tab, 0, 5)
    choose(tab, "distance")
    assert tab.ask(f"{MARKS}.length") == before
    tab.key("Escape")
    assert not tab.ask(f"Boolean({CURSOR})")


def test_three_planes_go_where_the_crosshair_is(tab: Tab) -> None:
    tab.key("b")
    tab.until(f"{VIEWER}.panels.filter((panel) => panel.plane).length", 3)
    choose(tab, "crosshair")
    row, column = start(tab)
    move(tab, 9, -12)
    tab.key("Enter")
    tab.until(f"{VIEWER}.panels[2].plane.index", column - 12)
    expected = position(row + 9, column - 12)
    assert tab.ask(f"{VIEWER}.state.position") == pytest.approx(expected)
    tab.key("b")
    tab.until(f"{VIEWER}.panels.length", 2)


def test_it_follows_a_picture_that_is_turned(tab: Tab) -> None:
    """Right on the screen is up in the patient once the picture is turned clockwise."""
    tab.key("t")
    tab.key("Enter")
    row, column = start(tab)
    tab.key("ArrowRight")
    assert start(tab) == (row - 1, column)
    tab.key("t")
    tab.key("t")
    tab.key("t")


def test_a_region_is_on_the_slice_that_is_shown_though_the_mouse_rests(tab: Tab) -> None:
    tab.page.mouse.move(300, 400)
    tab.page.mouse.wheel(0, 100)
    tab.shown(MIDDLE - 1)
    tab.key("r")
    assert tab.ask(f"{MARKS}.at(-1).points[0][2]") == pytest.approx((MIDDLE - 1) * STEP_MM)


def test_the_mouse_takes_over(tab: Tab) -> None:
    tab.key("Enter")
    tab.page.mouse.click(300, 400)
    assert not tab.ask(f"Boolean({CURSOR})")
