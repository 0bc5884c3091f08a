"""Tools of the page by what is seen: turning, three planes, hanging protocols, fingers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.browser import LAST_MM, VIEWER, Tab, opened
from helpers.review import (
    COLUMN_MM,
    COLUMNS,
    ROW_MM,
    ROWS,
    SHIFT_HU,
    SLICES,
    STEP_MM,
    TOKEN,
    body_hu,
    collected,
    served,
    write_case,
    write_original,
)
from numpy.typing import NDArray
from PIL import Image

from pipeline.review.static_export import write_disk
from pipeline.review.worklist import Collection

MIDDLE = SLICES // 2
#: Squares of one value, each in a corner of its own: (row, column) of their middle, and HU.
SQUARES = {(20, 16): 80, (20, 63): -60, (75, 16): 0, (75, 63): 150}
#: One that is in a few slices alone.
SPOT, SPOT_SLICES, SPOT_HU = (40, 30), (6, 7, 8), 230
PRIOR_HU = -30
SIDES = ("left", "top", "right", "bottom")


def images(*, spot: bool = True, block_hu: int | None = None) -> list[NDArray[np.int16]]:
    found = [body_hu(index) for index in range(SLICES)]
    for number, image in enumerate(found):
        for (row, column), hu in SQUARES.items():
            image[row - 4 : row + 5, column - 4 : column + 5] = hu if block_hu is None else block_hu
        if spot and number in SPOT_SLICES:
            image[SPOT[0] - 4 : SPOT[0] + 5, SPOT[1] - 4 : SPOT[1] + 5] = SPOT_HU
    return found


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Two cases; the first one's patient was examined before, with other HU, and before that."""
    root = tmp_path_factory.mktemp("tools")
    write_case(root, 1, images=images())
    write_case(root, 2)
    earlier = {"PatientID": "SECRET-1"}
    prior = images(spot=False, block_hu=PRIOR_HU)
    write_original(root / "sources" / "7", 7, images=prior, StudyDate="19990630", **earlier)
    write_original(root / "sources" / "8", 8, StudyDate="19980101", **earlier)
    write_original(root / "sources" / "9", 9, StudyDate="20000101", **earlier)
    return collected(root)


def case_named(collection: Collection, name: str) -> str:
    return next(cid for cid, case in collection.cases.items() if case.folder.name == name)


@pytest.fixture
def tab(entered: Tab, collection: Collection) -> Tab:
    entered.page.fill("#reader", "anna")
    entered.go(f"case/{case_named(collection, 'derived-1')}")
    entered.key("3")
    return entered


class Picture:
    """A plane as it must be seen in a panel: pixels, and mm between rows and columns."""

    def __init__(self, hu: NDArray[Any], spacing_mm: tuple[float, float], sides: str) -> None:
        self.hu, self.spacing_mm, self.sides = hu, spacing_mm, sides
        self.beside: tuple[Picture, ...] = ()

    def turned(self, key: str) -> Picture:
        """After the key: T turns clockwise, H mirrors left to right, V top to bottom."""
        left, top, right, bottom = self.sides
        if key == "t":
            spacing_mm = self.spacing_mm[1], self.spacing_mm[0]
            return Picture(np.rot90(self.hu, -1), spacing_mm, bottom + left + top + right)
        if key == "h":
            return Picture(self.hu[:, ::-1], self.spacing_mm, right + top + left + bottom)
        return Picture(self.hu[::-1], self.spacing_mm, left + bottom + right + top)

    def scale(self, box: dict[str, float]) -> float:
        """CSS pixels per mm, where all of it, and of those in the other panels, fits a panel."""

        def fitting(picture: Picture) -> float:
            (rows, columns), (row_mm, column_mm) = picture.hu.shape, picture.spacing_mm
            return min(box["width"] / (columns * column_mm), box["height"] / (rows * row_mm))

        return min(fitting(picture) for picture in (self, *self.beside))

    def place(self, row: float, column: float, box: dict[str, float]) -> tuple[float, float]:
        """CSS pixels from the page's corner, of a row and column in the middle of a panel."""
        (rows, columns), (row_mm, column_mm) = self.hu.shape, self.spacing_mm
        scale = self.scale(box)
        return (
            box["x"] + box["width"] / 2 + (column - (columns - 1) / 2) * column_mm * scale,
            box["y"] + box["height"] / 2 + (row - (rows - 1) / 2) * row_mm * scale,
        )

    def where(self, hu: int) -> tuple[float, float]:
        """The middle of the square of a value."""
        rows, columns = np.nonzero(self.hu == hu)
        return float(np.median(rows)), float(np.median(columns))


