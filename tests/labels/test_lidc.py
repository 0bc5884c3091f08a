"""LIDC outlines: what four readers hold for nodule, in the slices that they named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.dicom import only_series
from helpers.labels import SHAPE, make_series
from skimage.morphology import dilation

from pipeline.core.refusals import Unreadable
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import read_volume
from pipeline.labels.grid import LabelGrid
from pipeline.labels.lidc import read_lidc

Outline = tuple[int, list[tuple[int, int]], bool]


def rim(low: int, high: int) -> list[tuple[int, int]]:
    """The pixels around a square: (column, row), in order, as readers' marks are kept."""
    side = list(range(low, high))
    return (
        [(u, low) for u in side]
        + [(high, v) for v in side]
        + [(u, high) for u in reversed(range(low + 1, high + 1))]
        + [(low, v) for v in reversed(range(low + 1, high + 1))]
    )


def message(series: Series, readers: list[list[list[Outline]]], *, shift_mm: float = 0) -> str:
    """A message: readers, their nodules, and each one's outlines (slice, points, inclusion)."""
    header = series.header
    parts = [
        '<LidcReadMessage xmlns="http://www.nih.gov"><ResponseHeader>',
        f"<SeriesInstanceUid>{header.SeriesInstanceUID}</SeriesInstanceUid>",
        f"<StudyInstanceUID>{header.StudyInstanceUID}</StudyInstanceUID></ResponseHeader>",
    ]
    for reader in readers:
        parts.append("<readingSession>")
        for number, nodule in enumerate(reader):
            parts.append(f"<unblindedReadNodule><noduleID>{number}</noduleID>")
            parts.append("<characteristics><malignancy>4</malignancy></characteristics>")
            for plane, points, included in nodule:
                instance = series.instances[plane]
                edges = "".join(
                    f"<edgeMap><xCoord>{u}</xCoord><yCoord>{v}</yCoord></edgeMap>"
                    for u, v in points
                )
                parts.append(
                    f"<roi><imageZposition>{instance.origin_mm[2] + shift_mm}</imageZposition>"
                    f"<imageSOP_UID>{instance.header.SOPInstanceUID}</imageSOP_UID>"
                    f"<inclusion>{str(included).upper()}</inclusion>{edges}</roi>"
                )
            parts.append("</unblindedReadNodule>")
        parts.append("</readingSession>")
    return "".join([*parts, "</LidcReadMessage>"])


def read(tmp_path: Path, series: Series, readers: list[list[list[Outline]]], **options):
    path = tmp_path / "reading.xml"
    path.write_text(message(series, readers, shift_mm=options.pop("shift_mm", 0)))
    return read_lidc(path, LabelGrid.of_series(series), **options)


def test_a_nodule_is_what_lies_within_its_outline_and_not_the_outline(tmp_path):
    series = make_series(tmp_path / "in")
    found = read(tmp_path, series, [[[(2, rim(5, 10), True)]]], agreement=1)
    expected = np.zeros(SHAPE, np.uint8)
    expected[2, 6:10, 6:10] = 1
    np.testing.assert_array_equal(found.labels, expected)
    assert found.names == {1: "nodule"}


def test_columns_and_rows_are_not_swapped(tmp_path):
    series = make_series(tmp_path / "in")
    outline = [(20, 5), (24, 5), (24, 8), (20, 8)]
    found = read(tmp_path, series, [[[(0, outline, True)]]])
    assert np.argwhere(found.labels).min(axis=0).tolist() == [0, 6, 21]


def test_values_count_the_readers_who_hold_a_voxel_for_nodule(tmp_path):
    series = make_series(tmp_path / "in")
    readers = [[[(2, rim(5, 10), True)]], [[(2, rim(5, 12), True)]], [[(2, rim(7, 12), True)]], []]
    found = read(tmp_path, series, readers)
    assert found.names[2] == "nodule, 2 of 4 readers"
    assert found.labels[2, 6, 6] == 2
    assert found.labels[2, 8, 8] == 3
    assert found.labels[2, 11, 11] == 2
    assert found.labels[2, 6, 11] == 1
    (nodule,) = found.source["nodules"]
    assert nodule["readers"] == 3
    assert nodule["malignancy"] == [4, 4, 4]
    assert sum(nodule["voxels"]) == int((found.labels > 0).sum())


@pytest.mark.parametrize("agreement", [1, 2, 3])
def test_agreement_is_where_at_least_so_many_agree(tmp_path, agreement):
    series = make_series(tmp_path / "in")
    readers = [[[(2, rim(5, 10), True)]], [[(2, rim(5, 12), True)]], [[(2, rim(7, 12), True)]]]
    votes = read(tmp_path, series, readers)
    found = read(tmp_path, series, readers, agreement=agreement)
    np.testing.assert_array_equal(found.mask(1), votes.labels >= agreement)


