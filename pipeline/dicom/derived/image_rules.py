"""Rules for every single image of a derived CT series, beyond what dciodvfy checks.

A rule yields (attribute, value) for each attribute that breaks it; the value is "" where it could
hold identity or a UID.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array
from pydicom.sr.codedict import codes
from pydicom.uid import UID

from pipeline.dicom.deidentify.identity_text import identity_in
from pipeline.dicom.derived.encode import is_lossy
from pipeline.dicom.derived.provenance import (
    DIFFERENCE,
    MARKINGS,
    code_of,
    is_difference,
    own_equipment,
    references,
)
from pipeline.dicom.derived.write import PROCESSED_SOURCE, PROCESSING_EQUIPMENT
from pipeline.dicom.read.enhanced import is_frame, is_multi_frame_ct
from pipeline.dicom.read.raw_elements import walk_items

Finding = tuple[str, str]

#: What the basic profile of PS3.15 table E.1-1 removes from the Patient module.
REMOVED_WITH_IDENTITY = (
    "OtherPatientNames",
    "PatientAddress",
    "PatientBirthName",
    "PatientMotherBirthName",
    "PatientTelephoneNumbers",
    "MilitaryRank",
    "CountryOfResidence",
    "PatientReligiousPreference",
)


@dataclass(frozen=True)
class AttributeRule:
    """A rule by name, with what to do where `find` yields something.

    kept: the rule is about attributes copied from the source; what the source breaks already is
    no problem of the derived image.
    """

    name: str
    remedy: str
    find: Callable[[Dataset], Iterable[Finding]]
    kept: bool = False


def _image_type(header: Dataset) -> Iterator[Finding]:
    values = header.get("ImageType") or ()
    first_two = [values] if isinstance(values, str) else list(values[:2])
    # PS3.3 C.8.16.1.2: multi-frame images know no SECONDARY.
    if first_two != ["DERIVED", "PRIMARY" if _is_multi_frame(header) else "SECONDARY"]:
        yield "ImageType", "\\".join(first_two)


def _is_multi_frame(header: Dataset) -> bool:
    return is_multi_frame_ct(header.get("SOPClassUID", "")) or is_frame(header)


def _derivation(header: Dataset) -> Iterator[Finding]:
    for name in ("DerivationDescription", "DerivationCodeSequence"):
        if not header.get(name):
            yield name, ""


def _derivation_code(header: Dataset) -> Iterator[Finding]:
    named = DIFFERENCE in str(header.get("SeriesDescription") or "")
    if header.get("DerivationCodeSequence") and named != is_difference(header):
        yield "DerivationCodeSequence", ""


def _source(header: Dataset) -> Iterator[Finding]:
    if not header.get("SourceImageSequence"):
        yield "SourceImageSequence", ""
    for item in header.get("SourceImageSequence") or ():
        for name in ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID"):
            if not item.get(name):
                yield name, ""
        purposes = [code_of(code) for code in item.get("PurposeOfReferenceCodeSequence") or ()]
        if PROCESSED_SOURCE[:2] not in purposes:
            yield "PurposeOfReferenceCodeSequence", ""


@functools.cache
def _meanings() -> dict[str, str]:
    """The meaning of every code of PS3.16 annex D ("DCM"), as pydicom lists them."""
    return {code.value: code.meaning for code in codes.DCM.concepts.values()}


def _code_meaning(header: Dataset) -> Iterator[Finding]:
    for item in walk_items(header):
        value, designator = code_of(item)
        meaning = _meanings().get(value) if designator == "DCM" else None
        if meaning and str(item.get("CodeMeaning", "")).strip().casefold() != meaning.casefold():
            yield "CodeMeaning", f"{value} DCM means {meaning!r}"
    for code in _own_codes(header):
        value, designator = code_of(code)
        if designator == "DCM" and value not in _meanings():
            yield "CodeValue", "DCM has no such code"


def _own_codes(header: Dataset) -> Iterator[Dataset]:
    """The codes that the deriving software writes, not those copied from the source."""
    yield from header.get("DerivationCodeSequence") or ()
    for item in (*(header.get("SourceImageSequence") or ()), *own_equipment(header)):
        yield from item.get("PurposeOfReferenceCodeSequence") or ()


def _equipment(header: Dataset) -> Iterator[Finding]:
    items = own_equipment(header)
    if not items:
        yield "ContributingEquipmentSequence", ""
    for item in items:
        for name in ("ManufacturerModelName", "SoftwareVersions"):
            if not item.get(name):
                yield name, ""
        purposes = [code_of(code) for code in item.get("PurposeOfReferenceCodeSequence") or ()]
        if PROCESSING_EQUIPMENT[:2] not in purposes:
            yield "PurposeOfReferenceCodeSequence", ""
    if str(header.get("SeriesDescription") or "").startswith("AI "):
        text = " ".join(str(item.get("ContributionDescription") or "") for item in items)
        if items and not re.search(r"\b[0-9a-f]{64}\b", text):
            yield "ContributionDescription", "no SHA-256 of the weights"


def _marking(header: Dataset) -> Iterator[Finding]:
    if not str(header.get("SeriesDescription") or "").startswith(MARKINGS):
        yield "SeriesDescription", ""


def _file_meta(header: Dataset) -> Iterator[Finding]:
    meta = getattr(header, "file_meta", Dataset())
    for name, in_meta in (
        ("SOPClassUID", meta.get("MediaStorageSOPClassUID")),
        ("SOPInstanceUID", meta.get("MediaStorageSOPInstanceUID")),
    ):
        if not header.get(name) or header.get(name) != in_meta:
            yield f"MediaStorage{name}", ""


def _own_uids(header: Dataset) -> Iterator[Finding]:
    return _invalid(header, "SOPInstanceUID", "SeriesInstanceUID")


def _kept_uids(header: Dataset) -> Iterator[Finding]:
    return _invalid(header, "StudyInstanceUID", "FrameOfReferenceUID")


def _invalid(header: Dataset, *names: str) -> Iterator[Finding]:
    return ((name, "") for name in names if not UID(str(header.get(name) or "")).is_valid)


def _uid_reuse(header: Dataset) -> Iterator[Finding]:
    if header.get("SOPInstanceUID") in [uid for uid, _ in references(header)]:
        yield "SOPInstanceUID", ""


def _lossy(header: Dataset) -> Iterator[Finding]:
    if header.get("LossyImageCompression") == "01":
        for name in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if not header.get(name):
                yield name, ""
    elif "PixelData" in header and is_lossy(header):
        yield "LossyImageCompression", ""


def _rescale(header: Dataset) -> Iterator[Finding]:
    for name in ("RescaleSlope", "RescaleIntercept"):
        value = header.get(name)
        if value in (None, "") or not math.isfinite(float(value)):
            yield name, ""
        elif name == "RescaleSlope" and float(value) == 0:
            yield name, "0"


def _bits(header: Dataset) -> Iterator[Finding]:
    allocated, stored = header.get("BitsAllocated") or 0, header.get("BitsStored") or 0
    if not 0 < stored <= allocated:
        yield "BitsStored", str(stored)
    if header.get("HighBit") != stored - 1:
        yield "HighBit", str(header.get("HighBit"))


def _pixel_data(header: Dataset) -> Iterator[Finding]:
    expected = header.Rows * header.Columns * header.BitsAllocated // 8
    length = len(header.get("PixelData") or b"")
    if not header.file_meta.TransferSyntaxUID.is_encapsulated:
        if length != expected + expected % 2:
            yield "PixelData", f"{length} bytes, expected {expected + expected % 2}"
    elif not length or stored_in(header).shape != (header.Rows, header.Columns):
        yield "PixelData", "not one image of Rows x Columns"


def stored_in(header: Dataset) -> NDArray:
    """The stored values [rows, columns], whatever they are: a difference may well be blank."""
    if header.file_meta.TransferSyntaxUID.is_encapsulated:
        return header.pixel_array
    return pixel_array(header, correct_unused_bits=False)


def _identity(header: Dataset) -> Iterator[Finding]:
    """Texts that this software writes must not identify the patient; their values are not shown."""
    if identity_in(str(header.get("SeriesDescription") or ""), header):
        yield "SeriesDescription", ""
    prose = [("DerivationDescription", str(header.get("DerivationDescription") or ""))]
    for item in own_equipment(header):
        prose += [(element.keyword, str(element.value)) for element in item if element.VR != "SQ"]
    for name, text in prose:
        if identity_in(text, header, surname_alone=False):
            yield name, ""


def _identity_removed(header: Dataset) -> Iterator[Finding]:
    if header.get("PatientIdentityRemoved") == "YES":
        yield from ((name, "") for name in REMOVED_WITH_IDENTITY if header.get(name))


RULES = (
    AttributeRule(
        "image-type",
        "write DERIVED\\SECONDARY, in multi-frame DERIVED\\PRIMARY: no scanner made these pixels",
        _image_type,
    ),
    AttributeRule("derivation", "say what was done, in words and in code", _derivation),
    AttributeRule(
        "derivation-code",
        "give 113062 DCM to differences, and name those DIFFERENCE, and to nothing else",
        _derivation_code,
    ),
    AttributeRule("source", "name the source image, with purpose 121322 DCM", _source),
    AttributeRule(
        "code-meaning", "write the meaning that PS3.16 gives the code", _code_meaning, kept=True
    ),
    AttributeRule(
        "equipment",
        "name software, model, version and weights, with purpose 109102 DCM",
        _equipment,
    ),
    AttributeRule(
        "marking", f"begin it with one of {', '.join(m.strip() for m in MARKINGS)}", _marking
    ),
    AttributeRule("file-meta", "write in the file's head what the data set says", _file_meta),
    AttributeRule("uid", "give it a valid UID (PS3.5 chapter 9)", _own_uids),
    AttributeRule("uid", "give the source a valid UID (PS3.5 chapter 9)", _kept_uids, kept=True),
    AttributeRule("uid-reuse", "give the derived image a UID of its own", _uid_reuse),
    AttributeRule(
        "lossy",
        "state that the pixels were compressed with loss, how and how far",
        _lossy,
        kept=True,
    ),
    AttributeRule("rescale", "give a finite slope other than 0, and an intercept", _rescale),
    AttributeRule("pixel-data", "make the bits agree: HighBit is BitsStored - 1", _bits),
    AttributeRule(
        "pixel-data", "write one whole image of Rows x Columns that decodes", _pixel_data
    ),
    AttributeRule("identity", "leave out what identifies the patient", _identity),
    AttributeRule(
        "identity-removed",
        "remove the attribute, or do not claim that identity is removed",
        _identity_removed,
        kept=True,
    ),
)
#: Of a multi-frame file as a whole; its frames are held to RULES.
FILE_RULES = tuple(
    rule for rule in RULES if rule.name in ("image-type", "file-meta", "uid") and not rule.kept
)
