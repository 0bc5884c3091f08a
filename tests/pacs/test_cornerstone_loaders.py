"""Cornerstone3D's own loaders, as OHIF has them, on what was made of a series, from Orthanc.

In Chromium, by DICOMweb: pixels in HU, geometry and a SEG's labels are those of the files, and the
loaders warn of nothing. Their packages are pinned beside this file and installed by npm.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import requests
from conftest import missing
from helpers.dicom import OPERATION, only_series
from helpers.pacs import PASSWORD, USER, Orthanc
from helpers.review import BLOCK, COLUMNS, ROWS, SLICES, write_case
from pydicom.dataset import Dataset
from pydicom.pixels import apply_rescale

from pipeline.core.label_map import LabelMap
from pipeline.dicom.derived.seg import write_seg

SOURCES = Path(__file__).with_name("cornerstone")
PAGE = b"<!doctype html><title>loaders</title><script type=module src=loaders.js></script>"
NPM = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent")
LABELLED = range(4, 9)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(require_program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The loaders as scripts for a page; their packages are installed away from the checkout."""
    require_program("node")
    require_program("npm")
    work = tmp_path_factory.mktemp("cornerstone")
    for path in SOURCES.iterdir():
        if path.is_file():
            shutil.copy(path, work)
    installed = subprocess.run(NPM, cwd=work, capture_output=True, text=True, timeout=600)
    if installed.returncode:
        missing(f"Cornerstone3D's packages cannot be installed by npm: {installed.stderr[-300:]}")
    subprocess.run(["node", "build.mjs", "out"], cwd=work, check=True, timeout=300)
    return work / "out"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Dataset]:
    """An original, its derived series and a SEG of it, as files have them."""
    root = tmp_path_factory.mktemp("made")
    original, _ = write_case(root, 1)
    labels = np.zeros((SLICES, ROWS, COLUMNS), np.uint8)
    labels[LABELLED.start : LABELLED.stop, *BLOCK] = 1
    operation = replace(OPERATION, product="segmentation")
    write_seg(LabelMap(labels, {1: "liver"}), only_series(original), operation, root / "seg")
    return [pydicom.dcmread(path) for path in sorted(root.rglob("*.dcm"))]


@pytest.fixture
def page(
    browser: Any, orthanc: Orthanc, bundle: Path, made: list[Dataset], tmp_path: Path
) -> Iterator[Any]:
    """A page with the loaders, beside an Orthanc that has the files; any warning fails."""
    orthanc.fill([Path(str(dataset.filename)) for dataset in made])
    with beside(orthanc, bundle) as address:
        found, said = browser.new_page(), []
        found.on("console", lambda line: said.append((line.type, line.text)))
        found.on("pageerror", lambda error: said.append(("error", str(error))))
        found.goto(address)
        found.wait_for_function("Boolean(globalThis.cornerstone)")
        found.evaluate("cornerstone.start()")
        yield found
        found.close()
        assert [each for each in said if each[0] in ("warning", "error")] == []


@contextmanager
def beside(orthanc: Orthanc, bundle: Path) -> Iterator[str]:
    """The address of the page and, below its /dicom-web, of Orthanc with its password."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/dicom-web/"):
                url = orthanc.url + self.path.removeprefix("/dicom-web")
                headers = {"Accept": self.headers["Accept"]}
                found = requests.get(url, headers=headers, auth=(USER, PASSWORD), timeout=60)
                return self.answer(found.status_code, found.headers["Content-Type"], found.content)
            script = bundle / Path(self.path).name
            if script.is_file():
                return self.answer(200, "text/javascript", script.read_bytes())
            return self.answer(200, "text/html", PAGE)

        def answer(self, code: int, kind: str, content: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *parts: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def series_of(made: list[Dataset], kind: str) -> list[Dataset]:
    """The slices of the original or the derived series, from the feet up."""
    found = [each for each in made if each.Modality == "CT" and each.ImageType[0] == kind]
    return sorted(found, key=lambda each: float(each.ImagePositionPatient[2]))


@pytest.mark.parametrize("kind", ["ORIGINAL", "DERIVED"])
def test_a_series_has_its_hu_and_its_places(page: Any, made: list[Dataset], kind: str) -> None:
    slices = series_of(made, kind)
    first = slices[0]
    script = "([study, series]) => cornerstone.series(study, series)"
    images = page.evaluate(script, [first.StudyInstanceUID, first.SeriesInstanceUID])
    assert len(images) == len(slices) == SLICES
    for image, dataset in zip(images, slices, strict=True):
        hu = np.frombuffer(base64.b64decode(image["hu"]), np.float32)
        expected = apply_rescale(dataset.pixel_array, dataset)
        assert np.array_equal(hu.reshape(image["rows"], image["columns"]), expected)
        assert image["position"] == [float(v) for v in dataset.ImagePositionPatient]
        assert image["orientation"] == [float(v) for v in dataset.ImageOrientationPatient]
        assert image["spacing"] == [float(v) for v in dataset.PixelSpacing]
        assert image["frame"] == dataset.FrameOfReferenceUID


def test_a_segmentation_lies_on_the_original(page: Any, made: list[Dataset]) -> None:
    (seg,) = [each for each in made if each.Modality == "SEG"]
    original = series_of(made, "ORIGINAL")[0]
    uids = [seg.StudyInstanceUID, seg.SeriesInstanceUID, seg.SOPInstanceUID]
    found = page.evaluate(
        "(uids) => cornerstone.segmentation(...uids)", [*uids, original.SeriesInstanceUID]
    )
    assert found["segments"] == ["liver"]
    assert len(found["labels"]) == SLICES
    for number, content in enumerate(found["labels"]):
        labels = np.frombuffer(base64.b64decode(content), np.uint8).reshape(ROWS, COLUMNS)
        expected = np.zeros((ROWS, COLUMNS), np.uint8)
        if number in LABELLED:
            expected[BLOCK] = 1
        assert np.array_equal(labels, expected), number
