"""What an object is, by its SOP class and image type: a CT slice, or something else by name."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage, UID_dictionary

from pipeline.core.refusals import Disposition, Refusal, Unreadable
from pipeline.dicom.read.enhanced import is_multi_frame_ct
from pipeline.dicom.read.files import ARCHIVE, archive_of, size_of
from pipeline.dicom.read.slice_requirements import is_empty

#: Values of ImageType that mark pages and overviews stored as CT images.
NOT_SLICES = {
    "LOCALIZER": "a localizer",
    "SCREEN SAVE": "a screen shot",
    "SCREENSAVE": "a screen shot",
    "DOSE_INFO": "a dose page",
    "DOSE REPORT": "a dose page",
}

#: Label Map Segmentation Storage (2024): not in pydicom's list yet.
LABEL_MAP_SEGMENTATION = UID("1.2.840.10008.5.1.4.1.1.66.7")

#: What a CT slice has and other objects have not all of; a damaged file may lack one or two.
OF_A_SLICE = (
    "Rows",
    "Columns",
    "BitsAllocated",
    "RescaleIntercept",
    "ImagePositionPatient",
    "ImageOrientationPatient",
)
ENOUGH_OF_A_SLICE = 4
#: What the data set of any object of a patient has, behind its class: a file cut short has not.
OF_EVERY_OBJECT = ("StudyInstanceUID", "SeriesInstanceUID")

#: Suffixes of archives, and of single files, that are packed in other ways than zip's.
PACKED = (".tar", ".tgz", ".gz", ".tbz", ".bz2", ".txz", ".xz", ".lzma", ".zst", ".7z", ".rar")

#: (reason, attribute, value) of an object that is no CT slice.
Reason = tuple[str, str, str]

UNKNOWN_CLASS = (
    "SOPClassUID is none that the standard knows: read as the CT image that the rest makes it"
)


def other_object(header: Dataset, kind: UID, in_meta: str) -> Reason | None:
    """Why an intact object is no CT slice; None where it is one, or was meant to be.

    kind: its SOPClassUID. in_meta: MediaStorageSOPClassUID. Raises Unreadable where the two
    differ, and which one is right matters.
    """
    reason = _other_class(header, kind, in_meta)
    if reason is not None:
        return reason
    for value in header.get("ImageType") or ():
        if value in NOT_SLICES:
            return NOT_SLICES[value], "ImageType", value
    return None


def is_damaged_class(kind: UID) -> bool:
    """Whether a CT slice's SOPClassUID is no class of the standard's."""
    return not _is_known(kind)


def _other_class(header: Dataset, kind: UID, in_meta: str) -> Reason | None:
    """A class in the standard's list is what it says. One that is not may be another object's, or
    a CT image's that was damaged: by its place in the standard's own root and by its attributes,
    or by what the file meta information says, it is known."""
    if kind == CTImageStorage:
        return None
    if _is_known(kind):
        if _is_contradicted(header, in_meta):
            reason = f"the file meta information says {UID(in_meta).name}: one of the two is wrong"
            raise Unreadable(reason, "SOPClassUID", kind.name)
        return f"not a CT image but {kind.name}", "SOPClassUID", str(kind)
    is_ct = in_meta == CTImageStorage or is_multi_frame_ct(in_meta)
    if is_ct or not kind.is_valid or any(is_empty(header, name) for name in OF_EVERY_OBJECT):
        return None  # and what else is missing shows the damage
    if kind.is_private:
        return "not a CT image but an object of a private class", "SOPClassUID", str(kind)
    if not _has_what_slices_have(header):
        return "not a CT image but an object of an unknown class", "SOPClassUID", str(kind)
    return None


def _is_contradicted(header: Dataset, in_meta: str) -> bool:
    """Whether the file meta information says that an object of another class is a CT image, and
    nothing speaks against it."""
    return is_multi_frame_ct(in_meta) or (
        in_meta == CTImageStorage and _has_what_slices_have(header)
    )


def _is_known(kind: UID) -> bool:
    return kind in UID_dictionary or kind == LABEL_MAP_SEGMENTATION


def _has_what_slices_have(header: Dataset) -> bool:
    has = sum(not is_empty(header, name) for name in OF_A_SLICE)
    return header.get("Modality") == "CT" and has >= ENOUGH_OF_A_SLICE


def not_dicom(path: Path) -> Refusal:
    """The Refusal of a file that does not begin as DICOM does: quarantined where its name promises
    DICOM or an archive or it is empty, excluded otherwise."""
    suffix = path.suffix.lower()
    reason = ""
    if size_of(path) == 0:
        reason = "an empty file"
    elif suffix in (".dcm", ".ima", ".dicom"):
        reason = "not DICOM, though its name says so"
    elif suffix == ARCHIVE and archive_of(path):
        reason = "an archive within an archive: unpack it first"
    elif suffix == ARCHIVE:
        reason = "an archive that cannot be opened"
    elif suffix in PACKED and not path.name.lower().endswith(".nii.gz"):
        reason = f"{suffix} is not read in place: unpack it into a folder, or pack that as .zip"
    if reason:
        return Refusal(path, Disposition.QUARANTINED, reason)
    return Refusal(path, Disposition.EXCLUDED, "not a DICOM file")
