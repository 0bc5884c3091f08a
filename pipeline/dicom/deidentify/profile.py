"""De-identified copies of CT images: the Basic Application Level Confidentiality Profile.

PS3.15 Annex E with three of its options (deidentify.rules.Options). Pixels, transfer syntax and
every attribute that stays are the source's own bytes. An image that may show identity in its
pixels is refused, not cleaned. What the profile cannot promise: a face can be rendered from a
head CT, and labels that stay, such as kernel and codes, are assumed to hold no identity.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID_dictionary

from pipeline.core.atomic_files import replacing
from pipeline.core.errors import ConfigError, LdctError, NothingUsableError, attach_report
from pipeline.core.pseudonyms import patient_pseudonym, pseudonym
from pipeline.core.refusals import (
    Disposition,
    Refusal,
    Unreadable,
    nothing_usable,
)
from pipeline.core.versions import SOFTWARE, VERSION
from pipeline.dicom.deidentify.identity_text import IDENTIFIERS, identity_in
from pipeline.dicom.deidentify.refuse import uncertain
from pipeline.dicom.deidentify.report import CopiedImage, DeidentifyReport, report_of
from pipeline.dicom.deidentify.rules import (
    DUMMIES,
    EDITION,
    LABELS,
    Action,
    Options,
    action_for,
    basic_action,
    safe_private,
    shifted,
    standard_vr,
    values_of,
)
from pipeline.dicom.read.file_meta import complete, is_implicit
from pipeline.dicom.read.files import files_below, read_dataset
from pipeline.dicom.read.identifiers import NO_PATIENT, patient_of
from pipeline.dicom.read.object_kind import not_dicom
from pipeline.dicom.read.slice_requirements import is_empty

#: Body parts (BodyPartExamined) whose volume shows a face; one that is not named may.
WITH_FACE = re.compile(r"HEAD|BRAIN|SKULL|FACE|FACIAL|NECK|ORBIT|SINUS|JAW|\bEAR|WHOLE|^$")
MAX_SHIFT_DAYS = 10 * 365

#: CID 7050.
PROFILE_CODE = ("113100", "Basic Application Confidentiality Profile")
OPTION_CODES = {
    "shift_dates": ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    "retain_device": ("113109", "Retain Device Identity Option"),
    "safe_private": ("113111", "Retain Safe Private Option"),
}


def deidentify(
    source: Path,
    out: Path,
    *,
    key: bytes,
    options: Options,
    progress: Callable[[int], None] = lambda files: None,
) -> DeidentifyReport:
    """Write a de-identified copy of every CT image below `source`, archive members included.

    The copies go to out/<patient>/<series>/<image>.dcm, named by pseudonyms made with `key`; the
    same key gives the same bytes. progress: called with the number of files read so far.

    A file of that name with other content is never overwritten: the image is quarantined. Raises
    NothingUsableError where no image could be copied, and ConfigError for an `out` within
    `source`; what ends the work in the middle carries the report of what was done.
    """
    if not source.exists():
        raise NothingUsableError(f"{source} does not exist")
    if out.resolve().is_relative_to(source.resolve()):
        raise ConfigError(f"{out} lies within {source}: choose a folder outside the source")
    refusals: list[Refusal] = []
    written: dict[Path, CopiedImage] = {}
    try:
        for count, path in enumerate(files_below(source, leave_out=refusals.append), start=1):
            progress(count)
            copied = _copied(path, key, options)
            refused = copied if isinstance(copied, Refusal) else _add(path, copied, out, written)
            if refused is not None:
                refusals.append(refused)
    except BaseException as error:  # such as a full disk
        attach_report(error, report_of(source, list(written.values()), refusals).to_dict())
        raise
    report = report_of(source, list(written.values()), refusals)
    if not written:
        raise nothing_usable(source, refusals, report.to_dict())
    return report


def _add(
    path: Path, copied: tuple[CopiedImage, bytes], out: Path, written: dict[Path, CopiedImage]
) -> Refusal | None:
    """Write a copy and note it in `written`, or say why not."""
    image, content = copied
    if image.path in written:
        reason = "another file of its series with the same SOPInstanceUID was copied already"
        return Refusal(path, Disposition.QUARANTINED, reason, "SOPInstanceUID")
    try:
        _write(content, out / image.path)
    except LdctError as fault:
        return Refusal(path, Disposition.QUARANTINED, str(fault))
    written[image.path] = image
    return None


def _copied(path: Path, key: bytes, options: Options) -> tuple[CopiedImage, bytes] | Refusal:
    """The image and the bytes of its copy, or why there is none."""
    try:
        # pydicom's warnings quote values.
        with warnings.catch_warnings(action="ignore"):
            dataset = read_dataset(path)
            remarks = _mended(dataset)
            reason = uncertain(dataset, trust_pixels=options.trust_pixels)
            if reason:
                return replace(reason, path=path)
            return _copy(dataset, key, options, remarks)
    except Unreadable as fault:
        return fault.refusal(path)
    except InvalidDicomError:
        return not_dicom(path)
    except Exception as error:  # pydicom raises many kinds on damaged files
        return Unreadable(f"damaged ({type(error).__name__})").refusal(path)


def _mended(dataset: Dataset) -> tuple[str, ...]:
    """Take from the file meta information what it alone states, and have the data set written
    from the encoding that it is in; remarks on both."""
    implicit = is_implicit(dataset)
    if implicit is not None:
        _, little_endian = dataset.original_encoding
        dataset.set_original_encoding(implicit, little_endian, dataset.original_character_set)
    # An object without a stated class is none that can be copied for certain.
    stated = dataset.file_meta.get("MediaStorageSOPClassUID") or values_of(dataset, "SOPClassUID")
    return complete(dataset) if stated else ()


def _copy(
    dataset: Dataset, key: bytes, options: Options, remarks: tuple[str, ...]
) -> tuple[CopiedImage, bytes]:
    # The same pseudonym as pipeline.dicom.read.volume.patient_key's.
    patient = patient_pseudonym(key, *patient_of(dataset))
    if is_empty(dataset, "PatientID"):
        dataset.PatientID = ""  # and the copy has the pseudonym
        remarks = (*remarks, NO_PATIENT)
    study, series, instance = (
        " ".join(values_of(dataset, f"{level}InstanceUID")) for level in ("Study", "Series", "SOP")
    )
    body_part = " ".join(values_of(dataset, "BodyPartExamined"))
    image = CopiedImage(
        patient=patient,
        series=pseudonym(key, "s", study, series),
        name=pseudonym(key, "i", instance),
        may_show_face=bool(WITH_FACE.search(body_part.upper())),
        remarks=remarks,
    )
    _Cleaner(key, options, patient, _identity(dataset)).clean(dataset)
    _record_method(dataset, options)
    return image, _encoded(dataset)


def _identity(dataset: Dataset) -> Dataset:
    """The identifying attributes, to be looked for in the texts that stay."""
    keywords = (*IDENTIFIERS, "PatientName", "PatientBirthDate")
    return Dataset({Tag(name): dataset[name] for name in keywords if name in dataset})


@dataclass(frozen=True)
class _Cleaner:
    """Removes identity from a data set and all its items, in place."""

    key: bytes
    options: Options
    patient: str
    identity: Dataset

    def clean(self, dataset: Dataset) -> None:
        """Apply the profile to every element; raises Unreadable for a VR that cannot be right."""
        safe = safe_private(dataset) if self.options.safe_private else set()
        for tag in list(dataset.keys()):
            if not tag.is_private:
                self._treat(dataset, tag)
            elif tag not in safe:
                del dataset[tag]

    def _treat(self, dataset: Dataset, tag: BaseTag) -> None:
        action = action_for(tag, dataset.get_item(tag).VR, self.options)
        if action is Action.SHIFT and not self._shift(dataset, tag):
            action = basic_action(tag)
        if action is Action.REMOVE:
            del dataset[tag]
        elif action is Action.KEEP:
            self._keep(dataset, tag)
        elif action is not Action.SHIFT:
            value = self._replacement(action, tag, values_of(dataset, tag))
            dataset[tag] = DataElement(tag, standard_vr(tag), value)

    def _shift(self, dataset: Dataset, tag: BaseTag) -> bool:
        """Shift a date or time; False, and no change, for a value that is none."""
        days = 1 + self._keyed("days", self.patient).int % MAX_SHIFT_DAYS
        vr = standard_vr(tag)
        moved = shifted(vr, values_of(dataset, tag), days)
        if moved is not None:
            dataset[tag] = DataElement(tag, vr, moved)
        return moved is not None

    def _keep(self, dataset: Dataset, tag: BaseTag) -> None:
        if standard_vr(tag) == "SQ":
            for item in dataset[tag].value or []:
                self.clean(item)
        elif standard_vr(tag) in LABELS and identity_in(
            " ".join(values_of(dataset, tag)), self.identity
        ):
            dataset[tag] = DataElement(tag, standard_vr(tag), None)

    def _replacement(self, action: Action, tag: BaseTag, values: list[str]) -> Any:
        if tag in (Tag("PatientID"), Tag("PatientName")):
            return self.patient
        if standard_vr(tag) == "SQ":
            return []
        if not values or action is Action.EMPTY:
            return None
        if standard_vr(tag) == "UI":
            return [self.uid(value) for value in values]
        return DUMMIES[standard_vr(tag)]

    def uid(self, original: str) -> str:
        """The UID's replacement under 2.25 (PS3.5 B.2), a function of the key; UIDs that DICOM
        itself defines stay."""
        if original in UID_dictionary:
            return original
        return f"2.25.{self._keyed('uid', original).int}"

    def _keyed(self, purpose: str, text: str) -> uuid.UUID:
        digest = hmac.new(self.key, f"{purpose}\0{text}".encode(), hashlib.sha256).digest()
        return uuid.UUID(bytes=digest[:16], version=5)


def _record_method(dataset: Dataset, options: Options) -> None:
    """Record that identity was removed, how, and what became of dates (PS3.15 E.1.1)."""
    used = [code for name, code in OPTION_CODES.items() if getattr(options, name)]
    for keyword, value in (
        ("PatientIdentityRemoved", "YES"),
        ("DeidentificationMethod", f"{SOFTWARE} {VERSION}: PS3.15 {EDITION} Basic Profile"),
        ("DeidentificationMethodCodeSequence", [_code(*code) for code in (PROFILE_CODE, *used)]),
        (
            "LongitudinalTemporalInformationModified",
            "MODIFIED" if options.shift_dates else "REMOVED",
        ),
    ):
        dataset.add_new(keyword, standard_vr(Tag(keyword)), value)


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code


def _encoded(dataset: Dataset) -> bytes:
    """In the source's transfer syntax, with a preamble and file meta of our own."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = values_of(dataset, "SOPClassUID")[0]
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    dataset.file_meta, dataset.preamble = meta, bytes(128)
    content = BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    return content.getvalue()


def _write(content: bytes, path: Path) -> None:
    if not path.exists():
        with replacing(path, durable=False) as partial:
            partial.write_bytes(content)
    elif not path.is_file() or path.read_bytes() != content:
        raise LdctError(f"{path} exists and holds something else; choose another folder")
