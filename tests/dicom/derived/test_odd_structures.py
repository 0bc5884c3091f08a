"""SEG and RTSTRUCT of sources with odd values and UIDs pass their check."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from helpers.dicom import (
    COLUMNS,
    ROWS,
)
from helpers.labels import SEGMENTED
from helpers.odd_values import (
    GROUP_LENGTHS,
    ODD,
    ODD_UIDS,
    SLICES,
    SYNTAXES,
    odd_series,
    series_with_uids,
)
from pydicom.uid import (
    ImplicitVRLittleEndian,
)

from pipeline.core.label_map import LabelMap
from pipeline.dicom.derived.check import check_tree
from pipeline.dicom.read.series import find_series
from pipeline.export.labels import export_labels


@pytest.mark.parametrize("form", ["seg", "labelmap", "rtstruct"])
@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("case", [*ODD, "group lengths", "no patient"])
def test_structures_of_odd_sources_go_through_too(tmp_path, case, syntax, form):
    values: Mapping[int | str, bytes | None] = {"PatientID": b""}
    if case == "group lengths":
        values = GROUP_LENGTHS
    elif case in ODD:
        values = ODD[case]
    source = odd_series(tmp_path / "source", values, SYNTAXES[syntax])
    assert_structures_go_through(source, tmp_path, form)


@pytest.mark.parametrize("form", ["seg", "labelmap", "rtstruct"])
@pytest.mark.parametrize("kind", ODD_UIDS)
def test_structures_of_sources_with_odd_uids_go_through_too(tmp_path, kind, form):
    source = series_with_uids(tmp_path / "source", ODD_UIDS[kind], ImplicitVRLittleEndian)
    assert_structures_go_through(source, tmp_path, form)


def assert_structures_go_through(source: Path, tmp_path: Path, form: str) -> None:
    (series,) = find_series(source).series
    labels = np.zeros((SLICES, ROWS, COLUMNS), np.uint8)
    labels[:, 4:9, 3:8] = 1
    export_labels(LabelMap(labels, {1: "liver"}), series, tmp_path / "out", SEGMENTED, form=form)
    (checked,) = check_tree(tmp_path / "out", source)
    assert checked.problems == []
