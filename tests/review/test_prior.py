"""The prior shifted against the current series, by what is seen: unlinked, scrolled, linked."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.browser import VIEWER, Tab
from helpers.review import (
    BLOCK_HU,
    COLUMN_MM,
    ROW_MM,
    SLICES,
    STEP_MM,
    body_hu,
    collected,
    write_case,
    write_original,
)

from pipeline.review.worklist import Collection

PRIOR_SLICES, PRIOR_STEP_MM = 16, 4.0
MIDDLE = SLICES // 2
LEVEL = f"{VIEWER}.panels[0].element.querySelector('.level').innerText"
PLACES = f"{VIEWER}.panels.map((panel) => panel.plane?.stack.along[panel.plane.index])"
SAID = "document.querySelector('#said').textContent"


def prior_hu(index: int) -> np.ndarray:
    """The block has a value of its own in each slice."""
    image = body_hu(index)
    image[image == BLOCK_HU] = 10 * index
    return image


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    root = tmp_path_factory.mktemp("prior")
    write_case(root, 1)
    write_original(
        root / "sources" / "7",
        7,
        images=[prior_hu(index) for index in range(PRIOR_SLICES)],
        places_mm=[index * PRIOR_STEP_MM for index in range(PRIOR_SLICES)],
        StudyDate="19990630",
        PatientID="SECRET-1",
    )
    return collected(root)


@pytest.fixture
def tab(entered: Tab, collection: Collection) -> Tab:
    entered.page.fill("#reader", "anna")
    entered.go(f"case/{next(iter(collection.cases))}")
    entered.page.click("#layout [data-value='+ prior']")
    entered.until(
        f"{VIEWER}.panels.map((panel) => panel.plane?.role)", ["prior", "original", "denoised"]
    )
    entered.key("3")
    return entered


def seen(tab: Tab, panel: int) -> float:
    """The grey level of the block's middle, as HU."""
    (red, _, _) = tab.grey(panel, [-28 + 40 * COLUMN_MM, -38 + 48 * ROW_MM, MIDDLE * STEP_MM])
    return red / 255 * 400 - 160


def wheel(tab: Tab, panel: int, notches: int) -> None:
    box = tab.ask(f"{VIEWER}.panels[{panel}].canvasHost.getBoundingClientRect().toJSON()")
    tab.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    for _ in range(abs(notches)):
        tab.page.mouse.wheel(0, 100 if notches > 0 else -100)


def test_linked_it_shows_the_plane_at_the_same_place(tab: Tab) -> None:
    assert tab.ask(PLACES) == pytest.approx([28, 30, 30])  # 30 mm: the prior has 28 and 32
    assert "offset" not in tab.ask(LEVEL)
    assert tab.ask("document.querySelector('#prior-link').getAttribute('aria-pressed')") == "true"
    assert tab.ask("document.querySelector('#prior-reset').disabled")


def test_it_is_scrolled_alone_and_linked_again_with_its_offset(tab: Tab) -> None:
    tab.key("j")
    tab.until(f"{LEVEL}.includes('NOT LINKED')")
    assert "the prior alone" in tab.ask(SAID)
    wheel(tab, 0, -3)  # up is cranial
    tab.until(PLACES, [40, 30, 30])
    tab.until(f"{LEVEL}.includes('offset +10.0 mm')")  # from 30 mm
    assert seen(tab, 0) == pytest.approx(100, abs=2)
    assert seen(tab, 1) == pytest.approx(BLOCK_HU, abs=2)
    wheel(tab, 1, -2)  # the current series alone
    tab.until(PLACES, [40, 35, 35])
    tab.until(f"{LEVEL}.includes('offset +5.0 mm')")
    tab.page.click("#prior-link")
    tab.until(f"{LEVEL}.endsWith('offset +5.0 mm')")
    wheel(tab, 0, 4)  # both, over either panel
    tab.until(PLACES, [28, 25, 25])  # 30 mm lies between 28 and 32
    wheel(tab, 1, -2)
    tab.until(PLACES, [36, 30, 30])  # 35 mm: 36 is nearer than 32
    tab.page.click("#prior-reset")
    tab.until(PLACES, [28, 30, 30])
    assert "offset" not in tab.ask(LEVEL)


def test_by_the_keyboard_alone(tab: Tab) -> None:
    tab.key("j")
    for _ in range(2):
        tab.key("ArrowUp")
    tab.until(PLACES, [36, 30, 30])
    tab.key("j")
    tab.key("PageDown")
    tab.until(PLACES, [12, 5, 5])  # 11 mm
    tab.until(f"{LEVEL}.endsWith('offset +6.0 mm')")
    tab.key("Home")
    tab.until(f"{VIEWER}.panels[1].plane.index", SLICES - 1)


def test_figures_and_the_cursor_are_of_what_is_shown(tab: Tab) -> None:
    tab.key("j")
    wheel(tab, 0, -3)
    tab.until(PLACES, [40, 30, 30])
    tab.until("document.querySelector('#cursor').textContent.includes('prior: 100 HU')")
    assert "original: 100 HU" in tab.ask("document.querySelector('#cursor').textContent")
    tab.key("r")  # drawn over the prior; it lies on the current slice in both
    tab.until("document.querySelectorAll('#figures tr[data-role]').length", 4)
    mean = "document.querySelector('#figures tr[data-role={}] td').dataset.mean"
    assert float(tab.ask(mean.format("prior"))) == pytest.approx(100)
    assert float(tab.ask(mean.format("original"))) == pytest.approx(BLOCK_HU)
    marks = f"{VIEWER}.panels.map((panel) => panel.svg.querySelectorAll('.mark').length)"
    assert tab.ask(marks) == [1, 1, 1]
    assert tab.ask(f"{VIEWER}.state.marks.last.points[0][2]") == pytest.approx(30)
    wheel(tab, 0, -1)  # another slice of the prior: the mark stays where the reader looks
    tab.until(PLACES, [44, 30, 30])
    assert tab.ask(marks) == [1, 1, 1]


def test_where_no_prior_is_shown_there_is_nothing_to_link(tab: Tab) -> None:
    tab.page.click("#layout [data-value='side by side']")
    tab.until(f"{VIEWER}.panels.length", 2)
    assert not tab.ask("document.querySelector('#prior-group').checkVisibility()")
    tab.key("j")
    assert tab.ask(SAID) == "no prior study is shown"
