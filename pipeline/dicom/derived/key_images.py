"""Key images as a DICOM Key Object Selection (PS3.3 A.35.4) by template TID 2010 (PS3.16).

highdicom builds the object.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import KeyObjectSelectionDocumentStorage, generate_uid

from pipeline.core.versions import SOFTWARE
from pipeline.dicom.derived.report_objects import (
    Place,
    evidence_of,
    finish,
    person,
    places_of,
    reference_of,
    require_holds,
    unreadable_unless,
)
from pipeline.dicom.derived.structure_objects import first_header
from pipeline.dicom.read.files import read_dataset
from pipeline.dicom.read.series import Series

SERIES_NUMBER = 9902


def write_selection(images: list[tuple[Series, int]], path: Path, *, observer: str) -> None:
    """Write a selection of images of one study, each as its series and the slice's number.

    observer: who chose them. Raises LdctError for a series without the identifiers that the object
    refers to, and for one that can no longer be read.
    """
    source = first_header(images[0][0])
    require_holds(source, observer)
    instances = [series.instances[number] for series, number in images]
    evidence = evidence_of(instances)
    frames: dict[str, list[int]] = defaultdict(list)
    for instance in instances:
        _, uid, numbers = reference_of(instance)
        frames[uid] += numbers or []
    for header in evidence:  # how highdicom knows an image
        header.Rows = header.Columns = 0
    content = KeyObjectSelection(
        document_title=codes.DCM.OfInterest,
        referenced_objects=evidence,
        observer_person_context=person(observer),
    )
    made = KeyObjectSelectionDocument(
        evidence=evidence,
        content=content,
        series_instance_uid=generate_uid(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=SOFTWARE,
    )
    for reference in _references(made):
        if numbers := sorted(set(frames[str(reference.ReferencedSOPInstanceUID)])):
            reference.ReferencedFrameNumber = numbers
    finish(made, source, "Key images of the review page")
    made.save_as(path, enforce_file_format=True)


def read_selection(path: Path, series: list[Series]) -> list[tuple[Series, int]]:
    """The images of a selection that are among `series`, each as its series and the slice's number.

    Raises Unreadable for a file that is no such object; other images are left out.
    """
    places = places_of(series)
    with unreadable_unless("selection of key images"):
        made = read_dataset(path)
        if made.SOPClassUID != KeyObjectSelectionDocumentStorage:
            raise ValueError("of another class")
        found = [place for reference in _references(made) for place in _named(reference)]
    return [places[place] for place in found if place in places]


def _references(made: Dataset) -> list[Dataset]:
    images = [item for item in made.ContentSequence if item.ValueType == "IMAGE"]
    return [item.ReferencedSOPSequence[0] for item in images]


def _named(reference: Dataset) -> list[Place]:
    """The file and each of its frames; of a file of one image no frame."""
    uid, frames = str(reference.ReferencedSOPInstanceUID), reference.get("ReferencedFrameNumber")
    if frames is None:
        return [(uid, None)]
    numbers = [frames] if isinstance(frames, int) else frames
    return [(uid, int(number)) for number in numbers]