def test_nodules_that_do_not_overlap_are_two(tmp_path):
    series = make_series(tmp_path / "in")
    near, far = [(2, rim(5, 10), True)], [(2, rim(20, 30), True)]
    found = read(tmp_path, series, [[near, far], [far]])
    assert [nodule["readers"] for nodule in found.source["nodules"]] == [2, 1]


def test_what_is_excluded_within_a_nodule_is_left_out_in_whatever_order(tmp_path):
    series = make_series(tmp_path / "in")
    outlines = [(2, rim(8, 12), False), (2, rim(5, 15), True)]
    for order in (outlines, outlines[::-1]):
        found = read(tmp_path, series, [[order]])
        assert (found.labels > 0).sum() == 81 - 9
        assert not found.labels[2, 10, 10]


def test_points_of_small_nodules_make_no_labels(tmp_path):
    series = make_series(tmp_path / "in")
    found = read(tmp_path, series, [[[(2, [(5, 5)], True)]]])
    assert not found.labels.any()
    assert found.source["nodules"] == []


def test_a_slice_that_was_moved_is_refused_in_millimetres(tmp_path):
    series = make_series(tmp_path / "in")
    with pytest.raises(Unreadable, match=r"a slice 3\.0 mm from where it was read") as fault:
        read(tmp_path, series, [[[(2, rim(5, 10), True)]]], shift_mm=3.0)
    assert fault.value.attribute == "imageZposition"


def test_outlines_on_slices_that_are_not_there_are_left_out_and_reported(tmp_path):
    series = make_series(tmp_path / "in")
    (tmp_path / "reading.xml").write_text(
        message(series, [[[(0, rim(5, 10), True), (3, rim(5, 10), True)]]])
    )
    (tmp_path / "in" / "000.dcm").unlink()
    rest = LabelGrid.of_series(only_series(tmp_path / "in"))
    found = read_lidc(tmp_path / "reading.xml", rest)
    assert np.unique(np.nonzero(found.labels)[0]).tolist() == [2]
    assert found.source["warnings"] == ["1 outlines left out, on slices that the series lacks"]


@pytest.mark.parametrize("name", ["Series", "Study"])
def test_outlines_of_another_series_are_refused_by_attribute(tmp_path, name):
    series = make_series(tmp_path / "in")
    uid = str(series.header[f"{name}InstanceUID"].value)
    text = message(series, [[[(2, rim(5, 10), True)]]]).replace(f">{uid}<", ">1.2.3<")
    (tmp_path / "x.xml").write_text(text)
    with pytest.raises(Unreadable, match="something else") as fault:
        read_lidc(tmp_path / "x.xml", LabelGrid.of_series(series))
    assert fault.value.attribute == f"{name}InstanceUID"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<a><b></a>", "damaged XML"),
        ("<other/>", "no LidcReadMessage"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><LidcReadMessage/>', "document type"),
    ],
)
def test_other_xml_is_refused(tmp_path, text, reason):
    series = make_series(tmp_path / "in")
    (tmp_path / "x.xml").write_text(text)
    with pytest.raises(Unreadable, match=reason):
        read_lidc(tmp_path / "x.xml", LabelGrid.of_series(series))


def test_real_outlines_hold_the_bright_spot(test_data):
    """Four readers' nodule is tissue in the lung: dense within, air in the pixels around, and
    most so where the outlines are put without any shift."""
    reading = read_volume(only_series(test_data / "ct" / "chest-ge-lidc0001"))
    path = test_data / "volumes" / "lidc0001-nodules.xml"
    found = read_lidc(path, LabelGrid.of_series(reading.series))
    assert found.source["readers"] == 4
    (nodule,) = found.source["nodules"]
    assert (nodule["readers"], nodule["malignancy"]) == (4, [4, 5, 5, 5])
    agreed = found.labels >= 2
    assert np.unique(np.nonzero(agreed)[0]).tolist() == list(range(22, 30))
    image_hu = reading.volume.image_hu
    around = np.stack([dilation(plane, np.ones((9, 9))) for plane in agreed]) & ~agreed
    assert np.median(image_hu[agreed]) > 0
    assert np.median(image_hu[around]) < -600
    shifts = [(r, c) for r in (-2, 0, 2) for c in (-2, 0, 2)]
    means = {s: float(image_hu[np.roll(agreed, s, (1, 2))].mean()) for s in shifts}
    assert max(means, key=lambda shift: means[shift]) == (0, 0)
