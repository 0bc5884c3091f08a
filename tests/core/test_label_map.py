"""Label maps: who claims a voxel, and which classes a run makes of that."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.core.errors import ConfigError
from pipeline.core.label_groups import grouped, require_known, values_of_groups
from pipeline.core.label_map import Canvas, LabelMap, values_in

NAMES = {1: "spleen", 5: "liver", 10: "lung_upper_lobe_left", 11: "lung_lower_lobe_left"}


def labels() -> LabelMap:
    return LabelMap(np.array([[[0, 1, 5], [10, 11, 11]]], np.uint8), NAMES)


def overlapping() -> LabelMap:
    """A body with a liver in it and a tumour in that; the last voxel is the body's alone."""
    canvas = Canvas((1, 1, 4), {1: "body", 2: "liver", 3: "tumor"})
    for value, mask in ((1, [0, 1, 1, 1]), (2, [0, 1, 1, 0]), (3, [0, 0, 1, 0])):
        canvas.paint(0, np.array([mask], bool), value)
    return canvas.labelmap({})


def test_overlapping_structures_are_both_kept():
    found = overlapping()
    assert set(found.overlaps.values()) == {(1, 2), (1, 2, 3)}
    for value, voxels in ((1, [0, 1, 1, 1]), (2, [0, 1, 1, 0]), (3, [0, 0, 1, 0])):
        np.testing.assert_array_equal(found.mask(value)[0, 0], np.array(voxels, bool))
        np.testing.assert_array_equal(found.mask(value, 0)[0], np.array(voxels, bool))
    assert found.present() == ["body", "liver", "tumor"]
    assert found.labels.dtype == np.uint8


def test_an_overlap_that_is_painted_over_is_not_listed():
    canvas = Canvas((1, 1, 1), {1: "a", 2: "b", 3: "c"})
    for value in (1, 2, 3):
        canvas.paint(0, np.ones((1, 1), bool), value)
    assert list(canvas.labelmap({}).overlaps.values()) == [(1, 2, 3)]


def test_a_voxel_claimed_twice_by_one_structure_is_its_own():
    canvas = Canvas((1, 1, 2), {7: "a"})
    for _ in range(2):
        canvas.paint(0, np.array([[True, False]]), 7)
    found = canvas.labelmap({})
    assert found.labels.tolist() == [[[7, 0]]]
    assert found.overlaps == {}


def test_values_above_255_take_sixteen_bits():
    canvas = Canvas((1, 1, 1), {300: "a"})
    canvas.paint(0, np.ones((1, 1), bool), 300)
    found = canvas.labelmap({})
    assert found.labels.dtype == np.uint16
    assert values_in(found.labels) == {300}


@pytest.mark.parametrize(
    ("array", "names"),
    [
        (np.zeros((2, 2), np.uint8), {1: "a"}),
        (np.zeros((1, 2, 2), np.int16), {1: "a"}),
        (np.zeros((1, 2, 2), np.uint8), {0: "background"}),
    ],
)
def test_what_is_no_label_map_is_refused(array, names):
    with pytest.raises(ValueError, match=r"labels must be|no structure"):
        LabelMap(array, names)


def test_the_digest_is_of_labels_and_meaning_alone():
    first = labels()
    as_wide = LabelMap(first.labels.astype(np.uint16), NAMES, {"kind": "other"})
    assert first.digest == as_wide.digest
    assert first.digest != LabelMap(first.labels, NAMES | {5: "lever"}).digest
    assert first.digest != LabelMap(first.labels[:, ::-1], NAMES).digest


def test_groups_by_name_and_number_become_classes_in_their_order():
    found = grouped(labels(), {"lungs": ["LUNG_upper_lobe_left", 11], "liver": [5]})
    assert found.names == {1: "lungs", 2: "liver"}
    assert found.labels.tolist() == [[[0, 0, 2], [1, 1, 1]]]


def test_the_values_of_each_group_are_listed():
    groups = {"lungs": ["lung_upper_lobe_left", "lung_lower_lobe_left"], "stomach": ["stomach"]}
    assert values_of_groups(labels(), groups) == {"lungs": [10, 11], "stomach": []}


def test_a_group_has_what_its_structures_share_with_others_that_no_group_claims():
    found = grouped(overlapping(), {"liver": ["liver"]})
    assert found.labels.tolist() == [[[0, 1, 1, 0]]]


def test_two_groups_on_one_voxel_are_refused_by_name():
    with pytest.raises(ConfigError, match=r"liver, tumor all claim voxels of .*'tumor'"):
        grouped(overlapping(), {"liver": ["liver"], "tumor": ["tumor"]})
    with pytest.raises(ConfigError, match=r"a, b all claim voxels of 'liver'"):
        grouped(labels(), {"a": [5], "b": ["liver"]})


def test_an_order_settles_who_gets_a_voxel():
    groups = {"liver": ["liver"], "tumor": ["tumor"]}
    found = grouped(overlapping(), groups, order=["tumor", "liver"])
    assert found.labels.tolist() == [[[0, 1, 2, 0]]]
    with pytest.raises(ConfigError, match="give their order"):
        grouped(overlapping(), groups, order=["tumor"])


def test_a_structure_that_no_label_map_has_is_named_with_its_neighbour():
    maps = [NAMES, {7: "pancreas"}]
    require_known({"a": ["Liver", 7], "b": [10]}, maps)
    with pytest.raises(ConfigError, match=r"'a': no label map has 'livr'; did you mean 'liver'"):
        require_known({"a": ["livr"]}, iter(maps))
    with pytest.raises(ConfigError, match="no label map has 99"):
        require_known({"a": [99]}, maps)
