"""What is made of a series, as a DICOMweb viewer opens it from Orthanc: found, referenced, decoded.

By dicomweb-client, which asks as viewers do: QIDO-RS to find, WADO-RS for metadata and frames.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicomweb_client import DICOMwebClient
from helpers.dicom import OPERATION, only_series
from helpers.pacs import PASSWORD, USER, Orthanc
from helpers.review import BLOCK, BLOCK_HU, COLUMNS, ROWS, SHIFT_HU, SLICES, collected, write_case
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels import apply_rescale
from requests.auth import HTTPBasicAuth

from pipeline.core.label_map import LabelMap
from pipeline.dicom.derived.parametric_map import uncertainty_of, write_deviation_map
from pipeline.dicom.derived.seg import write_seg
from pipeline.review import key_images, measurements

MIDDLE = SLICES // 2
DEVIATION_HU = 10
TEXT = ("SR", "KO")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """An original, its derived series, SEG, Parametric Map, TID 1500 SR and key images: files."""
    root = tmp_path_factory.mktemp("made")
    original, _ = write_case(root, 1)
    collection = collected(root)
    (case,) = collection.cases.values()
    place = [0.0, 0.0, MIDDLE * 2.5]
    marks = [{"kind": "distance", "points": [place, [5.0, 0.0, place[2]]]}]
    measurements.save(root, case, {"reader": "anna", "marks": marks})
    key_images.save(root, case, {"reader": "anna", "slices": [3, MIDDLE]})
    series = only_series(original)
    write_seg(
        LabelMap(labels(), {1: "liver"}),
        series,
        replace(OPERATION, product="segmentation"),
        root / "seg",
    )
    (root / "map").mkdir()
    deviation_hu = np.full((SLICES, ROWS, COLUMNS), DEVIATION_HU, np.float32)
    write_deviation_map(deviation_hu, series, uncertainty_of(OPERATION, "To order."), root / "map")
    return sorted(root.rglob("*.dcm"))


def labels() -> np.ndarray:
    found = np.zeros((SLICES, ROWS, COLUMNS), np.uint8)
    found[4:9, *BLOCK] = 1
    return found


@pytest.fixture
def viewer(orthanc: Orthanc, made: list[Path]) -> Iterator[DICOMwebClient]:
    """A client of an Orthanc that has them; any warning fails."""
    client = DICOMwebClient(orthanc.url)
    client._session.auth = HTTPBasicAuth(USER, PASSWORD)
    client.store_instances([pydicom.dcmread(path) for path in made])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield client


def by_modality(viewer: DICOMwebClient) -> dict[str, list[list[Dataset]]]:
    """Each series' metadata, instance by instance."""
    (study,) = viewer.search_for_studies()
    uid = study["0020000D"]["Value"][0]
    found: dict[str, list[list[Dataset]]] = {}
    for row in viewer.search_for_series(uid):
        rows = viewer.retrieve_series_metadata(uid, row["0020000E"]["Value"][0])
        found.setdefault(row["00080060"]["Value"][0], []).append(
            [Dataset.from_json(each, lambda uri: b"") for each in rows]  # pixels come as frames
        )
    return found


def frames(viewer: DICOMwebClient, image: Dataset, numbers: list[int]) -> list[bytes]:
    uids = image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID
    # As it is stored: Orthanc refuses dicomweb-client's usual list of media types.
    raw = (("application/octet-stream", "*"),)
    return viewer.retrieve_instance_frames(*uids, frame_numbers=numbers, media_types=raw)


def references(dataset: Dataset) -> Iterator[str]:
    for element in dataset.iterall():
        if element.keyword == "ReferencedSOPInstanceUID":
            yield str(element.value)


def test_all_are_in_one_study_and_refer_to_what_is_there(viewer: DICOMwebClient) -> None:
    found = by_modality(viewer)
    assert {name: len(series) for name, series in found.items()} == {
        "CT": 2, "SEG": 1, "OT": 1, "SR": 1, "KO": 1,
    }  # fmt: skip
    there = {str(i.SOPInstanceUID) for every in found.values() for one in every for i in one}
    for name, every in found.items():
        for image in (image for one in every for image in one):
            named = set(references(image))
            assert named <= there, name
            assert named or image.ImageType[0] == "ORIGINAL"
    originals, derived = sorted(found["CT"], key=lambda one: one[0].ImageType[0], reverse=True)
    assert {i.FrameOfReferenceUID for i in originals} == {i.FrameOfReferenceUID for i in derived}
    assert (originals[0].ImageType[0], derived[0].ImageType[0]) == ("ORIGINAL", "DERIVED")


def test_the_derived_series_has_its_hu_and_is_drawn(viewer: DICOMwebClient) -> None:
    for one in by_modality(viewer)["CT"]:
        image = next(i for i in one if float(i.ImagePositionPatient[2]) == MIDDLE * 2.5)
        (content,) = frames(viewer, image, [1])
        stored = np.frombuffer(content, "<i2" if image.PixelRepresentation else "<u2")
        hu = apply_rescale(stored.reshape(image.Rows, image.Columns), image)
        shift = SHIFT_HU if image.ImageType[0] == "DERIVED" else 0
        assert np.all(hu[BLOCK] == BLOCK_HU + shift)
        uids = image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID
        drawn = np.array(Image.open(io.BytesIO(viewer.retrieve_instance_rendered(*uids))))
        assert drawn.shape[:2] == (ROWS, COLUMNS)
        grey = drawn.reshape(ROWS, COLUMNS, -1)[..., 0].astype(int)
        assert grey[BLOCK].min() > grey[:5, :5].max()  # a block in the body, air around it


def test_a_segmentation_decodes_frame_by_frame(viewer: DICOMwebClient) -> None:
    found = by_modality(viewer)
    ((seg,),) = found["SEG"]
    assert seg.SegmentSequence[0].SegmentLabel == "liver"
    wanted = labels()
    for number, groups in enumerate(seg.PerFrameFunctionalGroupsSequence, start=1):
        place = groups.PlanePositionSequence[0].ImagePositionPatient
        (content,) = frames(viewer, seg, [number])
        bits = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")
        assert np.array_equal(
            bits[: ROWS * COLUMNS].reshape(ROWS, COLUMNS), wanted[round(float(place[2]) / 2.5)]
        )
    assert seg.NumberOfFrames == 5


def test_a_map_of_floats_comes_whole(viewer: DICOMwebClient) -> None:
    """Orthanc 1.10 gives no single frames of Float Pixel Data."""
    ((deviation,),) = by_modality(viewer)["OT"]
    uids = deviation.StudyInstanceUID, deviation.SeriesInstanceUID, deviation.SOPInstanceUID
    values = np.frombuffer(viewer.retrieve_instance(*uids).FloatPixelData, "<f4")
    assert values.size == SLICES * ROWS * COLUMNS
    assert np.allclose(values, DEVIATION_HU)


def test_reports_are_read_as_they_were_written(viewer: DICOMwebClient, made: list[Path]) -> None:
    written = [
        pydicom.dcmread(path) for path in made if path.parts[-3] in ("measurements", "key_images")
    ]
    assert sorted(each.Modality for each in written) == sorted(TEXT)
    for each in written:
        uids = each.StudyInstanceUID, each.SeriesInstanceUID, each.SOPInstanceUID
        assert viewer.retrieve_instance(*uids) == each
        shown = Dataset.from_json(viewer.retrieve_instance_metadata(*uids))
        assert shown.ContentSequence == each.ContentSequence
