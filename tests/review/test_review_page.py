"""The review page in a real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from conftest import ROOT, missing
from helpers.browser import LAST_MM, STUDY_PROGRESS, VIEWER, Tab, opened
from helpers.dicom import KEY, only_series
from helpers.review import (
    BLOCK_HU,
    COLUMN_MM,
    CTDI_VOL_MGY,
    ROW_MM,
    SHIFT_HU,
    SLICES,
    STUDY,
    TOKEN,
    body_hu,
    case_of,
    collected,
    served,
    truncate,
    write_case,
    write_uncertainty,
)

from pipeline.dicom.read.volume import read_volume, series_key
from pipeline.review.decisions import audit_of
from pipeline.review.static_export import write_disk
from pipeline.review.study.reader_study import open_study, plan, unblinded
from pipeline.review.worklist import Collection
from pipeline.store.store import LPS_TO_RAS

AXE = ROOT / "pipeline" / "review" / "page" / "node_modules" / "axe-core" / "axe.min.js"
PLAIN, PADDED, TILTED, DAMAGED, UNCERTAIN = 1, 2, 3, 4, 5
SHEAR_MM = 1.2
DIRECTION = {"a": "axial", "c": "coronal", "s": "sagittal"}


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    root = tmp_path_factory.mktemp("review")
    write_case(root, PLAIN)
    write_case(root, PADDED, padded=True)
    write_case(root, TILTED, shear_mm=SHEAR_MM)
    write_labels(root / "sources" / str(TILTED), root / "labels.nii")
    _, derived = write_case(root, DAMAGED)
    write_case(root, UNCERTAIN)
    write_uncertainty(root, UNCERTAIN)
    found = collected(root)
    truncate(derived / "CT.0006.dcm")
    return found


def write_labels(original: Path, path: Path) -> None:
    """Label 2 in rows 40 to 49 and columns 30 to 39 of every slice."""
    volume = read_volume(only_series(original)).volume
    labels = np.zeros(volume.image_hu.shape, np.uint8)
    labels[:, 40:50, 30:40] = 2
    image = nibabel.Nifti1Image(labels.T, LPS_TO_RAS @ volume.affine_lps)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


@pytest.fixture(scope="module")
def site(browser: Any, collection: Collection) -> Iterator[tuple[Tab, str]]:
    """One tab for all tests, entered with the token; and the server's address."""
    with served(collection) as address:
        tab = opened(browser, f"{address}/?token={TOKEN}")
        yield tab, address
        tab.page.close()


@pytest.fixture
def tab(site: tuple[Tab, str]) -> Iterator[Tab]:
    """The tab at the worklist, no reader named."""
    site[0].page.fill("#reader", "anna")
    site[0].go("worklist")
    yield site[0]
    assert site[0].errors == []
    assert all(url.startswith((site[1], "data:")) for url in site[0].requests)


@pytest.fixture
def plain(tab: Tab, collection: Collection) -> Tab:
    tab.go(f"case/{case_of(collection, collection.root / 'derived-1')}")
    return tab


def position(row: float, column: float, index: float) -> list[float]:
    return [-28 + column * COLUMN_MM, -38 + row * ROW_MM, index * 2.5]


