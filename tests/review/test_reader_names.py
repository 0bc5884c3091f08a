"""Names of readers in any script: in decisions, readings and DICOM objects. What is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
import pytest
from helpers.browser import STUDY_PROGRESS, Tab
from helpers.review import collected, write_case

from pipeline.core.errors import LdctError
from pipeline.review import key_images, measurements
from pipeline.review.access.roles import is_reader
from pipeline.review.decisions import audit_of
from pipeline.review.worklist import Collection

SAID = "document.querySelector('#said').textContent"
NAMES = ("Łukasz.Żak", "李明", "प्रिया", "محمد", "anna.b@hospital.example", "Ü")
PLACE = [0.0, 0.0, 27.5]


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    """Of a UTF-8 source, and of one in Latin letters."""
    places = [25.0, 27.5, 30.0]
    write_case(tmp_path, 1, places_mm=places, SpecificCharacterSet="ISO_IR 192")
    write_case(tmp_path, 2, places_mm=places, SpecificCharacterSet="ISO_IR 100")
    return collected(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_letters_of_any_script_are_names(name: str) -> None:
    assert is_reader(name)


@pytest.mark.parametrize(
    "name",
    [
        "", "../x", "a/b", "a b", "anna\n", "a\u202eb", "-a", "\u0301a", "a=b", "a^b", "x" * 65,
        "李" * 67, "Z\u0307", "\ud800", "a\x00",
    ],
)  # fmt: skip
def test_what_could_be_a_path_a_control_or_another_form_is_none(name: str) -> None:
    assert not is_reader(name)


def test_a_reader_of_any_script_decides_and_reads(entered: Tab, collection: Collection) -> None:
    entered.page.fill("#reader", "Z\u0307eynep李")  # as some keyboards type it
    entered.page.click("tbody a")
    entered.until("Boolean(document.querySelector('#accept'))")
    entered.page.click("#accept")
    entered.until(SAID, "accepted")
    assert audit_of(collection.root).records()[-1]["reader"] == "\u017beynep李"
    entered.go("study")
    entered.until("document.querySelectorAll('.likert').length", 7)
    entered.page.check("input[name='noise left'][value='3']")
    entered.until(STUDY_PROGRESS, "saved")
    assert (collection.root / "review" / "readings" / "\u017beynep李.jsonl").exists()


def test_a_mark_is_saved_only_once_the_server_has_it(entered: Tab, collection: Collection) -> None:
    held: list[Any] = []
    entered.page.fill("#reader", "anna")
    entered.go("study")
    entered.until("document.querySelectorAll('.likert').length", 7)
    entered.page.route("**/api/reading/*", lambda route: held.append(route))
    entered.page.check("input[name='noise left'][value='3']")
    entered.page.check("input[name='noise right'][value='4']")
    for withheld in (1, 2):  # one after the other
        entered.until(STUDY_PROGRESS, "saving…")
        for _ in range(500):
            if len(held) == withheld:
                break
            entered.page.wait_for_timeout(20)
        entered.page.wait_for_timeout(100)  # in which no second one may come
        assert len(held) == withheld
        assert entered.ask(STUDY_PROGRESS) == "saving…"
        held[-1].continue_()
    entered.until(STUDY_PROGRESS, "saved")
    entered.page.unroute("**/api/reading/*")
    entered.page.route("**/api/reading/*", lambda route: route.abort())
    entered.page.check("input[name='noise left'][value='1']")
    entered.until(STUDY_PROGRESS, "NOT SAVED")
    kept = (collection.root / "review" / "readings" / "anna.jsonl").read_text().splitlines()
    assert len(kept) == 2


def test_an_object_has_the_name_or_is_refused(collection: Collection) -> None:
    first, second = sorted(collection.cases.values(), key=lambda case: case.folder or Path())
    mark = {"kind": "distance", "points": [PLACE, [5.0, 0.0, 27.5]]}
    sent = {"reader": "李明", "marks": [mark]}
    written = pydicom.dcmread(measurements.save(collection.root, first, sent))
    names = [each.value for each in written.iterall() if each.keyword == "PersonName"]
    assert [str(name) for name in names] == ["李明^"]
    chosen = {"reader": "李明", "slices": [1]}
    assert key_images.save(collection.root, first, chosen).exists()
    for save, body in ((measurements.save, sent), (key_images.save, chosen)):
        with pytest.raises(LdctError, match="SpecificCharacterSet ISO_IR 100"):
            save(collection.root, second, body)