def box_of(tab: Tab, panel: int) -> dict[str, float]:
    return tab.ask(f"{VIEWER}.panels[{panel}].canvasHost.getBoundingClientRect().toJSON()")


def screen(tab: Tab) -> NDArray[np.uint8]:
    """All that is seen, without marks, letters and lines over the pictures."""
    tab.page.wait_for_timeout(60)  # the library draws at the next frame
    over = "document.querySelectorAll('.panel svg, .panel p')"
    tab.ask(f"{over}.forEach((each) => {{ each.style.visibility = 'hidden' }})")
    taken = tab.page.screenshot()
    tab.ask(f"{over}.forEach((each) => {{ each.style.visibility = '' }})")
    return np.array(Image.open(io.BytesIO(taken)).convert("L"))


def grey_of(hu: float, centre: float = 40, width: float = 400) -> float:
    return float(np.clip((hu - (centre - width / 2)) / width, 0, 1) * 255)


def assert_seen(tab: Tab, picture: Picture, values: list[int], *, panel: int, shift: int) -> None:
    """The square of each value has its grey level where it must lie on the screen."""
    box, seen = box_of(tab, panel), screen(tab)
    for hu in values:
        x, y = picture.place(*picture.where(hu), box)
        assert seen[round(y), round(x)] == pytest.approx(grey_of(hu + shift), abs=2), hu


def letters(tab: Tab, panel: int) -> str:
    within = f"{VIEWER}.panels[{panel}].element"
    return "".join(tab.ask(f"{within}.querySelector('.side-{side}').innerText") for side in SIDES)


def settled(tab: Tab) -> None:
    tab.ask(f"{VIEWER}.shown()")


@pytest.mark.parametrize(
    "keys", ["t", "h", "v", "tt", "th", "ht", "tv", "htt", "ttt", "tttt", "hh"]
)
def test_what_is_turned_is_seen_so_with_letters_and_lengths(tab: Tab, keys: str) -> None:
    """Oblong pixels and four different corners: no two turns can be mixed up."""
    picture = Picture(images()[MIDDLE], (ROW_MM, COLUMN_MM), "RALP")
    for key in keys:
        tab.key(key)
        picture = picture.turned(key)
    settled(tab)
    for panel, shift in ((0, 0), (1, SHIFT_HU)):
        assert_seen(tab, picture, list(SQUARES.values()), panel=panel, shift=shift)
        assert letters(tab, panel) == picture.sides
    box = box_of(tab, 0)
    # From the square of 80 HU to that of 150 HU: the same in every view.
    (x, y), (to_x, to_y) = (picture.place(*picture.where(hu), box) for hu in (80, 150))
    tab.page.mouse.move(x, y)
    tab.until("document.querySelector('#cursor').textContent.includes('original: 80 HU')")
    drag(tab, "distance", (x, y), (to_x, to_y))
    assert tab.ask(LAST_MM) == pytest.approx(np.hypot(55 * ROW_MM, 47 * COLUMN_MM), abs=0.5)
    # Along the screen alone.
    drag(tab, "distance", (x, y), (x + 60, y))
    assert tab.ask(LAST_MM) == pytest.approx(60 / picture.scale(box), abs=0.5)


