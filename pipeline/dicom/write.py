"""A derived CT series that says so: one object from each source slice, one to one.

Geometry, patient, study and frame of reference are the source's own bytes. UIDs are new and
deterministic: the same source and the same operation give the same UIDs. See PS3.3 A.3 (CT
Image IOD), C.7.6.1.1.2 (image type), C.12.4 (derivation) and C.12.1 (contributing equipment).
"""

from __future__ import annotations

import copy
import hashlib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from pipeline.dicom.read import StoredPixels, read_pixels
from pipeline.dicom.series import Series
from pipeline.errors import LdctError
from pipeline.files import replacing_folder
from pipeline.versions import SOFTWARE, VERSION

#: Statements about the source's own pixels or bytes, no longer true of the derived image.
STALE = (
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "IconImageSequence",
    "InstanceCreationDate",
    "InstanceCreationTime",
    "InstanceCreatorUID",
    "DigitalSignaturesSequence",
    "MACParametersSequence",
    "OriginalAttributesSequence",
    "EncryptedAttributesSequence",
    "SourceImageSequence",
    "DerivationDescription",
    "DerivationCodeSequence",
    "DataSetTrailingPadding",
)
LARGEST_SERIES_NUMBER = 2**31 - 1


@dataclass(frozen=True)
class Operation:
    """What was done to a series: enters the UIDs and every derived header.

    label begins the series description, so that nobody takes it for the original. identity
    is what makes two operations differ: a model's name, version and weights digest.
    """

    label: str
    description: str
    code: tuple[str, str, str]
    equipment: str
    equipment_version: str
    identity: str


#: (value, designator, meaning). CID 7203 has no code for denoising and is extensible: these
#: are DICOM's own codes from CID 7162 and CID 9231; the derivation description says the rest.
DENOISED = ("123110", "DCM", "Artificial Intelligence")
DOSE_SIMULATED = ("110001", "DCM", "Image Processing")


def write_derived(
    image_hu: NDArray[np.float32], series: Series, operation: Operation, folder: Path
) -> dict[str, Any]:
    """Write the derived series to `folder`, whole or not at all.

    image_hu: [slices, rows, columns] in the order of series.instances. Values are rounded to
    the stored grid; padding is restored from the source exactly. Returns counts of what was
    clipped. A folder that holds this very series stays; another one is an LdctError.
    """
    if len(image_hu) != len(series.instances):
        raise ValueError(f"{len(image_hu)} images for {len(series.instances)} source slices")
    if not np.isfinite(image_hu).all():
        raise LdctError("the image to export holds values that are not numbers; nothing written")
    clipped = 0
    with replacing_folder(folder) as partial:
        for number, (slice_hu, instance) in enumerate(
            zip(image_hu, series.instances, strict=True), start=1
        ):
            source = instance.load()
            pixels = read_pixels(source)
            stored, outside = to_stored(slice_hu, pixels, source)
            clipped += outside
            derived = derive_header(source, operation)
            derived.PixelData = stored.tobytes()
            derived["PixelData"].VR = "OW"
            _save(derived, partial / f"CT.{number:04d}.dcm", big_endian=_is_big_endian(source))
    return {"instances": len(image_hu), "clipped_pixels": clipped}


def _is_big_endian(source: Dataset) -> bool:
    return not source.file_meta.TransferSyntaxUID.is_little_endian


def _save(derived: Dataset, path: Path, *, big_endian: bool) -> None:
    if big_endian:
        # The bytes of numbers change in any case: decode all, so that they can be rewritten.
        derived.decode()
        plain = Dataset({element.tag: element for element in derived})
        plain.file_meta = derived.file_meta
        derived = plain
    derived.save_as(path, enforce_file_format=True)


