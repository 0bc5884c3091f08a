"""Worklist, case and reader study by the keyboard alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.browser import STUDY_PROGRESS, VIEWER, Tab
from helpers.review import SLICES, collected, write_case

from pipeline.review import key_images
from pipeline.review.decisions import audit_of
from pipeline.review.study.power import StudyPlan, set_plan
from pipeline.review.study.reader_study import open_study, unblinded
from pipeline.review.worklist import Collection

#: What a mouse can use, as the keyboard must reach it: of a group of radio buttons one.
USABLE = """[...new Set([
    ...document.querySelectorAll("button, select, input, textarea, a, summary")]
  .filter((each) => each.checkVisibility() && !each.disabled && !each.closest("dialog"))
  .map((each) => each.type === "radio" ? `radio ${each.name}` : nameOf(each)))].toSorted()"""
NAME_OF = """globalThis.nameOf = (each) => [each.tagName, each.id, each.getAttribute("aria-label"),
  each.textContent.trim()].join("|"); undefined"""
FOCUSED = """(() => {
  const each = document.activeElement, { outlineStyle, outlineWidth } = getComputedStyle(each);
  const name = each.type === "radio" ? `radio ${each.name}` : nameOf(each);
  return [name, outlineStyle !== "none" && parseFloat(outlineWidth) >= 2];
})()"""
SAID = "document.querySelector('#said').textContent"


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    write_case(tmp_path, 1)
    write_case(tmp_path, 2)
    return collected(tmp_path)


@pytest.fixture
def tab(entered: Tab) -> Tab:
    entered.ask(NAME_OF)
    focus(entered, "#reader")
    entered.page.keyboard.type("anna")
    return entered


def focus(tab: Tab, selector: str) -> None:
    """With Tab alone."""
    for _ in range(150):
        if tab.ask(f"Boolean(document.activeElement?.matches({selector!r}))"):
            return
        tab.key("Tab")
    pytest.fail(f"the keyboard does not reach {selector}")


def opened_with(tab: Tab, key: str) -> None:
    """Press a key that leads to another view, and wait for it."""
    tab.ask("delete document.body.dataset.ready")
    tab.key(key)
    tab.until("Boolean(document.body.dataset.ready)")


def assert_all_reached(tab: Tab) -> None:
    """Everything that can be used has the focus once, visibly, before the round begins again."""
    usable = tab.ask(USABLE)
    tab.page.locator("#main").focus()
    reached: list[str] = []
    for _ in range(4 * len(usable)):
        tab.key("Tab")
        name, outlined = tab.ask(FOCUSED)
        if name.startswith("BODY"):
            continue  # the browser's own, between the last and the first
        assert outlined, f"{name} has the focus, and it is not seen"
        if name in reached and len(set(reached) & set(usable)) == len(usable):
            break
        reached.append(name)
    assert sorted(set(reached) & set(usable)) == usable


def test_everything_on_worklist_case_and_study_has_the_focus_in_turn(tab: Tab) -> None:
    assert_all_reached(tab)
    focus(tab, "#main tbody a")
    opened_with(tab, "Enter")
    tab.key("r")
    tab.key("e")
    tab.until("document.querySelectorAll('#figures tr[data-role]').length", 3)
    assert_all_reached(tab)
    focus(tab, "#to-study")
    opened_with(tab, "Enter")
    assert_all_reached(tab)


def test_a_case_is_looked_through_measured_marked_and_rejected(
    tab: Tab, collection: Collection
) -> None:
    focus(tab, "#main tbody a")
    opened_with(tab, "Enter")
    assert tab.ask("document.activeElement.id") == "main"
    for key, index in (("Home", SLICES - 1), ("PageDown", SLICES - 11), ("ArrowDown", SLICES - 12)):
        tab.key(key)
        tab.shown(index)
    tab.key("r")
    tab.key("Alt+ArrowRight")
    focus(tab, "#save-marks")
    tab.key("Enter")
    tab.until(f"{SAID}.startsWith('saved as ')")
    tab.page.locator("#main").focus()
    tab.key("e")
    focus(tab, "#save-key-images")
    tab.key("Space")
    tab.until(f"{SAID}.includes('KO.0001.dcm')")
    cid = tab.ask("location.hash.split('/')[1]")
    assert key_images.saved(collection.root, collection.cases[cid]) == [SLICES - 12]
    focus(tab, "#layout [data-value='three planes']")
    tab.key("Space")
    tab.until(f"{VIEWER}.panels.filter((panel) => panel.plane).length", 3)
    focus(tab, "#turn")
    tab.key("Enter")
    tab.until(f"{VIEWER}.state.view.turns", 1)
    tab.key("?")
    assert tab.ask("document.querySelector('#help').open")
    tab.key("Escape")
    assert not tab.ask("document.querySelector('#help').open")
    focus(tab, "aside textarea")
    tab.page.keyboard.type("blurred")
    focus(tab, "#reject")
    tab.key("Enter")
    tab.until(SAID, "rejected")
    record = audit_of(collection.root).records()[-1]
    assert (record["act"], record["reason"], record["reader"]) == ("reject", "blurred", "anna")


def test_a_pair_is_read(tab: Tab, collection: Collection) -> None:
    focus(tab, "#to-study")
    opened_with(tab, "Enter")
    tab.until("document.querySelectorAll('.likert').length", 7)
    for name in tab.ask(
        "[...new Set([...document.querySelectorAll('.likert input')].map((i) => i.name))]"
    ):
        focus(tab, f"input[name='{name}']")
        tab.key("Space")
        if name.endswith("right"):
            tab.key("ArrowRight")
    tab.until(STUDY_PROGRESS, "complete and saved")
    (reading,) = unblinded(collection.root, open_study(collection.root, []))
    scores = {"left": reading.original, "right": reading.denoised}
    if reading.denoised_side == "left":
        scores = {"left": reading.denoised, "right": reading.original}
    assert set(scores["left"].values()) == {1}
    assert set(scores["right"].values()) == {2}
    focus(tab, "#panel-side .buttons button:last-of-type")
    tab.key("Enter")
    tab.until("document.querySelector('#panel-side h3')?.textContent.startsWith('Reading 2 of')")


def test_a_forced_choice_has_no_neither(tab: Tab, collection: Collection) -> None:
    sides = "[...document.querySelectorAll('#preference input')].map((each) => each.value)"
    tab.go("study")
    tab.until(sides, ["left", "neither", "right"])
    set_plan(collection.root, StudyPlan(forced_choice=True))
    tab.go("study")
    tab.until(sides, ["left", "right"])
    assert "one must be chosen" in tab.ask("document.querySelector('#preference').innerText")