def drag(tab: Tab, tool: str, begin: tuple[float, float], end: tuple[float, float]) -> None:
    tab.page.click(f"#tools [data-value={tool}]")
    tab.page.mouse.move(*begin)
    tab.page.mouse.down()
    tab.page.mouse.move((begin[0] + end[0]) / 2, (begin[1] + end[1]) / 2)
    tab.page.mouse.move(*end)
    tab.page.mouse.up()


def test_marks_and_figures_go_along_when_the_picture_is_turned(tab: Tab) -> None:
    picture = Picture(images()[MIDDLE], (ROW_MM, COLUMN_MM), "RALP")
    box = box_of(tab, 0)
    x, y = picture.place(*picture.where(150), box)
    drag(tab, "region", (x, y), (x + 2.5 * picture.scale(box), y))
    mean = "document.querySelector('.mark-figures tr[data-role=original] td').innerText"
    tab.until(mean, "150.00")
    tab.page.click("#mirror")
    tab.page.click("#turn")
    picture = picture.turned("h").turned("t")
    settled(tab)
    middle = tab.ask(
        f"""(() => {{
          const box = {VIEWER}.panels[0].svg.querySelector(".mark").getBoundingClientRect();
          return [box.x + box.width / 2, box.y + box.height / 2];
        }})()"""
    )
    assert middle == pytest.approx(
        list(picture.place(*picture.where(150), box_of(tab, 0))), abs=1.5
    )
    tab.until(mean, "150.00")
    level = tab.ask(f"{VIEWER}.panels[0].element.querySelector('.level').textContent")
    assert "mirrored turned 90°" in level
    tab.key("Alt+ArrowRight")  # on the screen, whichever way the patient lies there
    moved = tab.ask(f"{VIEWER}.panels[0].svg.querySelector('.mark').getBoundingClientRect().x")
    tab.key("Alt+ArrowRight")
    assert (
        tab.ask(f"{VIEWER}.panels[0].svg.querySelector('.mark').getBoundingClientRect().x") > moved
    )


def test_the_difference_and_a_plane_across_are_turned_too(tab: Tab) -> None:
    tab.key("d")
    tab.until(f"Boolean({VIEWER}.panels[2]?.plane)")
    tab.key("t")
    settled(tab)
    assert letters(tab, 2) == "PRAL"
    box, seen = box_of(tab, 2), screen(tab)
    scale = min(box["width"] / (ROWS * ROW_MM), box["height"] / (COLUMNS * COLUMN_MM))
    middle = round(box["x"] + box["width"] / 2)
    inside = round(box["y"] + box["height"] / 2 + (COLUMNS * COLUMN_MM / 2 - 1) * scale)
    outside = round(box["y"] + box["height"] / 2 + (COLUMNS * COLUMN_MM / 2 + 2) * scale)
    assert seen[inside, middle] > 0  # + 7 HU has a colour, up to the turned picture's edge
    assert seen[outside, middle] == 0
    tab.key("c")
    tab.until(f"{VIEWER}.panels[0].plane?.stack.name", "coronal")
    assert letters(tab, 0) == "IRSL"


def three_planes() -> tuple[Picture, Picture, Picture]:
    """Through the spot; the planes across from the head down."""
    stack = np.stack(images())
    axial = Picture(stack[SPOT_SLICES[1]], (ROW_MM, COLUMN_MM), "RALP")
    coronal = Picture(stack[::-1, SPOT[0]], (STEP_MM, COLUMN_MM), "RSLI")
    sagittal = Picture(stack[::-1, :, SPOT[1]], (STEP_MM, ROW_MM), "ASPI")
    planes = axial, coronal, sagittal
    for plane in planes:
        plane.beside = planes
    return planes


def cuts(tab: Tab, panel: int) -> dict[str, list[float]]:
    """Both ends of each reference line, CSS pixels from the page's corner."""
    box = box_of(tab, panel)
    lines = tab.ask(
        f"""Object.fromEntries([...{VIEWER}.panels[{panel}].svg.querySelectorAll(".cut")].map(
          (line) => [line.dataset.of, ["x1", "y1", "x2", "y2"].map((name) =>
            Number(line.getAttribute(name)))]))"""
    )
    corner = np.array([box["x"], box["y"]] * 2)
    return {name: list(np.array(ends) + corner) for name, ends in lines.items()}


