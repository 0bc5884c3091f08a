"""One file's header: is it a CT slice, and has it all that a slice needs?

Pixels are not touched here. What is no CT slice is excluded, what should be one and is not
usable is quarantined, each by name.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    UID,
    CTImageStorage,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    UID_dictionary,
)

from pipeline.core.refusals import Disposition, Refusal, Unreadable
from pipeline.dicom.read.enhanced import frame_headers, is_multi_frame_ct, load_frame
from pipeline.dicom.read.fast_header import HEAD_BYTES, PixelSpan, scan
from pipeline.dicom.read.files import opened, read_dataset, size_of
from pipeline.dicom.read.slice_requirements import (
    NAMES,
    REQUIRED,
    is_empty,
    numbers,
    position_mm,
    require_slice,
)

#: Values longer than this are skipped when a whole header is read: no attribute wanted is.
DEFER_ABOVE_BYTES = 64 * 1024

#: What the stages need to know of a series besides; none of it identifies a patient.
DESCRIPTIVE = (
    "ImageType",
    "ConvolutionKernel",
    "KVP",
    "SliceThickness",
    "XRayTubeCurrent",
    "Exposure",
    "BodyPartExamined",
    "Manufacturer",
    "ManufacturerModelName",
    "PatientPosition",
    "GantryDetectorTilt",
    "LossyImageCompression",
)

#: What sets slices apart that share a place: the first that does splits the series.
SPLITTING = (
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "NominalPercentageOfCardiacPhase",
    "TriggerTime",
    "StackID",
    "SliceThickness",
    "ReconstructionDiameter",
    "FilterType",
    "ContrastBolusAgent",
    "ImageType",
    "SeriesNumber",
    "AcquisitionTime",
)

OTHER = (
    "SpecificCharacterSet",
    "SeriesDescription",  # read to tell doses apart (ingest.dose_pairs); never stored or shown
    "SOPClassUID",
    "Modality",
    "IssuerOfPatientID",
    "FrameOfReferenceUID",
    "InstanceNumber",
    "SpacingBetweenSlices",
    "ImagesInAcquisition",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "HighBit",
    "RescaleType",
    "ModalityLUTSequence",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
)
#: Keywords by tag.
WANTED = {
    tag: name
    for name in (*REQUIRED, *DESCRIPTIVE, *SPLITTING, *OTHER)
    if (tag := tag_for_keyword(name)) is not None
}

#: Values of ImageType that mark pages and overviews stored as CT images.
NO_SLICE = {
    "LOCALIZER": "a localizer",
    "SCREEN SAVE": "a screen shot",
    "SCREENSAVE": "a screen shot",
    "DOSE_INFO": "a dose page",
    "DOSE REPORT": "a dose page",
}

#: Transfer syntaxes that cannot hold a lossless image; of JPEG 2000, 91 can.
LOSSY_ONLY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)


#: Label Map Segmentation Storage (2024): not in pydicom's list yet.
LABEL_MAP_SEGMENTATION = UID("1.2.840.10008.5.1.4.1.1.66.7")

#: How names given here begin; no real object's name does, and none is ever exported.
UNIDENTIFIED = "unidentified."


@dataclass(frozen=True)
class Instance:
    """One slice's file, its header (no pixels) and its place along the series' normal.

    frame counts from 0 in a multi-frame file; None for a file that holds just this slice.
    pixels says where they lie in the file, if they need no decoder.
    """

    path: Path
    header: Dataset
    position_mm: float
    frame: int | None = None
    pixels: PixelSpan | None = None

    @property
    def is_lossy(self) -> bool:
        """Compressed with loss, now or ever: by its own word or by its transfer syntax."""
        told = str(self.header.get("LossyImageCompression", "")) == "01"
        return told or _meta(self.header, "TransferSyntaxUID") in LOSSY_ONLY

    @property
    def is_unidentified(self) -> bool:
        """Named here, after its folder (see Intake): there is no such object elsewhere."""
        return any(str(self.header[name].value).startswith(UNIDENTIFIED) for name in NAMES)

    @property
    def origin_mm(self) -> NDArray[np.float64]:
        return numbers(self.header, "ImagePositionPatient", 3)

    def load(self) -> Dataset:
        """The slice as a single-frame data set, with its pixels as they are stored."""
        return read_dataset(self.path) if self.frame is None else load_frame(self.path, self.frame)


def read_instances(path: Path, *, unidentified: str = "refuse") -> list[Instance] | Refusal:
    """The slices of a file; a Refusal for what is no CT image; raises Unreadable for faults.

    unidentified: "folder" names what the file leaves unnamed after its folder (see Intake).
    """
    try:
        return _read_instances(path, unidentified == "folder")
    except InvalidDicomError:
        return not_dicom(path)
    except Unreadable:
        raise
    except Exception as error:  # damaged streams raise many kinds, in pydicom and behind it
        raise Unreadable(f"damaged header ({type(error).__name__})") from error


def _read_instances(path: Path, named_by_folder: bool) -> list[Instance] | Refusal:
    header, pixels = _header(path)
    if named_by_folder:
        _name_by_folder(header, path)
    slices: list[tuple[Dataset, int | None]] = [(header, None)]
    if is_multi_frame_ct(_sop_class(header)):
        frames = frame_headers(read_dataset(path, stop_before_pixels=True))
        slices = [(frame_header, number) for number, frame_header in enumerate(frames)]
    others = [_other_object(slice_header) for slice_header, _ in slices]
    if others[0] and all(others):
        return Refusal(path, Disposition.EXCLUDED, *others[0])
    found = []
    for (slice_header, frame), other in zip(slices, others, strict=True):
        if other:
            continue  # a localizer's frame among slices
        # All of them at once: a value that cannot be decoded shows here, not later.
        values = plain_values(slice_header)
        require_slice(values)
        found.append(Instance(path, slice_header, position_mm(values), frame, pixels))
    return found


def plain_values(header: Dataset) -> dict[str | None, Any]:
    """A slice header's values by keyword, for who asks for many: a data set takes longer."""
    return {
        WANTED.get(int(tag)): (
            element.value if isinstance(element, DataElement) else header[tag].value
        )
        for tag, element in list(header.items())
    }


