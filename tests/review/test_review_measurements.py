"""Tools of the page in Chromium: marks with figures, undo, DICOM SR and back, cine, keys."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from helpers.browser import LAST_MM, VIEWER, Tab
from helpers.dicom import only_series, save
from helpers.enhanced import enhanced_ct, frame_source
from helpers.review import (
    BLOCK_HU,
    COLUMN_MM,
    ROW_MM,
    SHIFT_HU,
    SLICES,
    body_hu,
    collected,
    write_case,
)
from numpy.typing import NDArray
from pydicom.uid import EnhancedCTImageStorage

from pipeline.core.errors import ConfigError
from pipeline.dicom.derived.mark_report import (
    Measured,
    length_figure,
    read_report,
    write_report,
)
from pipeline.review import measurements
from pipeline.review.decisions import audit_of
from pipeline.review.worklist import Case, Collection

MIDDLE = SLICES // 2
MARKS = "[...document.querySelectorAll('.mark-figures')].map((each) => each.innerText)"
LIST = f"{VIEWER}.state.marks.list.map(({{ kind, points }}) => ({{ kind, points }}))"


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    write_case(tmp_path, 1)
    return collected(tmp_path)


@pytest.fixture
def case(collection: Collection) -> Case:
    (found,) = collection.cases.values()
    return found


def position(row: float, column: float, index: float = MIDDLE) -> list[float]:
    return [-28 + column * COLUMN_MM, -38 + row * ROW_MM, index * 2.5]


def ellipse(row: float, column: float, across_mm: float, down_mm: float) -> dict[str, Any]:
    x, y, z = position(row, column)
    points = [[x, y, z], [x + across_mm, y, z], [x, y + down_mm, z]]
    return {"kind": "region", "points": points}


def inside(row: float, column: float, across_mm: float, down_mm: float) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:96, :80]
    across, down = (columns - column) * COLUMN_MM, (rows - row) * ROW_MM
    return np.hypot(across / across_mm, down / down_mm) <= 1


def numbers(group: pydicom.Dataset) -> dict[str, float]:
    """Values of a measurement group, by derivation or else by name."""
    found = {}
    for item in group.ContentSequence:
        if item.ValueType == "NUM":
            name = item.ConceptNameCodeSequence[0].CodeMeaning
            for inner in item.get("ContentSequence") or ():
                if inner.ConceptNameCodeSequence[0].CodeMeaning == "Derivation":
                    name = inner.ConceptCodeSequence[0].CodeMeaning
            found[name] = float(item.MeasuredValueSequence[0].NumericValue)
    return found


def groups_of(report: pydicom.Dataset) -> list[pydicom.Dataset]:
    (measured,) = [
        item
        for item in report.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeMeaning == "Imaging Measurements"
    ]
    return list(measured.ContentSequence)


def test_a_report_holds_the_figures_of_both_series_and_comes_back(
    case: Case, collection: Collection
) -> None:
    """Over an edge of the body and wider than high, so that no axes can be mixed up."""
    apex, one, other = position(50, 40), position(40, 40), position(50, 60)
    marks = [
        ellipse(12, 30, 6.6, 3.3),
        {"kind": "distance", "points": [position(20, 20), position(30, 40)]},
        {"kind": "angle", "points": [one, apex, other]},
    ]
    path = measurements.save(collection.root, case, {"reader": "anna", "marks": marks})
    report = pydicom.dcmread(path)
    assert report.PatientID == "SECRET-1"  # of its study, as a derived series is
    groups = groups_of(report)
    assert len(groups) == 2 * len(marks)
    values = body_hu(MIDDLE)[inside(12, 30, 6.6, 3.3)].astype(float)
    for group, shift in ((groups[0], 0), (groups[3], SHIFT_HU)):
        found = numbers(group)
        assert found["Mean"] == pytest.approx(values.mean() + shift, rel=1e-6)
        assert found["Standard Deviation"] == pytest.approx(values.std(), rel=1e-6)
        assert (found["Minimum"], found["Maximum"]) == (values.min() + shift, values.max() + shift)
        assert found["Area"] == pytest.approx(np.pi * 6.6 * 3.3, rel=1e-6)
    length = np.hypot(20 * COLUMN_MM, 10 * ROW_MM)
    assert numbers(groups[1])["Length"] == pytest.approx(length, rel=1e-6)
    assert numbers(groups[2])["Angle"] == pytest.approx(90)
    back = [mark.model_dump() for mark in measurements.saved(collection.root, case)]
    assert [mark["kind"] for mark in back] == ["region", "distance", "angle"]
    for mark, sent in zip(back, marks, strict=True):
        assert np.array(mark["points"]) == pytest.approx(np.array(sent["points"]), abs=1e-3)


def test_a_report_names_the_images_it_is_of(case: Case, collection: Collection) -> None:
    body = {"reader": "anna", "marks": [ellipse(40, 40, 4, 4)]}
    path = measurements.save(collection.root, case, body)
    series = [only_series(collection.root / "sources" / "1"), only_series(case.folder)]
    found = read_report(path, series)
    assert [measured.number for _, measured in found] == [MIDDLE, MIDDLE]
    assert [of for of, _ in found] == series
    evidence = pydicom.dcmread(path).CurrentRequestedProcedureEvidenceSequence[0]
    named = {
        image.ReferencedSOPInstanceUID
        for each in evidence.ReferencedSeriesSequence
        for image in each.ReferencedSOPSequence
    }
    assert named == {str(each.instances[MIDDLE].header.SOPInstanceUID) for each in series}
    assert read_report(path, []) == []


def test_a_mark_on_a_frame_names_the_stored_object(tmp_path: Path) -> None:
    whole = enhanced_ct([frame_source(index) for index in range(4)])
    series = only_series(save(whole, tmp_path / "enhanced" / "E.dcm").parent)
    points = np.array([[1.0, 2.0], [3.0, 2.0]])
    mark = Measured(("1.2.3", "distance 1"), "distance", 2, points, length_figure(1.4))
    path = tmp_path / "SR.dcm"
    write_report([(series, mark)], path, observer="anna")
    report = pydicom.dcmread(path)
    (evidence,) = report.CurrentRequestedProcedureEvidenceSequence
    (listed,) = evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert listed.ReferencedSOPInstanceUID == whole.SOPInstanceUID
    assert listed.ReferencedSOPClassUID == EnhancedCTImageStorage
    ((of, found),) = read_report(path, [series])
    assert (of, found.number) == (series, 2)
    assert found.points == pytest.approx(points)


def test_a_report_is_clean_under_dciodvfy(
    case: Case, collection: Collection, require_program: Callable[[str], str]
) -> None:
    marks = [
        ellipse(40, 40, 4, 6),
        {"kind": "distance", "points": [position(20, 20), position(30, 40)]},
        {"kind": "angle", "points": [position(1, 2), position(3, 4), position(9, 4)]},
    ]
    path = measurements.save(collection.root, case, {"reader": "a.b@c.example", "marks": marks})
    program = require_program("dciodvfy")
    found = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
    lines = found.stderr.splitlines()
    assert "ComprehensiveSR" in lines
    # The source has no time of its study, which is not the report's to make up.
    assert [line for line in lines if line.startswith(("Error", "Warning"))] == [
        "Warning - Missing attribute or value that would be needed to build DICOMDIR - Study Time"
    ]


def test_each_save_is_another_file_and_the_last_is_shown(
    case: Case, collection: Collection
) -> None:
    for count in (1, 2):
        body = {"reader": "anna", "marks": [ellipse(40, 40, 4, 4)] * count}
        path = measurements.save(collection.root, case, body)
        assert path.name == f"SR.000{count}.dcm"
        assert len(measurements.saved(collection.root, case)) == count
    path.write_bytes(b"damaged")
    with pytest.raises(ConfigError, match=r"SR\.0002\.dcm"):
        measurements.saved(collection.root, case)


@pytest.mark.parametrize(
    ("mark", "problem"),
    [
        (ellipse(200, 200, 4, 4), "holds no measured pixel"),
        ({"kind": "distance", "points": [[0, 0, 1.0], [5, 0, 1.0]]}, "no mark lies on a slice"),
    ],
)
def test_what_cannot_be_saved_is_named(
    case: Case, collection: Collection, mark: dict, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        measurements.save(collection.root, case, {"reader": "anna", "marks": [mark]})


@pytest.fixture
def tab(entered: Tab, case: Case) -> Tab:
    entered.page.fill("#reader", "anna")
    entered.go(f"case/{case.cid}")
    return entered


def drag(tab: Tab, tool: str, begin: list[float], end: list[float]) -> None:
    """From one place of the patient to another, in the first panel."""
    tab.page.click(f"#tools [data-value={tool}]")
    at = f"{VIEWER}.panels[0]"
    box = tab.ask(f"{at}.canvasHost.getBoundingClientRect().toJSON()")
    places = [tab.ask(f"{at}.cssOf({place})") for place in (begin, end)]
    (x, y), (to_x, to_y) = [(box["x"] + x, box["y"] + y) for x, y in places]
    tab.page.mouse.move(x, y)
    tab.page.mouse.down()
    tab.page.mouse.move((x + to_x) / 2, (y + to_y) / 2)
    tab.page.mouse.move(to_x, to_y)
    tab.page.mouse.up()


def test_many_marks_are_drawn_measured_undone_saved_and_shown_again(
    tab: Tab, collection: Collection, case: Case
) -> None:
    drag(tab, "region", position(48, 40), position(48, 45))
    drag(tab, "ellipse", position(20, 40), position(24, 50))
    drag(tab, "distance", position(70, 20), position(70, 60))
    assert tab.ask(LAST_MM) == pytest.approx(40 * COLUMN_MM, abs=0.5)
    drag(tab, "angle", position(30, 20), position(60, 20))
    drag(tab, "angle", position(60, 20), position(60, 50))
    tab.until(f"{MARKS}.length", 4)
    shown = tab.ask(MARKS)
    assert [each.split(",")[0] for each in shown] == [
        "1: region", "2: region", "3: distance", "4: angle",
    ]  # fmt: skip
    assert "90" in shown[3] or "89." in shown[3]
    mean = tab.ask("document.querySelector('.mark-figures tr[data-role=original] td').innerText")
    assert float(mean) == BLOCK_HU
    tab.key("Control+z")
    tab.until(f"{MARKS}.length", 3)
    tab.key("Escape")
    tab.until(f"{MARKS}.length", 0)
    tab.page.click("#undo")
    tab.until(f"{MARKS}.length", 3)
    before = tab.ask(LIST)
    tab.page.click("#save-marks")
    tab.until("document.querySelector('#said').textContent.startsWith('saved as ')")
    record = audit_of(collection.root).records()[-1]
    assert (record["act"], record["reader"], record["case"]) == ("measured", "anna", case.cid)
    tab.page.reload()
    tab.until("Boolean(document.body.dataset.ready)")
    tab.until(f"{MARKS}.length", 3)
    for mark, sent in zip(tab.ask(LIST), before, strict=True):
        assert mark["kind"] == sent["kind"]
        centre = np.array(sent["points"][0])
        assert np.array(mark["points"][0]) == pytest.approx(centre, abs=1e-3)


def test_a_mark_is_on_its_own_slice_alone(tab: Tab) -> None:
    tab.ask(f"{VIEWER}.setRegion({position(48, 40)}, 5)")
    drawn = f"{VIEWER}.panels.map((panel) => panel.svg.querySelectorAll('.mark').length)"
    assert tab.ask(drawn) == [1, 1]
    tab.ask(f"{VIEWER}.goTo({MIDDLE + 1})")
    tab.until(drawn, [0, 0])
    tab.page.click("[aria-label='show mark 1']")
    tab.shown(MIDDLE)
    tab.until(drawn, [1, 1])
    tab.page.click("[aria-label='remove mark 1']")
    tab.until(drawn, [0, 0])


def test_invert_turns_grey_levels_and_leaves_the_difference(tab: Tab) -> None:
    tab.key("d")
    tab.until(f"Boolean({VIEWER}.panels[2]?.plane)")
    tab.key("3")
    place = position(20, 15)
    grey, colour = tab.grey(0, place), tab.grey(2, place)
    tab.key("i")
    assert tab.grey(0, place) == pytest.approx([255 - level for level in grey], abs=1)
    assert tab.grey(2, place) == colour
    assert "inverted" in tab.ask(f"{VIEWER}.panels[0].element.innerText")
    tab.page.click("#invert")
    assert tab.grey(0, place) == grey


def test_cine_plays_downwards_over_the_end_and_stops(tab: Tab) -> None:
    tab.key("End")
    tab.shown(0)
    tab.key("k")
    tab.until(f"{VIEWER}.index > {MIDDLE}")  # from the lowest to the top again
    tab.until(f"{VIEWER}.index < {SLICES - 2}")
    tab.key("K")
    tab.until("document.querySelector('#cine').getAttribute('aria-pressed')", "false")
    stopped = tab.ask(f"{VIEWER}.index")
    tab.page.wait_for_timeout(400)
    assert abs(tab.ask(f"{VIEWER}.index") - stopped) <= 1


def test_keys_accept_and_reject_capital_and_small(tab: Tab, collection: Collection) -> None:
    said = "document.querySelector('#said').textContent"
    tab.key("y")
    tab.until(said, "accepted")
    tab.key("X")  # without a reason
    tab.until(said, "write a reason, then press Reject")
    assert tab.ask("document.activeElement.tagName") == "TEXTAREA"
    tab.page.keyboard.type("blurred xy")
    tab.page.locator("#main").focus()
    tab.key("x")
    tab.until(said, "rejected")
    tab.key("Y")
    tab.until(said, "accepted")
    acts = [each["act"] for each in audit_of(collection.root).records()]
    assert [act for act in acts if act in ("accept", "reject")] == ["accept", "reject", "accept"]