def to_stored(
    image_hu: NDArray[np.float32], source: StoredPixels, header: Dataset
) -> tuple[NDArray, int]:
    """HU to the source's stored values, to the nearest, and how many had to be clipped."""
    bits = int(header.BitsStored)
    signed = header.PixelRepresentation == 1
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    exact = np.rint((image_hu.astype(np.float64) - source.intercept) / source.slope)
    clipped = int(((exact < low) | (exact > high))[source.valid].sum())
    whole = exact.clip(low, high)
    for padding in source.padding:
        # A measured pixel must not turn into padding: its nearest neighbour is 1 away.
        whole[whole == padding] += 1 if padding < high else -1
    stored = np.where(source.valid, whole, source.stored)
    allocated = int(header.BitsAllocated)
    return stored.astype(f"<{'i' if signed else 'u'}{allocated // 8}"), clipped


def derive_header(source: Dataset, operation: Operation) -> Dataset:
    """The source's header, turned into that of an image derived from it; no pixels."""
    # A shallow copy would share its elements with the source, and rewrite that too.
    derived = copy.deepcopy(source)
    for name in ("PixelData", *STALE):
        if name in derived:
            delattr(derived, name)
    _remove_private_and_overlays(derived)
    image_type = source.get("ImageType") or []
    rest = [] if isinstance(image_type, str) else list(image_type[2:])
    derived.ImageType = ["DERIVED", "SECONDARY", *(rest or ["AXIAL"])]
    derived.SOPInstanceUID = derived_uid(source.SOPInstanceUID, operation)
    derived.SeriesInstanceUID = derived_uid(source.SeriesInstanceUID, operation)
    derived.SeriesNumber = _series_number(source)
    original = str(source.get("SeriesDescription", ""))
    derived.SeriesDescription = f"{operation.label} | {original}"[:64].rstrip(" |")
    derived.DerivationDescription = operation.description[:1024]
    derived.DerivationCodeSequence = [_code(*operation.code)]
    derived.SourceImageSequence = [_source_reference(source)]
    derived.ContributingEquipmentSequence = [
        *(source.get("ContributingEquipmentSequence") or []),
        _equipment(operation),
    ]
    derived.file_meta = pydicom.dataset.FileMetaDataset()
    derived.file_meta.MediaStorageSOPClassUID = CTImageStorage
    derived.file_meta.MediaStorageSOPInstanceUID = derived.SOPInstanceUID
    derived.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return derived


def _remove_private_and_overlays(dataset: Dataset) -> None:
    """Also inside sequences. By tag, since reading an element would rewrite its bytes."""
    tags = list(dataset.keys())
    for tag in tags:
        if tag.is_private or 0x6000 <= tag.group <= 0x60FF:
            del dataset[tag]
        elif _is_sequence(dataset, tag):
            for item in dataset[tag].value or []:
                _remove_private_and_overlays(item)


def _is_sequence(dataset: Dataset, tag: BaseTag) -> bool:
    vr = dataset.get_item(tag).VR  # none in implicit VR: then the dictionary knows
    return vr == "SQ" or (vr is None and dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ")


def derived_uid(source_uid: str, operation: Operation) -> str:
    """A UID under 2.25 (PS3.5 B.2), a function of the source's UID and the operation."""
    summary = hashlib.sha256(f"{source_uid}\0{operation.identity}".encode()).digest()
    return f"2.25.{uuid.UUID(bytes=summary[:16], version=5).int}"


def _series_number(source: Dataset) -> int:
    """A number of its own, the same at every run, that sorts behind the source's."""
    return min(int(source.get("SeriesNumber") or 0) * 100 + 90, LARGEST_SERIES_NUMBER)


def _code(value: str, designator: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, designator, meaning
    return code


def _source_reference(source: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = CTImageStorage
    reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
    reference.PurposeOfReferenceCodeSequence = [
        _code("121322", "DCM", "Source image for image processing operation")
    ]
    return reference


def _equipment(operation: Operation) -> Dataset:
    equipment = Dataset()
    equipment.Manufacturer = SOFTWARE
    equipment.ManufacturerModelName = operation.equipment[:64]
    equipment.SoftwareVersions = [VERSION, operation.equipment_version[:64]]
    equipment.ContributionDescription = operation.description[:1024]
    equipment.PurposeOfReferenceCodeSequence = [_code("109102", "DCM", "Processing Equipment")]
    return equipment
