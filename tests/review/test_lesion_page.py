"""Lesions marked on the page: by the mouse, the keyboard and a finger; rated, undone, ended."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, missing
from helpers.browser import STUDY_PROGRESS, VIEWER, Tab, opened
from helpers.review import COLUMN_MM, ROW_MM, SLICES, STEP_MM, TOKEN, collected, served, write_case

from pipeline.review.study import localisation
from pipeline.review.study.lesion_truth import Lesion, LesionTruth, save_truth
from pipeline.review.study.power import LESION_PLAN, set_plan
from pipeline.review.study.reader_study import open_study, replace_study
from pipeline.review.worklist import Collection

AXE = ROOT / "pipeline" / "review" / "page" / "node_modules" / "axe-core" / "axe.min.js"
SAID = "document.querySelector('#said').textContent"
MARKS = f"{VIEWER}.state.marks.list"
SECTIONS = "document.querySelectorAll('#figures section').length"
END = "document.querySelector('#end-reading')"
SIDE = "(document.querySelector('#panel-side')?.textContent ?? '')"
MIDDLE = SLICES // 2


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four cases."""
    folder = tmp_path_factory.mktemp("cases")
    for number in range(1, 5):
        write_case(folder, number)
    return folder


@pytest.fixture
def collection(written: Path, tmp_path: Path) -> Collection:
    """Two cases with a lesion and two without; the study is planned."""
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    found = collected(tmp_path)
    names = sorted(found.cases)
    lesions = [[Lesion(at_mm=(0.0, 0.0, 30.0))]] * 2 + [[]] * 2
    set_plan(tmp_path, LESION_PLAN)
    save_truth(tmp_path, LesionTruth(radius_mm=5, cases=dict(zip(names, lesions, strict=True))))
    replace_study(tmp_path, names)
    return found


@pytest.fixture
def tab(entered: Tab) -> Tab:
    """The first reading of anna's."""
    entered.page.fill("#reader", "anna")
    entered.go("study")
    entered.until(f"Boolean({END})")
    return entered


def position(row: float, column: float) -> list[float]:
    return [-28 + column * COLUMN_MM, -38 + row * ROW_MM, MIDDLE * STEP_MM]


def place(tab: Tab, row: float, column: float) -> tuple[float, float]:
    """Of the page, in CSS pixels."""
    panel = f"{VIEWER}.panels[0]"
    box = tab.ask(f"{panel}.canvasHost.getBoundingClientRect().toJSON()")
    x, y = tab.ask(f"{panel}.cssOf({position(row, column)})")
    return box["x"] + x, box["y"] + y


def kept(collection: Collection, number: int = 0) -> localisation.Marks:
    """What the record has of one of anna's items."""
    study = open_study(collection.root, [])
    item = localisation.plan_of(study, "anna")[number].item
    return localisation.last_marks(collection.root, "anna")[item]


def saved(tab: Tab, count: int) -> None:
    tab.until(f"{END}.textContent.includes('{count} mark')")
    tab.until(STUDY_PROGRESS, "saved")
    tab.ask(f"{VIEWER}.shown()")


def test_lesions_are_clicked_rated_undone_and_the_reading_ends(
    tab: Tab, collection: Collection
) -> None:
    text = tab.ask("document.querySelector('#main').innerText").lower()
    assert "original" not in text
    assert "denoised" not in text
    assert tab.ask(f"{VIEWER}.panels.length") == 1
    tab.page.mouse.click(*place(tab, 30, 20))
    tab.page.mouse.click(*place(tab, 60, 50))
    tab.until(SECTIONS, 2)
    tab.page.click("#figures [aria-label='mark 1: 4, probably']")
    tab.page.click("#end-reading")
    assert tab.ask(SAID) == "rate mark 2 first, 1 to 5"
    tab.page.locator("#main").focus()
    tab.key("2")  # the mark that waits; no window
    tab.until(f"{MARKS}.map((mark) => mark.rating)", [4, 2])
    labels = f"[...{VIEWER}.panels[0].svg.querySelectorAll('.mark-text')].map((t) => t.textContent)"
    tab.until(labels, ["1: rated 4", "2: rated 2"])
    tab.key("Control+z")
    tab.until(f"{MARKS}[1].rating ?? null", None)
    tab.key("5")
    tab.page.click("#figures [aria-label='remove mark 1']")
    tab.until(SECTIONS, 1)
    saved(tab, 1)
    tab.page.click("#end-reading")
    tab.until(STUDY_PROGRESS, "complete and saved")
    found = kept(collection)
    assert found.ended
    assert [mark.rating for mark in found.marks] == [5]
    assert found.marks[0].at_mm == pytest.approx(position(60, 50), abs=0.6)
    before = tab.ask(f"{VIEWER}.state.window")
    tab.key("1")  # nothing waits: a window preset
    tab.until(f"{VIEWER}.state.window.width !== {before['width']}")
    tab.key("Escape")
    assert tab.ask(f"{MARKS}.length") == 1  # no key takes all marks away
    tab.page.reload()
    tab.until(f"{SIDE}.includes('Reading 2 of 8')")
    tab.key("p")
    tab.until(f"{SIDE}.includes('Reading 1 of 8')")
    tab.until(f"{MARKS}.map((mark) => mark.rating)", [5])
    assert "ended with 1 mark" in tab.ask(f"{END}.textContent")


