"""When the server is gone the page says so, and nothing is seen under a wrong label."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.browser import VIEWER, Tab, opened
from helpers.review import SLICES, TOKEN, collected, served, write_case
from PIL import Image

from pipeline.review.planes import CHUNK
from pipeline.review.worklist import Collection

SAID = "document.querySelector('#said').textContent"
NO_ANSWER = "The server does not answer: decisions shown here may be out of date."
FAULTS = f"{VIEWER}.panels.map((panel) => panel.element.querySelector('.fault').checkVisibility())"


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    write_case(tmp_path, 1)
    return collected(tmp_path)


def opened_case(browser: Any, address: str, collection: Collection) -> Tab:
    """A case of which the first chunk around the middle is there, and no more."""
    tab = opened(browser, f"{address}/?token={TOKEN}")
    tab.page.fill("#reader", "anna")
    tab.page.route("**/api/planes/*/slices/0", lambda route: route.abort())
    tab.go(f"case/{next(iter(collection.cases))}")
    tab.key("3")
    assert tab.ask(FAULTS) == [False, False]
    return tab


def pictures(tab: Tab, panel: int) -> int:
    """How many pixels of a panel are not black, without its texts."""
    tab.page.wait_for_timeout(60)
    over = f"{VIEWER}.panels[{panel}].element.querySelectorAll('p')"
    tab.ask(f"{over}.forEach((each) => {{ each.style.visibility = 'hidden' }})")
    taken = tab.page.locator(".panel").nth(panel).screenshot()
    tab.ask(f"{over}.forEach((each) => {{ each.style.visibility = '' }})")
    seen = np.array(Image.open(io.BytesIO(taken)).convert("L"))[2:-2, 2:-2]  # within the borders
    return int((seen > 20).sum())


def test_a_plane_that_does_not_come_leaves_no_other_under_its_label(
    browser: Any, collection: Collection
) -> None:
    with served(collection) as address:
        tab = opened_case(browser, address, collection)
        assert pictures(tab, 0) > 1000
        tab.ask(f"{VIEWER}.setRegion({VIEWER}.panels[0].centre(), 5)")
        for _ in range(2):  # the second time it is asked for as if it were there
            tab.ask(f"{VIEWER}.goTo({CHUNK - 1})")
            tab.until(FAULTS, [True, True])
            where = tab.ask(f"{VIEWER}.panels[0].element.querySelector('.where').textContent")
            assert where.startswith(f"axial {CHUNK} / {SLICES}")
            fault = tab.ask(f"{VIEWER}.panels[0].element.querySelector('.fault').textContent")
            assert fault == "Cannot be shown: the server does not answer"
            assert [pictures(tab, panel) for panel in (0, 1)] == [0, 0]
        tab.ask(f"{VIEWER}.goTo({SLICES // 2})")
        tab.until(FAULTS, [False, False])
        assert pictures(tab, 0) > 1000
        tab.page.unroute("**/api/planes/*/slices/0")
        tab.ask(f"{VIEWER}.goTo({CHUNK - 1})")
        tab.until(FAULTS, [False, False])
        assert pictures(tab, 0) > 1000
        tab.page.close()


def test_a_title_changes_with_the_picture_and_not_before(
    browser: Any, collection: Collection
) -> None:
    with served(collection) as address:
        tab = opened(browser, f"{address}/?token={TOKEN}")
        held: list[Any] = []
        tab.page.route("**/api/planes/*.denoised/rows/*", lambda route: held.append(route))
        tab.go(f"case/{next(iter(collection.cases))}")
        tab.page.click("#layout [data-value=one]")
        tab.key("c")
        tab.until(f"{VIEWER}.panels[0].plane?.stack.name", "coronal")
        tab.page.locator("#main").focus()
        tab.key("Space")
        tab.page.wait_for_timeout(200)
        title = f"{VIEWER}.panels[0].element.querySelector('.title').textContent"
        assert tab.ask(title) == "original"  # which is still what is seen
        for route in held:
            route.continue_()
        tab.until(title, "denoised · AI-derived")
        tab.page.close()


def test_the_page_says_that_the_server_is_gone_and_goes_on_when_it_answers(
    browser: Any, collection: Collection
) -> None:
    with served(collection) as address:
        tab = opened_case(browser, address, collection)
        tab.page.unroute("**/api/planes/*/slices/0")
        tab.page.context.set_offline(True)
        tab.ask(f"{VIEWER}.goTo({CHUNK - 1})")
        tab.until(FAULTS, [True, True])
        tab.until(SAID, NO_ANSWER)
        tab.page.click("#accept")
        tab.until(f"{SAID}.startsWith('NOT accepted: ')")
        tab.page.context.set_offline(False)
        tab.until(FAULTS, [False, False])  # without a key pressed
        assert tab.ask(SAID) == ""
        assert pictures(tab, 0) > 1000
        tab.page.close()


def test_a_server_that_ends_is_said_to_be_gone(browser: Any, collection: Collection) -> None:
    with served(collection) as address:
        tab = opened_case(browser, address, collection)
    tab.until(SAID, NO_ANSWER)
    tab.key("c")
    tab.until(FAULTS, [True, True])
    assert [pictures(tab, panel) for panel in (0, 1)] == [0, 0]
    tab.page.close()
