"""What SEG and RTSTRUCT objects of a series have in common.

Patient and study are the source's own bytes, places its own coordinates, and UIDs a function of
the source and the operation, as in a derived CT series. Dates are the source's, not the clock's,
so that the same input gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
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
from pipeline.dicom.derived.encode import copy_of, keep_bytes
from pipeline.dicom.derived.source_rules import STUDY
from pipeline.dicom.derived.write import Operation, series_uid
from pipeline.dicom.read.compare_elements import meaning_under
from pipeline.dicom.read.made_up_uids import was_made_here
from pipeline.dicom.read.raw_elements import RawDataset, walk_items
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.slice_requirements import UID_KEYWORDS

#: Attributes that the Patient and General Study modules must have, if only empty (type 2).
TYPE_2_KEYWORDS = (
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
#: What the General Study module (PS3.3 C.7.2.1) may say of a study besides: all instances of a
#: study must say the same, as dcentvfy asks.
OPTIONAL_STUDY_KEYWORDS = (
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianIdentificationSequence",
    "ConsultingPhysicianName",
    "ConsultingPhysicianIdentificationSequence",
    "PhysiciansOfRecord",
    "PhysiciansOfRecordIdentificationSequence",
    "NameOfPhysiciansReadingStudy",
    "PhysiciansReadingStudyIdentificationSequence",
    "RequestingService",
    "RequestingServiceCodeSequence",
    "ProcedureCodeSequence",
    "ReasonForPerformedProcedureCodeSequence",
    "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence",
)
#: The date and time of an object are its source's: the first of these that is there.
DATES = ("ContentDate", "AcquisitionDate", "SeriesDate", "StudyDate")
TIMES = ("ContentTime", "AcquisitionTime", "SeriesTime", "StudyTime")
#: Values of DA and TM (PS3.5 6.2), without the delimiters of ACR-NEMA.
DATE = re.compile(r"\d{8}")
TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")
NO_DATE, NO_TIME = "19000101", "000000"


@dataclass(frozen=True)
class WrittenStructures:
    """What was written of a label map: files, structures, frames (SEG) or contours (RTSTRUCT),
    and warnings."""

    instances: int
    structures: int
    frames: int | None = None
    contours: int | None = None
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """As a report has it, in JSON's types; without frames or contours that do not apply."""
        counts = {"frames": self.frames, "contours": self.contours}
        return {
            "instances": self.instances,
            "structures": self.structures,
            **{name: count for name, count in counts.items() if count is not None},
            "warnings": list(self.warnings),
        }


def first_header(series: Series) -> RawDataset:
    """The whole header of the series' first slice, without pixels.

    Raises LdctError for a series without an identifier that the objects must refer to, and for
    a file that can no longer be read.
    """
    for name in (*UID_KEYWORDS, "FrameOfReferenceUID"):
        missing = not series.header.get(name)
        if missing or any(was_made_here(i.header, name) for i in series.instances):
            raise LdctError(
                f"a source without {name} cannot be exported: structures could not be traced to "
                f"their images and coordinates; set {name} in the source files first"
            )
    first = series.instances[0]
    try:
        return RawDataset(first.load(pixels=False))
    except Unreadable as fault:
        raise LdctError(f"the source cannot be read any more: {fault.reason}") from fault


def require_same_shape(labelmap: LabelMap, series: Series) -> None:
    """Raises ValueError for labels of another shape than [slices, rows, columns] of the series,
    and LdctError for a label map without names."""
    shape = (len(series.instances), int(series.header.Rows), int(series.header.Columns))
    if labelmap.labels.shape != shape:
        raise ValueError(f"labels {labelmap.labels.shape} for a series of {shape}")
    if not labelmap.names:
        raise LdctError("no structure to write: the label map names none")


