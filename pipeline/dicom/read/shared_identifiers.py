"""Identifiers that slices lack or share, which only the other slices of their series show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from pipeline.dicom.read.headers import Instance
from pipeline.dicom.read.identifiers import NO_PATIENT
from pipeline.dicom.read.made_up_uids import MADE_UP_IDENTITY, set_made_up
from pipeline.dicom.read.raw_elements import set_value
from pipeline.dicom.read.slice_requirements import is_empty

SHARED_SERIES = (
    "SeriesInstanceUID is also that of slices of another patient or study, which are a series of "
    "their own here (PS3.5 9: it names one series)"
)
PATIENT_OF_SERIES = "PatientID is missing in slices of the series, which are grouped by the others'"


def with_patient_of_series(instances: Iterable[Instance]) -> list[Instance]:
    """The slices; those without a PatientID have that of their series' others, where these agree:
    a series is of one patient (PS3.3 A.1.2)."""
    by_series: dict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        by_series[str(instance.header.SeriesInstanceUID)].append(instance)
    found: list[Instance] = []
    for slices in map(_with_remark_on_sharing, by_series.values()):
        patients = {str(i.header.get("PatientID") or "").strip() for i in slices} - {""}
        for instance in slices:
            if len(patients) == 1 and is_empty(instance.header, "PatientID"):
                set_value(instance.header, "PatientID", next(iter(patients)))
                others = [remark for remark in instance.remarks if remark != NO_PATIENT]
                instance = replace(instance, remarks=(*others, PATIENT_OF_SERIES))
            found.append(instance)
    return found


def _with_remark_on_sharing(slices: list[Instance]) -> list[Instance]:
    """The slices of one SeriesInstanceUID, with a remark where it is that of several patients or
    studies."""
    for name in ("PatientID", "StudyInstanceUID"):
        if len({str(i.header.get(name) or "").strip() for i in slices} - {""}) > 1:
            return [replace(i, remarks=(*i.remarks, SHARED_SERIES)) for i in slices]
    return slices


def with_own_uids(instances: Iterable[Instance]) -> list[Instance]:
    """The slices, those at different places of a series that share a SOPInstanceUID with one
    made from their path (IngestOptions.unidentified)."""
    by_uid: dict[tuple[str, str], list[Instance]] = defaultdict(list)
    for instance in instances:
        header = instance.header
        by_uid[str(header.SeriesInstanceUID), str(header.SOPInstanceUID)].append(instance)
    found: list[Instance] = []
    for same in by_uid.values():
        if len({tuple(instance.origin_mm) for instance in same}) == 1:
            found += same
            continue
        remark = f"SOPInstanceUID shared by slices at different places: {MADE_UP_IDENTITY}"
        for instance in same:
            set_made_up(instance.header, "SOPInstanceUID", instance.path, instance.frame)
            found.append(replace(instance, remarks=(*instance.remarks, remark)))
    return found