def test_dragging_sets_the_window_and_marks_nothing(tab: Tab) -> None:
    before = tab.ask(f"{VIEWER}.state.window.width")
    x, y = place(tab, 30, 20)
    tab.page.mouse.move(x, y)
    tab.page.mouse.down()
    tab.page.mouse.move(x + 40, y, steps=4)
    tab.page.mouse.up()
    assert tab.ask(f"{VIEWER}.state.window.width") == before + 80
    assert tab.ask(f"{MARKS}.length") == 0
    tab.page.click("#tools [data-value=scroll]")
    tab.page.mouse.click(x, y)
    assert tab.ask(f"{MARKS}.length") == 0


def test_by_the_keyboard_alone(tab: Tab, collection: Collection) -> None:
    tab.page.locator("#main").focus()
    tab.key("Enter")
    for key in ("PageDown", "Shift+ArrowLeft", "ArrowUp", "Enter"):
        tab.key(key)
    tab.until(SECTIONS, 1)
    tab.key("3")
    tab.until(f"{MARKS}.map((mark) => mark.rating)", [3])
    saved(tab, 1)
    for _ in range(80):
        if tab.ask("document.activeElement.name") == "rating 1":
            break
        tab.key("Tab")
    tab.key("ArrowRight")  # within the radio buttons, which keep the focus
    tab.until(f"{MARKS}.map((mark) => mark.rating)", [4])
    assert tab.ask("document.activeElement.value") == "4"
    for _ in range(80):
        if tab.ask("document.activeElement.id") == "end-reading":
            break
        tab.key("Tab")
    tab.key("Enter")
    tab.until(STUDY_PROGRESS, "complete and saved")
    (mark,) = kept(collection).marks
    assert mark.rating == 4
    assert mark.at_mm[2] == pytest.approx((MIDDLE - 1) * STEP_MM)
    tab.key("n")
    tab.until(f"{SIDE}.includes('Reading 2 of 8')")
    assert tab.ask(f"{MARKS}.length") == 0
    tab.page.click("#end-reading")  # a reading may have no mark
    tab.until(STUDY_PROGRESS, "complete and saved")
    assert kept(collection, 1).ended


def test_a_mark_is_seen_in_every_plane_through_it(tab: Tab) -> None:
    tab.page.mouse.click(*place(tab, 30, 20))
    tab.until(SECTIONS, 1)
    tab.key("2")
    tab.page.click("#layout [data-value='three planes']")
    tab.until(f"{VIEWER}.panels.filter((panel) => panel.plane).length", 3)
    tab.page.click("#figures [aria-label='show mark 1']")
    circles = f"{VIEWER}.panels.map((panel) => panel.svg.querySelectorAll('circle').length)"
    tab.until(circles, [1, 1, 1])


@pytest.fixture
def touched(browser: Any, collection: Collection) -> Iterator[Tab]:
    with served(collection) as address:
        found = opened(browser, f"{address}/?token={TOKEN}", has_touch=True, is_mobile=True)
        found.page.fill("#reader", "anna")
        found.go("study")
        found.until(f"Boolean({END})")
        yield found
        assert found.errors == []
        found.page.close()


def test_a_finger_marks_by_a_tap_and_scrolls_by_a_stroke(touched: Tab) -> None:
    touch = touched.page.context.new_cdp_session(touched.page)

    def send(kind: str, *points: tuple[float, float]) -> None:
        fingers = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    x, y = place(touched, 40, 30)
    send("touchStart", (x, y))
    send("touchEnd")
    touched.until(SECTIONS, 1)
    assert touched.ask(f"{MARKS}[0].points[0]") == pytest.approx(position(40, 30), abs=0.7)
    send("touchStart", (x, y))
    send("touchMove", (x, y + 30))
    send("touchEnd")
    touched.shown(MIDDLE - 5)
    assert touched.ask(f"{MARKS}.length") == 1
    small = """[...document.querySelectorAll("button, select, input, a")]
      .filter((each) => each.checkVisibility())
      .map((each) => each.getBoundingClientRect())
      .filter(({ width, height }) => width < 43.9 || height < 43.9).length"""
    assert touched.ask(small) == 0


def test_no_accessibility_fault(tab: Tab) -> None:
    if not AXE.exists():
        missing("axe-core is not installed: run `make page`")
    tab.page.mouse.click(*place(tab, 30, 20))
    tab.until(SECTIONS, 1)
    tab.ask(AXE.read_text(encoding="utf-8") + ";undefined")
    found = tab.ask(
        "axe.run().then((r) => r.violations.map((v) => [v.impact, v.id, v.nodes[0].html]))"
    )
    assert found == []
