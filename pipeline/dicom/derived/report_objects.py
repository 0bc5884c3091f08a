"""What reports that a reader or this software makes on a series' images have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import highdicom.sr as sr
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from pipeline.core.errors import LdctError
from pipeline.core.refusals import Unreadable
from pipeline.core.versions import SOFTWARE, VERSION
from pipeline.dicom.derived.structure_objects import TYPE_2_KEYWORDS, copy_patient_and_study
from pipeline.dicom.read.enhanced import source_reference
from pipeline.dicom.read.headers import Instance
from pipeline.dicom.read.raw_elements import RawDataset
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.slice_requirements import UID_KEYWORDS

#: Noise and regions are figures of the attenuation (PS3.16 CID 7464), in HU.
ATTENUATION = Code("112031", "DCM", "Attenuation Coefficient")
TOMOGRAPHY = Code("77477000", "SCT", "Computed tomography")

#: The stored object and the frame's number from 1, None for an object of one image.
Place = tuple[str, int | None]


def require_holds(source: RawDataset, name: str) -> None:
    """Raises LdctError where the source's character set, which the object has too, may not hold a
    reader's name."""
    character_set = source.dataset.get("SpecificCharacterSet") or "none"
    if not name.isascii() and character_set != "ISO_IR 192":
        raise LdctError(
            f"the reader's name cannot be written with the source's SpecificCharacterSet "
            f"{character_set}: give the name in ASCII letters"
        )


def person(name: str) -> sr.ObserverContext:
    """Who observed: a person by the name that the review page has."""
    return sr.ObserverContext(
        observer_type=codes.DCM.Person,
        observer_identifying_attributes=sr.PersonObserverIdentifyingAttributes(f"{name}^"),
    )


def reference_of(image: Instance) -> tuple[str, str, list[int] | None]:
    """Class and UID of the stored object, and the frame's number in it from 1, if it has frames."""
    reference = source_reference(image.header, image.frame)
    frame = reference.get("ReferencedFrameNumber")
    return (
        str(reference.ReferencedSOPClassUID),
        str(reference.ReferencedSOPInstanceUID),
        None if frame is None else [int(frame)],
    )


def evidence_of(images: Iterable[Instance]) -> list[Dataset]:
    """What a report refers to, each object once; patient and study are copied later."""
    found: dict[str, Dataset] = {}
    for image in images:
        header = Dataset()
        for name in UID_KEYWORDS:
            setattr(header, name, str(image.header[name].value))
        header.SOPClassUID, header.SOPInstanceUID, _ = reference_of(image)
        for name in TYPE_2_KEYWORDS:
            setattr(header, name, "")
        found.setdefault(header.SOPInstanceUID, header)
    return list(found.values())


def places_of(series: Iterable[Series]) -> dict[Place, tuple[Series, int]]:
    """Each image of the series by how it is referred to: the series, and the slice's number."""
    found: dict[Place, tuple[Series, int]] = {}
    for one in series:
        for number, image in enumerate(one.instances):
            _, uid, frames = reference_of(image)
            found[uid, frames[0] if frames else None] = one, number
    return found


#: What reading an object raises that is damaged, or of another kind than was expected.
_FAULTS = (InvalidDicomError, LookupError, AttributeError, OSError, TypeError, ValueError)


@contextmanager
def unreadable_unless(kind: str) -> Iterator[None]:
    """While an object is read: Unreadable, by the name of the fault, for one that is not of the
    kind."""
    try:
        yield
    except _FAULTS as error:
        raise Unreadable(f"is no {kind} ({type(error).__name__})") from error


def finish(made: Dataset, source: RawDataset, description: str) -> None:
    """The last step: what the object says of itself, and the source's patient and study."""
    made.SeriesDescription = description
    made.Manufacturer = SOFTWARE
    made.SoftwareVersions = VERSION
    copy_patient_and_study(source, made)