def test_three_planes_meet_where_the_crosshair_is_put(tab: Tab) -> None:
    tab.key("b")
    tab.until(f"{VIEWER}.panels.filter((panel) => panel.plane).length", 3)
    tab.ask(f"{VIEWER}.goTo({SPOT_SLICES[1]})")
    settled(tab)
    axial, coronal, sagittal = three_planes()
    assert_seen(tab, axial, [*SQUARES.values(), SPOT_HU], panel=0, shift=0)
    tab.page.click("#tools [data-value=crosshair]")
    tab.page.mouse.click(*axial.place(*SPOT, box_of(tab, 0)))
    tab.until(f"{VIEWER}.panels.map((p) => p.plane.index)", [SPOT_SLICES[1], SPOT[0], SPOT[1]])
    for panel, picture in enumerate((axial, coronal, sagittal)):
        assert letters(tab, panel) == picture.sides
        assert_seen(tab, picture, [SPOT_HU], panel=panel, shift=0)
        x, y = picture.place(*picture.where(SPOT_HU), box_of(tab, panel))
        upright, level = {0: ("sagittal", "coronal"), 1: ("sagittal", "axial")}.get(
            panel, ("coronal", "axial")
        )
        lines = cuts(tab, panel)
        assert sorted(lines) == sorted((upright, level))
        assert lines[upright][::2] == pytest.approx([x, x], abs=1)
        assert lines[level][1::2] == pytest.approx([y, y], abs=1)


def test_each_of_three_planes_has_wheel_marks_and_cursor_of_its_own(tab: Tab) -> None:
    tab.page.click("#layout [data-value='three planes']")
    tab.until(f"{VIEWER}.panels.filter((panel) => panel.plane).length", 3)
    _, coronal, sagittal = three_planes()
    before = tab.indices
    box = box_of(tab, 2)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.page.mouse.move(x, y)
    tab.page.mouse.wheel(0, 100)
    tab.until(f"{VIEWER}.panels[2].plane.index", before[2] + 1)  # down is to the left
    assert tab.indices[:2] == before[:2]
    drag(tab, "distance", (x, y - 20), (x, y + 20))
    assert tab.ask(LAST_MM) == pytest.approx(40 / sagittal.scale(box), abs=0.5)
    marks = f"{VIEWER}.panels.map((panel) => panel.svg.querySelectorAll('.mark').length)"
    tab.until(marks, [0, 0, 1])
    tab.ask(f"{VIEWER}.goTo({SPOT[1]})")
    tab.ask(f"{VIEWER}.moveTo([-28 + {SPOT[1] * COLUMN_MM}, -38 + {SPOT[0] * ROW_MM}, 17.5])")
    tab.page.mouse.move(*coronal.place(*coronal.where(SPOT_HU), box_of(tab, 1)))
    tab.until(f"document.querySelector('#cursor').textContent.includes('original: {SPOT_HU} HU')")
    tab.key("Space")
    tab.until(f"{VIEWER}.panels.map((panel) => panel.plane.role)", ["denoised"] * 3)
    assert_seen(tab, coronal, [SPOT_HU], panel=1, shift=SHIFT_HU)
    tab.key("b")
    tab.until(f"{VIEWER}.panels.length", 2)


