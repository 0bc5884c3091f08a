"""Write derived CT series: one object from each source slice, marked as derived.

Geometry, patient, study and frame of reference are the source's own values, in its bytes where
explicit VR little endian can hold them. UIDs are new and deterministic: the same source and the
same operation give the same UIDs. See PS3.3 A.3 (CT Image IOD), C.7.6.1.1.2 (image type), C.12.4
(derivation) and C.12.1 (contributing equipment).
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pydicom
from pydicom.charset import convert_encodings, encode_string
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from pipeline.core.versions import SOFTWARE, VERSION
from pipeline.dicom.deidentify.identity_text import identity_in
from pipeline.dicom.derived.encode import UNCOMPRESSED, copy_of, declare_loss, save_image
from pipeline.dicom.derived.quantise import ClippedPixels, to_stored
from pipeline.dicom.read.enhanced import source_reference
from pipeline.dicom.read.fast_header import PIXEL_DATA
from pipeline.dicom.read.headers import Instance
from pipeline.dicom.read.raw_elements import RawDataset, is_overlay, is_private, walk_items
from pipeline.dicom.read.slice_requirements import says_hu, tidy_code
from pipeline.dicom.read.volume import Slice

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
    "ConversionSourceAttributesSequence",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "DataSetTrailingPadding",
)
NOT_KEPT = frozenset((PIXEL_DATA, *map(tag_for_keyword, STALE)))
#: In the derivation description where the source does not say that its values are HU.
TAKEN_AS_HU = "taken as HU by the choice of the user"
MAX_SERIES_NUMBER = 2**31 - 1
MAX_LO_LENGTH = 64


@dataclass(frozen=True)
class Operation:
    """What was done to a series: enters the UIDs and every derived header.

    label: begins the series description, so that it is not mistaken for the original. code:
    (value, designator, meaning) for DerivationCodeSequence. identity: what distinguishes two
    operations, such as a model's name, version and weights digest. product: distinguishes a
    second series of one operation, whose number follows the first one's.
    """

    label: str
    description: str
    code: tuple[str, str, str]
    equipment: str
    equipment_version: str
    identity: str
    product: str = ""

    def computed(self, sentence: str, identity: str) -> Operation:
        """The same, with a sentence on how it was computed. identity: of a way whose results differ
        from those of the usual one; "" for that one, whose UIDs stay."""
        return replace(
            self,
            description=f"{self.description} {sentence}",
            identity=f"{self.identity}/{identity}" if identity else self.identity,
        )

    def after(self, first: Operation) -> Operation:
        """Both as one operation; marked as the first is, which changed what this one was given."""
        return replace(
            self,
            label=f"{first.label} {self.label}",
            description=f"{first.description} {self.description}",
            identity=f"{first.identity}/{self.identity}",
        )


#: How the label ends, and file names, where the model did not pass its gate.
GATE_FAILED = "GATE FAILED"
#: Of the description, for the limits that it missed.
MAX_MISSED_CHARACTERS = 160


def gate_failed(operation: Operation, missed: str) -> Operation:
    """The same by a model that did not pass its gate: another operation, whose label and
    description say so. missed: the limits, as people read them."""
    if len(missed) > MAX_MISSED_CHARACTERS:
        missed = f"{missed[: MAX_MISSED_CHARACTERS - 3]}..."
    missed = missed.encode("ascii", "replace").decode("ascii")
    return replace(
        operation,
        label=f"{operation.label} {GATE_FAILED}",
        description=f"The model did not pass its gate ({missed}). {operation.description}",
        identity=f"{operation.identity}/{GATE_FAILED}",
    )


#: How the label begins where a generative model filled in a part, which may have been padding.
MADE_UP = "AI MADE UP"
#: (value, designator, meaning). CID 7203 has no code for denoising and is extensible: these
#: are DICOM's own codes from CID 7162 and CID 9231; the derivation description says the rest.
DENOISED = ("123110", "DCM", "Artificial Intelligence")
DOSE_SIMULATED = ("110001", "DCM", "Image Processing")
SUBTRACTED = ("113062", "DCM", "Pixel by pixel subtraction")
#: CID 7202 and CID 7005.
PROCESSED_SOURCE = ("121322", "DCM", "Source image for image processing operation")
PROCESSING_EQUIPMENT = ("109102", "DCM", "Processing Equipment")


@dataclass(frozen=True)
class SeriesTarget:
    """Where and how a derived series is written.

    folder: exists. syntax: a key of encode.SYNTAXES. part, exact_part: the volume among those of
    the source's DICOM series, as Series has them.
    """

    folder: Path
    operation: Operation
    syntax: str = UNCOMPRESSED
    part: str = ""
    exact_part: str = ""

    def path(self, number: int) -> Path:
        """The file of the `number`th image, counted from 1."""
        return self.folder / f"CT.{number:04d}.dcm"


def write_slice(processed: Slice, to: SeriesTarget, number: int) -> ClippedPixels:
    """Write a processed slice as the `number`th image, counted from 1; returns what was clipped.

    HU are rounded to stored values; padding is the source's, bit for bit. An operation on slices
    with a mask `generated` must be labelled MADE_UP. Raises LdctError for values that are not
    finite.
    """
    header = processed.source.dataset
    quantised = to_stored(
        processed.image_hu, processed.pixels, header, generated=processed.generated
    )
    derived = derive_header(processed.source, to, processed.instance)
    say_remark(derived, processed.remark)
    save_image(derived, quantised.stored, to.path(number), syntax=to.syntax)
    return quantised.clipped


def derive_header(as_read: RawDataset, to: SeriesTarget, instance: Instance) -> Dataset:
    """The header of an image derived from a source image, without pixels.

    as_read: the source, as instance.load() returns it.
    """
    source, operation = as_read.dataset, to.operation
    derived = copy_of(as_read, [tag for tag in as_read.elements if tag not in NOT_KEPT])
    remove_private_and_overlays(derived)
    image_type = source.get("ImageType") or []
    rest = [] if isinstance(image_type, str) else list(map(tidy_code, image_type[2:]))
    derived.ImageType = ["DERIVED", "SECONDARY", *(rest or ["AXIAL"])]
    derived.SOPInstanceUID = image_uid(source, operation, to.exact_part)
    derived.SeriesInstanceUID = series_uid(source, operation, to.exact_part)
    derived.SeriesNumber = series_number(source, operation)
    derived.SeriesDescription = series_description(source, operation, to.part)
    derived.DerivationDescription = operation.description[:1024]
    if not says_hu(source):
        say_taken_as_hu(derived, source)
    derived.DerivationCodeSequence = [code_item(*operation.code)]
    derived.SourceImageSequence = [_as_source(source_reference(instance.header, instance.frame))]
    derived.ContributingEquipmentSequence = [
        *(source.get("ContributingEquipmentSequence") or []),
        equipment_item(operation),
    ]
    if source.get("HighBit") != source.BitsStored - 1:
        derived.HighBit = source.BitsStored - 1  # reading has moved the values down
    declare_loss(derived, source)
    derived.file_meta = pydicom.dataset.FileMetaDataset()
    derived.file_meta.MediaStorageSOPClassUID = derived.get("SOPClassUID") or CTImageStorage
    derived.file_meta.MediaStorageSOPInstanceUID = derived.SOPInstanceUID
    return derived


def say_taken_as_hu(derived: Dataset, source: Dataset) -> None:
    """Say that a source whose RescaleType is not HU was read as HU, by the choice of its user, and
    that the derived values are HU (PS3.3 C.11.1.1.2)."""
    say_remark(derived, f"RescaleType {source.RescaleType} of the source was {TAKEN_AS_HU}.")
    derived.RescaleType = "HU"


def say_remark(derived: Dataset, remark: str) -> None:
    """Add a sentence about this image to its derivation description, whose end gives way."""
    if remark:
        text = f" {remark}"
        derived.DerivationDescription = derived.DerivationDescription[: 1024 - len(text)] + text


def remove_private_and_overlays(dataset: Dataset) -> None:
    """Also inside sequences. By tag, since reading an element would rewrite its bytes."""
    for item in walk_items(dataset):
        for tag in list(item.keys()):
            if is_private(tag) or is_overlay(tag):
                del item[tag]


def image_uid(source: Dataset, operation: Operation, exact_part: str = "") -> str:
    """The SOPInstanceUID of what is derived from a source image.

    It hangs on study, series and part too: archives hold series that share the UIDs of their
    images, and one UID names one object (PS3.5 9).
    """
    names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    return derived_uid([str(source.get(name)) for name in names], operation, exact_part)


def series_uid(source: Dataset, operation: Operation, exact_part: str = "") -> str:
    """The SeriesInstanceUID of what is derived from a source image's series."""
    names = ("StudyInstanceUID", "SeriesInstanceUID")
    return derived_uid([str(source.get(name)) for name in names], operation, exact_part)


