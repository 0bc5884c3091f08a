"""What names a slice's patient, study, series and instance; and where that is missing or wrong."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.dicom.read.made_up_uids import was_made_here
from pipeline.dicom.read.raw_elements import set_value
from pipeline.dicom.read.slice_requirements import UID_KEYWORDS, Header, is_empty

if TYPE_CHECKING:
    from pipeline.dicom.read.headers import Instance

#: PS3.5 9.1: numbers without leading zeros, at most 64 characters, under one of three roots.
CONFORMING_UID = re.compile(r"(?=.{3,64}$)[0-2](\.(0|[1-9]\d*))+")

NO_PATIENT = "PatientID is missing or empty: each study without one counts as a patient of its own"
SHARED_SERIES = (
    "SeriesInstanceUID is also that of slices of another patient or study, which are a series of "
    "their own here (PS3.5 9: it names one series)"
)
PATIENT_OF_SERIES = "PatientID is missing in slices of the series, which are grouped by the others'"


def identifier_remarks(header: Header) -> Iterator[str]:
    """Remarks on identifiers that a slice lacks or that do not conform, which show none."""
    if is_empty(header, "PatientID"):
        yield NO_PATIENT
    wrong = [
        name
        for name in (*UID_KEYWORDS, "FrameOfReferenceUID")
        if not (is_empty(header, name) or was_made_here(header, name))
        and not CONFORMING_UID.fullmatch(str(header.get(name)))
    ]
    if wrong:
        yield f"the source's UIDs do not conform to PS3.5 9.1 and are kept: {', '.join(wrong)}"


def with_patient_of_series(instances: Iterable[Instance]) -> list[Instance]:
    """The slices; those without a PatientID have that of their series' others, where these agree:
    a series is of one patient (PS3.3 A.1.2)."""
    by_series: dict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        by_series[str(instance.header.SeriesInstanceUID)].append(instance)
    found: list[Instance] = []
    for slices in map(_told_of_sharing, by_series.values()):
        patients = {str(i.header.get("PatientID") or "").strip() for i in slices} - {""}
        for instance in slices:
            if len(patients) == 1 and is_empty(instance.header, "PatientID"):
                set_value(instance.header, "PatientID", next(iter(patients)))
                others = [remark for remark in instance.remarks if remark != NO_PATIENT]
                instance = replace(instance, remarks=(*others, PATIENT_OF_SERIES))
            found.append(instance)
    return found


def _told_of_sharing(slices: list[Instance]) -> list[Instance]:
    """The slices of one SeriesInstanceUID, with a remark where it is that of several patients or
    studies."""
    for name in ("PatientID", "StudyInstanceUID"):
        if len({str(i.header.get(name) or "").strip() for i in slices} - {""}) > 1:
            return [replace(i, remarks=(*i.remarks, SHARED_SERIES)) for i in slices]
    return slices


def patient_of(header: Header) -> tuple[str, str]:
    """(PatientID, IssuerOfPatientID); of a study without a PatientID, which is conformant (type
    2, PS3.3 C.7.1.1), the study stands for the patient."""
    patient, issuer = (
        str(header.get(name) or "").strip() for name in ("PatientID", "IssuerOfPatientID")
    )
    return (patient, issuer) if patient else (f"study {header.get('StudyInstanceUID')}", issuer)