def test_both_panels_open_in_the_middle_and_scroll_together(plain: Tab) -> None:
    assert plain.indices == [SLICES // 2] * 2
    for key, index in (("ArrowDown", 11), ("ArrowUp", 12), ("PageUp", 22), ("PageDown", 12)):
        plain.key(key)
        plain.shown(index)
    plain.key("Home")
    plain.shown(SLICES - 1)
    plain.key("End")
    plain.shown(0)
    plain.page.mouse.move(300, 400)
    plain.page.mouse.wheel(0, -100)
    plain.shown(1)


def test_down_is_caudal_to_the_back_and_to_the_left_or_turned(plain: Tab) -> None:
    """LPS: z grows to the head, y to the back, x to the patient's left."""
    place = f"{VIEWER}.state.position"
    plain.page.mouse.move(300, 400)
    for usual in (True, False):
        if not usual:
            plain.key("?")
            plain.page.select_option("#wheel", "turned")
            plain.page.click("#help .close")
        for key, axis, down in (("a", 2, -1), ("c", 1, 1), ("s", 0, 1)):
            plain.key(key)
            plain.until(f"{VIEWER}.panels[0].plane?.stack.name === {DIRECTION[key]!r}")
            before = plain.ask(place)[axis]
            plain.page.mouse.wheel(0, 100)
            plain.until(f"{place}[{axis}] !== {before}")
            moved = plain.ask(place)[axis] - before
            assert (moved * down > 0) == usual
    assert plain.ask("localStorage.getItem('ldct-wheel')") == "turned"
    plain.key("?")
    plain.page.select_option("#wheel", "usual")
    plain.page.click("#help .close")


def test_a_slice_has_the_number_and_the_place_that_other_viewers_show(plain: Tab) -> None:
    where = f"{VIEWER}.panels[1].element.querySelector('.where').textContent"
    for index in (0, 12):
        plain.ask(f"{VIEWER}.goTo({index})")
        shown = f"axial {index + 1} / {SLICES} · image {SLICES - index} · {index * 2.5:.1f} mm"
        plain.until(where, shown)
    plain.key("c")
    plain.until(f"{VIEWER}.panels[0].plane?.stack.name", "coronal")
    assert "image" not in plain.ask(where)


def test_a_case_is_named_as_in_the_report_and_the_folder(
    plain: Tab, collection: Collection
) -> None:
    text = plain.ask("document.querySelector('#panel-side').innerText")
    cid = case_of(collection, collection.root / "derived-1")
    source = series_key(only_series(collection.root / "sources" / "1"), KEY)
    assert f"Case derived-1, patient {collection.cases[cid].patient}" in text
    assert f"{STUDY} · kernel " in text
    assert f"CTDIvol {CTDI_VOL_MGY} mGy · source series {source}" in text
    plain.go("worklist")
    links = plain.ask("[...document.querySelectorAll('tbody a')].map((a) => a.textContent)")
    assert sorted(links) == [f"derived-{number}" for number in range(1, 6)]


def test_presets_change_pixels_as_computed(plain: Tab) -> None:
    place = position(48, 40, SLICES // 2)
    windows = ((-600, 1500), (50, 350), (40, 400), (400, 1800), (40, 80))
    for key, (centre, width) in enumerate(windows, start=1):
        plain.key(str(key))
        plain.until(f"{VIEWER}.state.window.width", width)
        for panel, hu in enumerate((BLOCK_HU, BLOCK_HU + SHIFT_HU)):
            level = np.clip((hu - (centre - width / 2)) / width, 0, 1) * 255
            assert plain.grey(panel, place) == pytest.approx([np.rint(level)] * 3, abs=1)


def test_a_window_can_be_typed_and_a_preset_changed(plain: Tab) -> None:
    plain.page.fill("#centre", "100")
    plain.page.fill("#width", "200")
    plain.page.keyboard.press("Enter")
    plain.until(f"{VIEWER}.state.window", {"centre": 100, "width": 200})
    plain.page.click("#edit-presets")
    for name, value in (("name", "liver"), ("centre", "60"), ("width", "150")):
        plain.page.get_by_label(f"{name} of preset 6").fill(value)
    plain.page.click("#preset-dialog button[value=save]")
    plain.page.locator("#main").focus()
    plain.key("6")
    plain.until(f"{VIEWER}.state.window", {"centre": 60, "width": 150})
    plain.page.click("#edit-presets")
    plain.page.click("#preset-dialog button[value=reset]")


def test_space_flips_in_place_and_o_shows_the_original(plain: Tab) -> None:
    place = position(48, 40, SLICES // 2)
    plain.key("3")
    one, other = plain.grey(0, place), plain.grey(1, place)
    assert one != other
    plain.key("Space")
    plain.until(f"{VIEWER}.panels[0].element.dataset.role", "denoised")
    plain.until(f"{VIEWER}.panels[0].plane.sid.endsWith('.denoised')")
    assert plain.grey(0, place) == other
    plain.key("Space")
    plain.until(f"{VIEWER}.panels[0].plane.sid.endsWith('.original')")
    assert plain.grey(0, place) == one
    plain.key("o")
    plain.until(f"{VIEWER}.panels[1].plane.sid.endsWith('.original')")
    assert plain.grey(1, place) == one
    plain.key("o")
    plain.until(f"{VIEWER}.panels[1].plane.sid.endsWith('.denoised')")


def test_zoom_and_pan_are_linked(plain: Tab) -> None:
    place = position(47.5, 39.5, SLICES // 2)  # the middle of the slice
    where = f"{VIEWER}.panels.map((p) => p.cssOf({place}).map(Math.round))"
    plain.key("+")
    plain.key("Shift+ArrowLeft")
    one, other = plain.ask(where)
    assert one == other
    box = plain.ask(f"{VIEWER}.panels[0].canvasHost.getBoundingClientRect().toJSON()")
    middle = [round(box["width"] / 2), round(box["height"] / 2)]
    assert one[0] - middle[0] == pytest.approx(40, abs=2)
    plain.key("f")
    assert plain.ask(where)[0] == pytest.approx(middle, abs=4)


def test_region_figures_equal_numpys(plain: Tab) -> None:
    """Over an edge of the body, so that rows and columns cannot be mixed up."""
    plain.ask(f"{VIEWER}.setRegion({position(12, 30, SLICES // 2)}, 6.6)")
    rows, columns = np.mgrid[:96, :80]
    inside = np.hypot((rows - 12) * ROW_MM, (columns - 30) * COLUMN_MM) <= 6.6
    values = body_hu(SLICES // 2)[inside].astype(float)
    plain.until("document.querySelectorAll('#figures tr[data-role]').length", 3)
    figures = plain.ask(
        """Object.fromEntries(
          [...document.querySelectorAll("#figures tr[data-role]")].map((row) => [
            row.dataset.role,
            [...row.querySelectorAll("td")].map((cell) => Number(Object.values(cell.dataset)[0])),
          ]),
        )"""
    )
    for role, shift in (("original", 0), ("denoised", SHIFT_HU)):
        expected = [values.mean(), values.std(), values.min(), values.max(), len(values)]
        moved = np.array(expected) + np.array([shift, 0, shift, shift, 0])
        assert figures[role] == pytest.approx(list(moved), rel=1e-9)
    assert figures["difference"] == pytest.approx([SHIFT_HU, 0, SHIFT_HU, SHIFT_HU, len(values)])


def test_hu_under_the_cursor_and_a_distance(plain: Tab) -> None:
    place = position(33, 25, SLICES // 2)
    at = f"{VIEWER}.panels[0]"
    box = plain.ask(f"{at}.canvasHost.getBoundingClientRect().toJSON()")
    across, down = plain.ask(f"{at}.cssOf({place})")
    x, y = box["x"] + across, box["y"] + down
    plain.page.mouse.move(x, y)
    plain.until("document.querySelector('#cursor').textContent.includes('original: 100 HU')")
    told = plain.ask("document.querySelector('#cursor').textContent")
    assert f"denoised: {BLOCK_HU + SHIFT_HU} HU" in told
    assert f"+{SHIFT_HU} HU" in told
    plain.page.click("#tools [data-value=distance]")
    plain.page.mouse.move(x, y)
    plain.page.mouse.down()
    plain.page.mouse.move(x + 60, y + 45)
    plain.page.mouse.up()
    measured = plain.ask(LAST_MM)
    scale = plain.ask(
        f"{at}.cssOf({position(33, 26, 12)})[0] - {at}.cssOf({position(33, 25, 12)})[0]"
    )
    assert measured == pytest.approx(75 / scale * COLUMN_MM, rel=0.01)


def test_the_difference_is_signed_and_on_a_stated_scale(plain: Tab) -> None:
    plain.key("d")
    plain.until(f"{VIEWER}.panels.length", 3)
    plain.until(f"Boolean({VIEWER}.panels[2].plane)")
    red, _, blue = plain.grey(2, position(48, 40, SLICES // 2))
    assert red > blue  # + 7 HU: towards orange
    assert "±100 HU" in plain.ask(f"{VIEWER}.panels[2].element.textContent")
    plain.key("d")
    plain.until(f"{VIEWER}.panels.length", 2)


def test_slab_shows_maximum_and_average(plain: Tab) -> None:
    middle, values = SLICES // 2, np.stack([body_hu(index) for index in range(SLICES)])
    thick = values[middle - 2 : middle + 3, 20, 15].astype(float)
    place = position(20, 15, middle)
    for mode, expected in (("mip", thick.max()), ("average", np.round(thick.mean()))):
        plain.ask(f"{VIEWER}.setSlab(10, {mode!r})")
        found = plain.ask(f"{VIEWER}.valuesAt({place})")
        assert found[0]["hu"] == expected
    assert "of 5" in plain.ask(f"{VIEWER}.panels[0].element.textContent")


def test_three_orientations_show_the_same_place(plain: Tab) -> None:
    value = int(body_hu(SLICES // 2)[20, 15])
    place = position(20, 15, SLICES // 2)
    for key, name in (("c", "coronal"), ("s", "sagittal"), ("a", "axial")):
        plain.key(key)
        plain.until(f"{VIEWER}.panels[0].plane?.stack.name", name)
        plain.ask(f"{VIEWER}.state.position = {place}")
        assert plain.ask(f"{VIEWER}.valuesAt({place})")[0]["hu"] == value


def test_the_label_stays_in_every_view(plain: Tab, site: tuple[Tab, str]) -> None:
    shown = "document.querySelector('#label').checkVisibility()"
    label = "document.querySelector('#label').textContent"
    for fragment in (plain.ask("location.hash")[1:], "worklist", "study"):
        plain.go(fragment)
        assert plain.ask(shown)
        assert plain.ask(label) == "AI-derived, not for primary diagnosis"


def test_padding_is_black_in_any_window_and_no_figure(tab: Tab, collection: Collection) -> None:
    tab.go(f"case/{case_of(collection, collection.root / 'derived-2')}")
    corner = position(2, 2, SLICES // 2)
    for key in "12345":
        tab.key(key)
        assert tab.grey(0, corner) == [0, 0, 0]
    assert tab.ask(f"{VIEWER}.valuesAt({corner})")[0]["hu"] is None
    tab.ask(f"{VIEWER}.setRegion({position(2, 30, SLICES // 2)}, 8)")
    tab.until("document.querySelector('#figures').textContent.includes('left out')")
    original = only_series(collection.root / "sources" / str(PADDED))
    volume = read_volume(original).volume
    rows, columns = np.mgrid[:96, :80]
    inside = np.hypot((rows - 2) * ROW_MM, (columns - 30) * COLUMN_MM) <= 8
    measured = volume.image_hu[SLICES // 2][inside & volume.valid[SLICES // 2]]
    found = tab.ask(
        "Object.values(document.querySelector('#figures tr[data-role=original] td').dataset)"
    )
    assert float(found[0]) == pytest.approx(measured.mean(dtype=float), rel=1e-6)


def test_a_tilted_series_is_upright_across(tab: Tab, collection: Collection) -> None:
    tab.go(f"case/{case_of(collection, collection.root / 'derived-3')}")
    tab.key("s")
    tab.until(f"{VIEWER}.panels[0].plane?.stack.name", "sagittal")
    assert "tilt" in tab.ask("document.querySelector('aside').textContent")
    # The block's upper edge moves down the patient with each slice, as the slices do.
    for index in (4, 18):
        for row, inside in ((33, True), (27, False)):
            place = [0.0, -38 + row * ROW_MM + SHEAR_MM * index, index * 2.5]
            hu = tab.ask(f"{VIEWER}.valuesAt({place})")[0]["hu"]
            assert (abs(hu - BLOCK_HU) <= 1) == inside


def test_a_segmentation_is_laid_over_and_taken_off(tab: Tab, collection: Collection) -> None:
    tab.go(f"case/{case_of(collection, collection.root / 'derived-3')}")
    assert "label 2" in tab.ask("document.querySelector('.legend').textContent")

    def alpha(row: float, column: float) -> int:
        place = [-28 + column * COLUMN_MM, -38 + row * ROW_MM + SHEAR_MM * 12, 12 * 2.5]
        return tab.ask(
            f"""(() => {{
              const panel = {VIEWER}.panels[1], [x, y] = panel.cssOf({place}).map(Math.round);
              const {{ canvas }} = panel.overlay;
              if (canvas.hidden) return 0;
              return canvas.getContext("2d").getImageData(x, y, 1, 1).data[3];
            }})()"""
        )

    for row, column, inside in (
        (40.2, 30.2, True),
        (49, 39, True),
        (38.8, 35, False),
        (45, 41, False),
    ):
        assert (alpha(row, column) > 0) == inside
    tab.key("l")
    tab.until(f"{VIEWER}.panels.every((panel) => panel.overlay.canvas.hidden)")
    tab.key("l")
    tab.until(f"{VIEWER}.panels.some((panel) => panel.overlay.canvas.hidden)", False)


def test_uncertainty_is_laid_over_where_it_is_and_read_under_the_cursor(
    tab: Tab, collection: Collection
) -> None:
    tab.go(f"case/{case_of(collection, collection.root / 'derived-5')}")
    assert tab.ask(f"{VIEWER}.panels.every((panel) => panel.overlay.canvas.hidden)")
    tab.key("u")
    tab.until(f"{VIEWER}.panels.every((panel) => !panel.overlay.canvas.hidden)")

    def alpha(row: float, column: float) -> int:
        return tab.ask(
            f"""(() => {{
              const panel = {VIEWER}.panels[1];
              const [x, y] = panel.cssOf({position(row, column, 12)}).map(Math.round);
              return panel.overlay.canvas.getContext("2d").getImageData(x, y, 1, 1).data[3];
            }})()"""
        )

    # 150 at 100 HU.
    for row, column, uncertain_hu in ((40, 30, 40), (64, 58, 40), (27, 30, 10), (40, 17, 10)):
        assert alpha(row, column) == pytest.approx(150 * uncertain_hu / 100, abs=1)
        values = tab.ask(f"{VIEWER}.valuesAt({position(row, column, 12)})")
        assert {each["role"]: each["hu"] for each in values}["uncertainty"] == uncertain_hu
    tab.key("c")
    tab.until(f"{VIEWER}.state.direction === 'rows'")
    values = tab.ask(f"{VIEWER}.valuesAt({position(40, 30, 12)})")
    assert {each["role"]: each["hu"] for each in values}["uncertainty"] == 40
    tab.key("u")
    tab.until(f"{VIEWER}.panels.every((panel) => panel.overlay.canvas.hidden)")


def test_a_damaged_slice_says_so(tab: Tab, collection: Collection) -> None:
    tab.go(f"case/{case_of(collection, collection.root / 'derived-4')}")
    tab.ask(f"{VIEWER}.goTo(5)")
    tab.shown(5)
    fault = f"{VIEWER}.panels[1].element.querySelector('.fault')"
    tab.until(f"{fault}.checkVisibility()")
    assert "ends before its pixels do" in tab.ask(f"{fault}.textContent")
    assert not tab.ask(f"{VIEWER}.panels[0].element.querySelector('.fault').checkVisibility()")
    tab.key("ArrowDown")
    tab.until(f"{fault}.checkVisibility()", False)


def test_a_case_is_accepted_with_the_keyboard_alone(tab: Tab, collection: Collection) -> None:
    def focus(selector: str, backwards: bool = False) -> None:
        for _ in range(60):
            if tab.ask(f"document.activeElement?.matches({selector!r})"):
                return
            tab.key("Shift+Tab" if backwards else "Tab")
        pytest.fail(f"the keyboard does not reach {selector}")

    focus("#main tbody a")
    tab.ask("delete document.body.dataset.ready")
    tab.key("Enter")
    tab.until("Boolean(document.body.dataset.ready)")
    tab.key("3")
    tab.key("PageDown")
    tab.key("r")
    focus("#accept")
    tab.key("Enter")
    tab.until("document.querySelector('#said').textContent", "accepted")
    record = audit_of(collection.root).records()[-1]
    assert (record["act"], record["reader"]) == ("accept", "anna")
    before = tab.ask("location.hash")
    tab.page.locator("#main").focus()
    tab.key("n")
    tab.until(f"location.hash !== {before!r}")


def test_the_worklist_filters_and_puts_flags_first(tab: Tab) -> None:
    tab.go("worklist")
    tab.until("document.querySelectorAll('#main tbody tr').length", 5)
    tab.page.fill("#filter", "tilt")
    tab.until("document.querySelectorAll('#main tbody tr').length", 1)
    assert "gantry tilt" in tab.ask("document.querySelector('#main tbody').textContent")
    tab.page.fill("#filter", "")


def test_a_reading_is_blind_saved_at_once_and_taken_up(tab: Tab, collection: Collection) -> None:
    tab.page.fill("#reader", "ben")
    tab.go("study")
    items = plan(open_study(collection.root, []), "ben")
    tab.until("document.querySelectorAll('.likert').length", 7)
    text = tab.ask("document.querySelector('#main').innerText").lower()
    assert "denoised" not in text
    assert "original" not in text
    assert "this study can give no verdict" in tab.ask(
        "document.querySelector('#study-note').innerText"
    )
    assert tab.ask("document.querySelector('a[download]')") is None  # others' marks, until the end
    asked = [url for url in tab.requests if "/api/planes/" in url][-4:]
    assert not any(items[0].case in url or "original" in url for url in asked)
    for side, value in (("left", 2), ("right", 5)):
        for mark in tab.page.locator(f"input[name$=' {side}'][value='{value}']").all():
            mark.check()
    tab.until(STUDY_PROGRESS, "saved")
    tab.page.reload()
    tab.until("document.querySelectorAll('.likert').length", 7)
    assert tab.ask("document.querySelectorAll('.likert input:checked').length") == 12
    tab.page.check("#preference input[value=right]")
    tab.until(STUDY_PROGRESS, "complete and saved")
    reading = unblinded(collection.root, open_study(collection.root, []))[0]
    better = "original" if items[0].left == "denoised" else "denoised"
    assert getattr(reading, better)["noise"] == 5
    assert reading.case == items[0].case


@pytest.mark.parametrize("fragment", ["worklist", "case", "study"])
def test_no_accessibility_fault(tab: Tab, collection: Collection, fragment: str) -> None:
    if not AXE.exists():
        missing("axe-core is not installed: run `make page`")
    case = case_of(collection, collection.root / "derived-1")
    tab.go(f"case/{case}" if fragment == "case" else fragment)
    if fragment == "case":
        tab.ask(f"{VIEWER}.setRegion({position(48, 40, 12)}, 6)")
        tab.until("document.querySelectorAll('#figures tr[data-role]').length", 3)
    tab.ask(AXE.read_text(encoding="utf-8") + ";undefined")
    found = tab.ask(
        "axe.run().then((r) => r.violations.map((v) => [v.impact, v.id, v.nodes[0].html]))"
    )
    assert found == []


TOO_SMALL = """[...document.querySelectorAll("button, select, input, textarea, a, summary")]
  .filter((each) => each.checkVisibility())
  .map((each) => [each.outerHTML, each.getBoundingClientRect()])
  .filter(([, { width, height }]) => width < 43.9 || height < 43.9)
  .map(([html]) => html)"""


def test_nothing_to_touch_is_smaller_than_44_pixels(browser: Any, collection: Collection) -> None:
    with served(collection) as address:
        tab = opened(browser, f"{address}/?token={TOKEN}", has_touch=True, is_mobile=True)
        assert tab.ask("matchMedia('(pointer: coarse)').matches")
        tab.page.fill("#reader", "cy")
        for fragment in ("worklist", f"case/{case_of(collection, collection.root / 'derived-1')}"):
            tab.go(fragment)
            if fragment != "worklist":
                tab.ask(f"{VIEWER}.setRegion({position(48, 40, 12)}, 6)")
                tab.until("document.querySelectorAll('#figures tr[data-role]').length", 3)
            assert tab.ask(TOO_SMALL) == []
        tab.go("study")
        tab.until("document.querySelectorAll('.likert').length", 7)
        assert tab.ask(TOO_SMALL) == []
        wider = "(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth)"
        assert tab.ask(f"{wider}(document.querySelector('aside'))") == 0
        tab.page.close()


def test_touch_scrolls_and_two_fingers_enlarge(
    browser: Any, collection: Collection, page_of_disk: Path
) -> None:
    """On the page of a disk, which needs no server and asks for nothing outside its folder."""
    tab = opened(browser, page_of_disk.as_uri(), has_touch=True)
    tab.go(f"case/{case_of(collection, collection.root / 'derived-1')}")
    tab.until(f"{VIEWER}.panels.length", 2)
    tab.shown(SLICES // 2)
    touch = tab.page.context.new_cdp_session(tab.page)

    def send(kind: str, *points: tuple[int, int]) -> None:
        fingers = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    send("touchStart", (300, 400))
    send("touchMove", (300, 430))
    send("touchEnd")
    tab.shown(SLICES // 2 - 5)
    before = tab.ask(f"{VIEWER}.state.camera.zoom")
    send("touchStart", (250, 400), (350, 400))
    send("touchMove", (240, 400), (360, 400))
    send("touchMove", (200, 400), (400, 400))
    send("touchEnd")
    assert tab.ask(f"{VIEWER}.state.camera.zoom") == pytest.approx(2 * before)
    assert all(url.startswith((page_of_disk.parent.as_uri(), "data:")) for url in tab.requests)
    assert tab.errors == []
    tab.page.close()


@pytest.fixture(scope="module")
def page_of_disk(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("disk") / "page"
    return out / write_disk(collection, out)


def test_a_disk_shows_the_same_hu(browser: Any, collection: Collection, page_of_disk: Path) -> None:
    tab = opened(browser, page_of_disk.as_uri())
    tab.go(f"case/{case_of(collection, collection.root / 'derived-1')}")
    place = position(20, 15, SLICES // 2)
    expected = int(body_hu(SLICES // 2)[20, 15])
    for key, name in (("a", "axial"), ("c", "coronal")):
        tab.key(key)
        tab.until(f"{VIEWER}.panels[0].plane?.stack.name", name)
        tab.ask(f"{VIEWER}.state.position = {place}")
        values = tab.ask(f"{VIEWER}.valuesAt({place})")
        assert [each["hu"] for each in values] == [expected, expected + SHIFT_HU, SHIFT_HU]
    assert tab.ask("document.querySelector('#save-marks, #to-study:not([hidden])')") is None
    assert tab.errors == []
    tab.page.close()


def test_a_wrong_token_opens_nothing(browser: Any, site: tuple[Tab, str]) -> None:
    stranger = browser.new_context().new_page()
    stranger.goto(f"{site[1]}/?token=guessed")
    assert "refused" in stranger.content()
    stranger.goto(f"{site[1]}/?token={TOKEN}")  # used already
    assert "refused" in stranger.content()
    stranger.close()
