"""The worklist's order: by flags and the largest change, and "measuring…" until both are known."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.browser import Tab
from helpers.derived import write_derived
from helpers.dicom import OPERATION, only_series
from helpers.review import collected, write_original

from pipeline.dicom.read.volume import read_volume
from pipeline.review.worklist import Collection

#: Of derived-1 to -3; a block of 8 x 8 pixels changed by more than 25 HU is a flag.
CHANGED_HU = (3, 12, 60)
ROWS = """[...document.querySelectorAll('tbody tr')].map((row) => [
  row.querySelector('a').innerText, ...[4, 5].map((k) => row.children[k].innerText.trim())])"""


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    root = tmp_path_factory.mktemp("worklist")
    for number, changed_hu in enumerate(CHANGED_HU, start=1):
        original = root / "sources" / str(number)
        write_original(original, number)
        series = only_series(original)
        image_hu = read_volume(series).volume.image_hu.copy()
        image_hu[5, 32:40, 24:32] += changed_hu  # one of the blocks that are measured
        folder = root / f"derived-{number}"
        write_derived(image_hu.astype(np.float32), series, OPERATION, folder)
    return collected(root)


def test_cases_are_ordered_once_they_are_measured(entered: Tab) -> None:
    waiting = '{"done": 0, "of": 24, "slices": [], "flags": []}'
    entered.page.route("**/api/changes/*", lambda route: route.fulfill(body=waiting))
    entered.page.reload()
    entered.until(f"{ROWS}.length", 3)
    waits = "row.slice(1).every((text) => text.endsWith('measuring…'))"
    entered.until(f"{ROWS}.every((row) => {waits})")
    entered.page.locator("tbody a").first.focus()
    focused = "document.activeElement.innerText"
    name = entered.ask(focused)
    entered.page.unroute("**/api/changes/*")
    entered.until(f"{ROWS}.flat().filter((text) => text.includes('measuring')).length", 0)
    entered.until(f"{ROWS}.map((row) => row[0])", ["derived-3", "derived-2", "derived-1"])
    (_, flags, change), *others = entered.ask(ROWS)
    assert "a block of 8 x 8 pixels changed by +60" in flags
    assert change == "60 HU in slice 6"
    assert [row[1:] for row in others] == [
        ["none", "12 HU in slice 6"],
        ["none", "3 HU in slice 6"],
    ]
    assert entered.ask(focused) == name  # the keyboard's place is kept


def test_a_link_that_is_pressed_while_cases_are_measured_leads_to_its_case(entered: Tab) -> None:
    waiting = '{"done": 0, "of": 24, "slices": [], "flags": []}'
    entered.page.route("**/api/changes/*", lambda route: route.fulfill(body=waiting))
    entered.page.reload()
    entered.until(f"{ROWS}.length", 3)
    link = entered.page.locator("tbody a").first
    fragment = link.get_attribute("href")
    link.hover()
    entered.page.mouse.down()
    entered.page.unroute("**/api/changes/*")
    changes = f"{ROWS}.filter((row) => row[2].includes(' HU in slice')).length"
    entered.until(changes, 3)  # so that the order is known
    entered.page.wait_for_timeout(300)
    entered.page.mouse.up()
    entered.until("location.hash", fragment)
