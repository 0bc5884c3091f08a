"""What objects that hold structures of a series, SEG and RTSTRUCT, have in common.

Patient and study are the source's own bytes, places its own coordinates, and UIDs a function
of the source and of what was done, as in a derived CT series. No clock is read: dates are the
source's, so that the same input gives the same bytes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.tag import BaseTag, Tag

from pipeline.core.errors import LdctError
from pipeline.core.label_map import LabelMap
from pipeline.core.refusals import Unreadable
from pipeline.dicom.deidentify.identity_text import identity_in
from pipeline.dicom.derived.source_rules import STUDY
from pipeline.dicom.derived.write import Operation, derived_uid
from pipeline.dicom.read.files import read_dataset
from pipeline.dicom.read.raw_elements import AsRead, is_sequence, with_items
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.slice_requirements import NAMES

#: What the Patient and General Study modules must have, if empty (type 2).
OF_PATIENT_AND_STUDY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
#: When an object was made: its source's date, as no clock is read; the first that is there.
DATES = ("ContentDate", "AcquisitionDate", "SeriesDate", "StudyDate")
TIMES = ("ContentTime", "AcquisitionTime", "SeriesTime", "StudyTime")
NO_DATE, NO_TIME = "19000101", "000000"


def first_header(series: Series) -> AsRead:
    """The whole header of the series' first slice, and no pixels.

    Raises LdctError where the objects of the series, or its coordinates, have no names to
    refer to.
    """
    for name in (*NAMES, "FrameOfReferenceUID"):
        told = str(series.header.get(name) or "")
        if not told or any(i.is_unidentified for i in series.instances):
            raise LdctError(
                f"a source without {name} cannot be exported: nobody could tell whose the "
                "structures are, or where; give the source its names first"
            )
    first = series.instances[0]
    try:
        if first.frame is None:
            return AsRead(read_dataset(first.path, stop_before_pixels=True))
        header = first.load()
    except Unreadable as fault:
        raise LdctError(f"the source cannot be read any more: {fault.reason}") from fault
    del header.PixelData
    return AsRead(header)


def require_fit(labelmap: LabelMap, series: Series) -> None:
    """Raises ValueError for labels of another grid, LdctError for a label map without names."""
    shape = (len(series.instances), int(series.header.Rows), int(series.header.Columns))
    if labelmap.labels.shape != shape:
        raise ValueError(f"labels {labelmap.labels.shape} for a series of {shape}")
    if not labelmap.names:
        raise LdctError("no structure to write: the label map names none")


def frames_of_reference(series: Series) -> list[str]:
    """Those of its slices, in order; some archives give each slice one of its own."""
    told = (str(i.header.get("FrameOfReferenceUID") or "") for i in series.instances)
    return list(dict.fromkeys(uid for uid in told if uid))


def several_frames(series: Series) -> list[str]:
    """A warning where the slices name several frames of reference."""
    count = len(frames_of_reference(series))
    if count < 2:
        return []
    return [f"the slices name {count} frames of reference: the first one is named here"]


def carry(source: AsRead, derived: Dataset) -> None:
    """Take over patient and study as the source has them, and the character set they are in.

    The last thing to be done to an object: its elements are then written as they are here,
    and those of the source as they were read.
    """
    implicit, little_endian = derived.file_meta.TransferSyntaxUID.is_implicit_VR, True
    correct_ambiguous_vr(derived, True)
    for name in OF_PATIENT_AND_STUDY:
        setattr(derived, name, "")
    study = {_tag(name) for name in (*STUDY, "SpecificCharacterSet")}
    same = source.dataset.original_encoding == (implicit, little_endian)
    # Without VR, values are the same bytes; the items of sequences are not.
    as_good = implicit and source.dataset.original_encoding[1] == little_endian
    for tag, element in source.elements.items():
        if tag.group in (0x0010, 0x0012) or tag in study:
            kept = same or (as_good and not is_sequence(source.dataset, tag))
            derived[tag] = copy.deepcopy(element if kept else source.dataset[tag])
            if is_sequence(derived, tag):
                _remove_private(derived[tag].value)
    derived.set_original_encoding(implicit, little_endian, source.dataset.original_character_set)


def _remove_private(items: Iterable[Dataset]) -> None:
    for item in (part for top in items for part in with_items(top)):
        for tag in list(item.keys()):
            if tag.is_private:
                del item[tag]


def require_safe(names: Iterable[str], source: Dataset) -> None:
    """Raises LdctError for a structure's name that says who the patient is, or that cannot be
    written in the source's character set."""
    told = source.get("SpecificCharacterSet") or "ISO_IR 192"
    for number, name in enumerate(names, start=1):
        if identity_in(name, source, surname_alone=False):
            raise LdctError(f"structure {number}: its name says who the patient is; rename it")
        if not name.isascii() and told != "ISO_IR 192":
            raise LdctError(
                f"structure {name!r}: SpecificCharacterSet of the source may not hold this name; "
                "name it in plain letters"
            )


def date_and_time(source: Dataset) -> tuple[str, str]:
    """Of a source's content, for what must have a date; long past where there is none."""
    date = next((str(source[name].value) for name in DATES if source.get(name)), NO_DATE)
    time = next((str(source[name].value) for name in TIMES if source.get(name)), NO_TIME)
    return date, time


def object_uid(series: Series, operation: Operation) -> str:
    """The UID of the one object of a derived series, another one than the series' own."""
    of_object = replace(operation, product=f"{operation.product} object")
    return derived_uid(str(series.header.SeriesInstanceUID), of_object, series.part)


def contour_points(contour: Dataset) -> NDArray[np.float64]:
    """[points, 3] in mm. Explicit VR has no length for more than 64 KB of decimals: such
    contours come without VR (PS3.5 6.2.2), which leaves bytes.

    Raises ValueError for what is not three numbers each.
    """
    told = contour.get("ContourData") or ()
    if isinstance(told, bytes):
        told = told.decode("ascii").split("\\")
    return np.array(told, float).reshape(-1, 3)


def save(dataset: Dataset, folder: Path, name: str) -> None:
    dataset.save_as(folder / name, enforce_file_format=True)


def _tag(keyword: str) -> BaseTag:
    return Tag(tag_for_keyword(keyword) or 0)