def test_a_hanging_is_kept_for_the_next_case_that_can_have_it(
    tab: Tab, collection: Collection
) -> None:
    titles = f"{VIEWER}.panels.map((panel) => panel.plane?.role)"
    tab.page.click("#layout [data-value='+ prior']")
    tab.until(titles, ["prior", "original", "denoised"])
    picture = Picture(images()[MIDDLE], (ROW_MM, COLUMN_MM), "RALP")
    box, seen = box_of(tab, 0), screen(tab)
    x, y = picture.place(*picture.where(150), box)
    assert seen[round(y), round(x)] == pytest.approx(grey_of(PRIOR_HU), abs=2)
    for panel, shift in ((1, 0), (2, SHIFT_HU)):
        assert_seen(tab, picture, list(SQUARES.values()), panel=panel, shift=shift)
    assert "not registered" in tab.ask(f"{VIEWER}.panels[0].element.innerText")
    tab.go(f"case/{case_named(collection, 'derived-2')}")  # of another patient, without a prior
    tab.until(titles, ["original", "denoised"])
    assert tab.ask("[...document.querySelectorAll('#layout button')].map((b) => b.innerText)") == [
        "side by side", "+ difference", "one", "three planes",
    ]  # fmt: skip
    tab.go(f"case/{case_named(collection, 'derived-1')}")
    tab.until(titles, ["prior", "original", "denoised"])
    tab.page.click("#layout [data-value='+ difference']")
    tab.until(titles, ["original", "denoised", "difference"])
    tab.go(f"case/{case_named(collection, 'derived-2')}")
    tab.until(titles, ["original", "denoised", "difference"])


def test_the_date_of_the_study_is_on_the_page_and_nowhere_else(
    tab: Tab, collection: Collection, tmp_path: Path
) -> None:
    assert tab.ask("document.querySelector('#essentials').innerText").startswith("1999-12-31 · ")
    text = tab.ask("document.querySelector('#panel-side').textContent")
    assert "1999-06-30" in text  # the prior's; of two before the last one, and none after
    assert "2000-01-01" not in text
    assert "SECRET" not in tab.ask("document.body.textContent")
    write_disk(collection, tmp_path / "page")
    written = (tmp_path / "page" / "data" / "index.js").read_text(encoding="utf-8")
    for date in ("19991231", "19990630", "StudyDate", "StudyDescription", "SECRET"):
        assert date not in written
    records = (collection.root / "review" / "audit.jsonl").read_text(encoding="utf-8")
    assert "19991231" not in records


def test_one_finger_scrolls_or_windows_and_two_move_and_enlarge(
    browser: Any, collection: Collection
) -> None:
    picture = Picture(images()[MIDDLE], (ROW_MM, COLUMN_MM), "RALP")
    with served(collection) as address:
        tab = opened(browser, f"{address}/?token={TOKEN}", has_touch=True)
        tab.go(f"case/{case_named(collection, 'derived-1')}")
        tab.key("3")
        touch = tab.page.context.new_cdp_session(tab.page)

        def send(kind: str, *points: tuple[float, float]) -> None:
            fingers = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(points)]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

        box = box_of(tab, 0)
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        send("touchStart", (x, y))
        send("touchMove", (x, y + 30))
        send("touchEnd")
        tab.shown(MIDDLE - 5)
        pressed = "document.querySelector('#tools [aria-pressed=true]').innerText"
        assert tab.ask(pressed) == "scroll"
        tab.ask(f"{VIEWER}.goTo({MIDDLE})")
        send("touchStart", (x - 40, y), (x + 40, y))
        send("touchMove", (x - 40 + 30, y + 20), (x + 40 + 30, y + 20))
        send("touchEnd")
        seen = screen(tab)
        for hu in SQUARES.values():
            at_x, at_y = picture.place(*picture.where(hu), box)
            assert seen[round(at_y + 20), round(at_x + 30)] == pytest.approx(grey_of(hu), abs=2)
        send("touchStart", (x - 40, y), (x + 40, y))
        send("touchMove", (x - 60, y), (x + 60, y))
        send("touchMove", (x - 80, y), (x + 80, y))
        send("touchEnd")
        assert tab.ask(f"{VIEWER}.state.camera.zoom") == pytest.approx(2)
        tab.page.click("#tools [data-value=window]")
        send("touchStart", (x, y))
        send("touchMove", (x + 20, y - 10))
        send("touchEnd")
        tab.until(f"{VIEWER}.state.window", {"centre": 30, "width": 440})
        assert tab.errors == []
        tab.page.close()