def derived_uid(source_uids: Sequence[str], operation: Operation, part: str = "") -> str:
    """A UID under 2.25 (PS3.5 B.2), a function of the source's UIDs and of all that was done.

    That includes this software's version, which the image names: one UID, one image.
    """
    parts = (*source_uids, operation.identity, operation.product, part, VERSION)
    summary = hashlib.sha256("\0".join(parts).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=summary[:16], version=5).int}"


def series_number(source: Dataset, operation: Operation) -> int:
    """A SeriesNumber that sorts after the source's, the same in every run.

    Two digits follow the source's: an even number by the operation, so that two models seldom
    share one, and the next for the operation's second product.
    """
    summary = hashlib.sha256(operation.identity.encode()).digest()
    digits = 10 + 2 * (int.from_bytes(summary[:4], "big") % 45) + bool(operation.product)
    try:
        original = abs(int(source.get("SeriesNumber") or 0))
    except (TypeError, ValueError):  # not a number, or several
        original = 0
    number = original * 100 + digits
    if number > MAX_SERIES_NUMBER:
        number = (MAX_SERIES_NUMBER // 100 - 1) * 100 + digits
    return number - 100 if number == original else number


def series_description(source: Dataset, operation: Operation, part: str = "") -> str:
    """The SeriesDescription: the operation's label, the part, and the source's description,
    unless that identifies the patient. At most 64 characters (VR LO), and bytes: dciodvfy counts
    those of other scripts too, and the escapes between them."""
    original = str(source.get("SeriesDescription") or "")
    kept = "" if identity_in(original, source) else original
    text = " | ".join(text for text in (operation.label, part, kept) if text)
    text = text.replace("\\", "/")[:MAX_LO_LENGTH]  # a backslash would begin a second value
    while _encoded_length(text, source) > MAX_LO_LENGTH:
        text = text[:-1]
    return text.rstrip(" |")


def _encoded_length(text: str, source: Dataset) -> int:
    if text.isascii():
        return len(text)
    return len(encode_string(text, convert_encodings(source.get("SpecificCharacterSet"))))


def code_item(value: str, designator: str, meaning: str) -> Dataset:
    """An item of a code sequence (PS3.3 8.8)."""
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, designator, meaning
    return code


def image_reference(sop_instance_uid: str) -> Dataset:
    """A CT image as the source of what was done (PS3.3 C.12.4.1.2)."""
    reference = Dataset()
    reference.ReferencedSOPClassUID = CTImageStorage
    reference.ReferencedSOPInstanceUID = sop_instance_uid
    return _as_source(reference)


def _as_source(reference: Dataset) -> Dataset:
    reference.PurposeOfReferenceCodeSequence = [code_item(*PROCESSED_SOURCE)]
    return reference


def equipment_item(operation: Operation) -> Dataset:
    """This software's item of ContributingEquipmentSequence (PS3.3 C.12.1.1.5)."""
    equipment = Dataset()
    equipment.Manufacturer = SOFTWARE
    equipment.ManufacturerModelName = operation.equipment[:64]
    equipment.SoftwareVersions = [VERSION, operation.equipment_version[:64]]
    equipment.ContributionDescription = operation.description[:1024]
    equipment.PurposeOfReferenceCodeSequence = [code_item(*PROCESSING_EQUIPMENT)]
    return equipment
