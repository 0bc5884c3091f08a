"""What names a slice's patient, study, series and instance; and where that is missing or wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipeline.dicom.read.made_up_uids import was_made_here
from pipeline.dicom.read.slice_requirements import UID_KEYWORDS, Header, is_empty

#: PS3.5 9.1: numbers without leading zeros, at most 64 characters, under one of three roots.
CONFORMING_UID = re.compile(r"(?=.{3,64}$)[0-2](\.(0|[1-9]\d*))+")

NO_PATIENT = "PatientID is missing or empty: each study without one counts as a patient of its own"


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


def patient_of(header: Header) -> tuple[str, str]:
    """(PatientID, IssuerOfPatientID); of a study without a PatientID, which is conformant (type
    2, PS3.3 C.7.1.1), the study stands for the patient."""
    patient, issuer = (
        str(header.get(name) or "").strip() for name in ("PatientID", "IssuerOfPatientID")
    )
    return (patient, issuer) if patient else (f"study {header.get('StudyInstanceUID')}", issuer)