def _header(path: Path) -> tuple[Dataset, PixelSpan | None]:
    with opened(path) as stream:
        head = stream.read(HEAD_BYTES)
    scanned = scan(head, WANTED)
    if scanned:
        return scanned
    header = read_dataset(
        path,
        stop_before_pixels=True,
        specific_tags=sorted(WANTED),
        defer_size=DEFER_ABOVE_BYTES,
    )
    return header, None


def _name_by_folder(header: Dataset, path: Path) -> None:
    """Names for what has none: the same for all of a folder, the instance by its file's name."""
    for name in NAMES:
        named_after = path if name == "SOPInstanceUID" else path.parent
        if is_empty(header, name):
            header.pop(name, None)  # its element may be shared with other slices
            made = hashlib.sha256(f"{name} {named_after.absolute()}".encode()).digest()
            uid = f"{UNIDENTIFIED}{uuid.UUID(bytes=made[:16], version=5).int}"
            setattr(header, name, uid)


def _sop_class(header: Dataset) -> UID:
    told = header.get("SOPClassUID") or _meta(header, "MediaStorageSOPClassUID")
    return UID(told or CTImageStorage)


def _meta(header: Dataset, name: str) -> str:
    """An attribute of the file's meta information; "" where there is none."""
    meta = getattr(header, "file_meta", None)
    return "" if meta is None else str(meta.get(name, ""))


def _other_object(header: Dataset) -> tuple[str, str, str] | None:
    """(reason, attribute, value) of an object that is whole but no CT slice, else None."""
    kind = _sop_class(header)
    # A class that is not in the standard's list is a damaged one, not another object.
    if kind != CTImageStorage and (kind in UID_dictionary or kind == LABEL_MAP_SEGMENTATION):
        return f"not a CT image but {kind.name}", "SOPClassUID", str(kind)
    for value in header.get("ImageType") or ():
        if value in NO_SLICE:
            return NO_SLICE[value], "ImageType", value
    return None


def not_dicom(path: Path) -> Refusal:
    """What becomes of a file that does not begin as DICOM does."""
    if size_of(path) == 0:
        return Refusal(path, Disposition.QUARANTINED, "an empty file")
    if path.suffix.lower() in (".dcm", ".ima", ".dicom"):
        return Refusal(path, Disposition.QUARANTINED, "not DICOM, though its name says so")
    if path.suffix.lower() == ".zip":
        return Refusal(path, Disposition.QUARANTINED, "an archive that cannot be opened")
    return Refusal(path, Disposition.EXCLUDED, "not a DICOM file")