def frames_of_reference(series: Series) -> list[str]:
    """The FrameOfReferenceUIDs of its slices; some archives give each slice one of its own."""
    uids = (str(i.header.get("FrameOfReferenceUID") or "") for i in series.instances)
    return list(dict.fromkeys(uid for uid in uids if uid))


def frame_of_reference_warnings(series: Series) -> list[str]:
    """A warning where the slices name several frames of reference."""
    count = len(frames_of_reference(series))
    if count < 2:
        return []
    return [f"the slices have {count} frames of reference: the object has the first one"]


def copy_patient_and_study(source: RawDataset, derived: Dataset) -> None:
    """Copy patient and study from the source, with the character set that they are in.

    The last step of making an object: its own elements must be final, and those of the source
    are written as they were read.
    """
    implicit = derived.file_meta.TransferSyntaxUID.is_implicit_VR
    correct_ambiguous_vr(derived, True)
    for name in TYPE_2_KEYWORDS:
        setattr(derived, name, "")
    study = {_tag(name) for name in (*STUDY, *OPTIONAL_STUDY_KEYWORDS, "SpecificCharacterSet")}
    copied = copy_of(
        source, [t for t in source.elements if t.group in (0x0010, 0x0012) or t in study]
    )
    _remove_private(walk_items(copied))
    keep_bytes(copied, implicit=implicit)
    for tag in list(copied.keys()):
        derived[tag] = copied.get_item(tag)
    derived.set_original_encoding(implicit, True, source.dataset.original_character_set)


def _remove_private(items: Iterable[Dataset]) -> None:
    for item in items:
        for tag in list(item.keys()):
            if tag.is_private:
                del item[tag]


def require_safe_names(names: Iterable[str], source: Dataset) -> None:
    """Raises LdctError for a structure's name that identifies the patient, or that cannot be
    written in the source's character set."""
    character_set = source.get("SpecificCharacterSet") or "ISO_IR 192"
    for number, name in enumerate(names, start=1):
        if identity_in(name, source, surname_alone=False):
            raise LdctError(f"structure {number}: its name identifies the patient; rename it")
        if not name.isascii() and character_set != "ISO_IR 192":
            raise LdctError(
                f"structure {name!r}: the source's SpecificCharacterSet {character_set} may not "
                "hold this name; rename it with ASCII letters"
            )


def date_and_time(source: Dataset) -> tuple[str, str]:
    """The source's date and time (DA, TM), the first that are sound; 1900-01-01 00:00:00 where
    it has none."""
    dates = [value for name in DATES if DATE.fullmatch(value := _meant(source, name))]
    times = [value for name in TIMES if TIME.fullmatch(value := _meant(source, name))]
    return (dates or [NO_DATE])[0], (times or [NO_TIME])[0]


def _meant(source: Dataset, name: str) -> str:
    """The one value of an attribute, without padding; "" for none and for several."""
    meaning = meaning_under(source, _tag(name))
    return str(meaning[0]) if len(meaning) == 1 else ""


def object_uid(series: Series, operation: Operation) -> str:
    """The UID of the one object of a derived series, another one than the series' own."""
    of_object = replace(operation, product=f"{operation.product} object")
    return series_uid(series.header, of_object, series.exact_part)


def contour_points(contour: Dataset) -> NDArray[np.float64]:
    """ContourData as points [points, 3] in mm.

    Explicit VR has no length for more than 64 KB of decimals: such contours come without VR
    (PS3.5 6.2.2), and pydicom leaves them as bytes. Raises ValueError for values that are not
    three numbers a point.
    """
    data = contour.get("ContourData") or ()
    if isinstance(data, bytes):
        data = data.decode("ascii").split("\\")
    return np.array(data, float).reshape(-1, 3)


def save_object(dataset: Dataset, folder: Path, name: str) -> None:
    """Write the object as folder/name, with preamble and file meta information."""
    dataset.save_as(folder / name, enforce_file_format=True)


def _tag(keyword: str) -> BaseTag:
    return Tag(tag_for_keyword(keyword) or 0)
