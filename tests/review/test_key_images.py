"""Key images: chosen on the page, written as a DICOM Key Object Selection, and shown again."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from helpers.browser import VIEWER, Tab, chromium, opened
from helpers.dicom import only_series, save
from helpers.enhanced import enhanced_ct, frame_source
from helpers.review import SLICES, TOKEN, collected, served, write_case
from pydicom.uid import EnhancedCTImageStorage, KeyObjectSelectionDocumentStorage

from pipeline.core.errors import ConfigError
from pipeline.dicom.derived.key_images import read_selection, write_selection
from pipeline.review import key_images
from pipeline.review.decisions import audit_of
from pipeline.review.worklist import Case, Collection

STARS = f"{VIEWER}.panels.map((panel) => panel.element.innerText.includes('key image'))"


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    write_case(tmp_path, 1)
    return collected(tmp_path)


@pytest.fixture
def case(collection: Collection) -> Case:
    (found,) = collection.cases.values()
    return found


def test_a_selection_names_the_images_of_both_series_and_comes_back(
    collection: Collection, case: Case
) -> None:
    path = key_images.save(collection.root, case, {"reader": "anna", "slices": [20, 3, 3]})
    made = pydicom.dcmread(path)
    assert made.SOPClassUID == KeyObjectSelectionDocumentStorage
    assert (made.Modality, made.PatientID) == ("KO", "SECRET-1")  # of its study, as the series
    title = made.ConceptNameCodeSequence[0]
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("113000", "DCM")
    series = [only_series(collection.root / "sources" / "1"), only_series(case.folder)]
    wanted = [
        str(one.instances[number].header.SOPInstanceUID) for one in series for number in (3, 20)
    ]
    named = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in made.ContentSequence
        if item.ValueType == "IMAGE"
    ]
    assert named == wanted
    evidence = made.CurrentRequestedProcedureEvidenceSequence[0]
    assert evidence.StudyInstanceUID == made.StudyInstanceUID
    listed = [
        image.ReferencedSOPInstanceUID
        for each in evidence.ReferencedSeriesSequence
        for image in each.ReferencedSOPSequence
    ]
    assert sorted(listed) == sorted(wanted)
    assert key_images.saved(collection.root, case) == [3, 20]
    assert read_selection(path, [series[1]]) == [(series[1], 3), (series[1], 20)]
    assert read_selection(path, []) == []


def test_frames_of_one_file_are_named_by_their_numbers(tmp_path: Path) -> None:
    whole = enhanced_ct([frame_source(index) for index in range(4)])
    series = only_series(save(whole, tmp_path / "enhanced" / "E.dcm").parent)
    path = tmp_path / "KO.dcm"
    write_selection([(series, 2), (series, 0)], path, observer="anna")
    made = pydicom.dcmread(path)
    (image,) = [item for item in made.ContentSequence if item.ValueType == "IMAGE"]
    frames = [series.instances[number].frame + 1 for number in (0, 2)]
    (reference,) = image.ReferencedSOPSequence
    assert reference.ReferencedSOPClassUID == EnhancedCTImageStorage
    assert sorted(reference.ReferencedFrameNumber) == sorted(frames)
    assert sorted(number for _, number in read_selection(path, [series])) == [0, 2]


def test_a_selection_is_clean_under_dciodvfy(
    collection: Collection, case: Case, require_program: Callable[[str], str]
) -> None:
    path = key_images.save(collection.root, case, {"reader": "a.b@c.example", "slices": [1, 2]})
    found = subprocess.run(
        [require_program("dciodvfy"), str(path)], capture_output=True, text=True, check=False
    )
    lines = found.stderr.splitlines()
    assert "KeyObjectSelectionDocument" in lines
    # The source has no time of its study, which is not the selection's to make up.
    assert [line for line in lines if line.startswith(("Error", "Warning"))] == [
        "Warning - Missing attribute or value that would be needed to build DICOMDIR - Study Time"
    ]


def test_each_save_is_another_file_and_a_damaged_one_is_named(
    collection: Collection, case: Case
) -> None:
    for count in (1, 2):
        body = {"reader": "anna", "slices": list(range(count))}
        path = key_images.save(collection.root, case, body)
        assert path.name == f"KO.000{count}.dcm"
        assert key_images.saved(collection.root, case) == list(range(count))
    path.write_bytes(b"damaged")
    with pytest.raises(ConfigError, match=r"KO\.0002\.dcm"):
        key_images.saved(collection.root, case)
    with pytest.raises(ConfigError, match="slice 25 is none of the 24"):
        key_images.save(collection.root, case, {"reader": "anna", "slices": [SLICES]})


@pytest.fixture(scope="module")
def browser(require_program: Callable[[str], str]) -> Iterator[Any]:
    with chromium(require_program) as found:
        yield found


@pytest.fixture
def tab(browser: Any, collection: Collection, case: Case) -> Iterator[Tab]:
    with served(collection) as address:
        found = opened(browser, f"{address}/?token={TOKEN}")
        found.page.fill("#reader", "anna")
        found.go(f"case/{case.cid}")
        yield found
        assert found.errors == []
        found.page.close()


def test_key_images_are_marked_saved_and_shown_again(
    tab: Tab, collection: Collection, case: Case
) -> None:
    tab.ask(f"{VIEWER}.goTo(5)")
    tab.key("e")
    tab.until(STARS, [True, True])
    tab.ask(f"{VIEWER}.goTo(6)")
    tab.until(STARS, [False, False])
    tab.page.click("#key-image")
    tab.until(STARS, [True, True])
    tab.ask(f"{VIEWER}.goTo(7)")
    tab.key("e")
    tab.key("E")  # taken back
    buttons = "[...document.querySelectorAll('#key-images button')].map((b) => b.innerText)"
    tab.until(buttons, ["slice 6", "slice 7", "Save key images (DICOM KOS)"])
    tab.page.click("#save-key-images")
    tab.until("document.querySelector('#said').textContent.startsWith('saved as ')")
    assert key_images.saved(collection.root, case) == [5, 6]
    record = audit_of(collection.root).records()[-1]
    assert (record["act"], record["reader"], record["case"]) == ("key images", "anna", case.cid)
    tab.page.reload()
    tab.until("Boolean(document.body.dataset.ready)")
    tab.page.click("#key-images button")
    tab.shown(5)
    tab.until(STARS, [True, True])


def test_what_is_said_while_slices_are_read_stays(tab: Tab) -> None:
    """The end of the reading takes its own message away, and no other."""
    began = tab.ask("""(() => {
        document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "c", bubbles: true}));
        const said = document.querySelector("#said"), began = said.textContent;
        said.textContent = "said meanwhile";
        return began;
    })()""")
    assert began == "reading all slices…"
    tab.until(f"{VIEWER}.panels[0].plane?.stack.name", "coronal")
    time.sleep(0.5)  # in which the message would go
    assert tab.ask("document.querySelector('#said').textContent") == "said meanwhile"


def test_a_plane_across_is_no_key_image(tab: Tab) -> None:
    tab.key("c")
    tab.until(f"{VIEWER}.panels[0].plane?.stack.name", "coronal")
    tab.key("e")
    tab.until("document.querySelector('#said').textContent.includes('not a plane across')")
    assert tab.ask("document.querySelectorAll('#key-images button').length") == 0
