"""What de-identification does with each attribute: PS3.15 Annex E as tables.

Attributes and actions are table E.1-1 (2026c) as data of the package dicom-anonymizer; none of
its code runs here. The table has descriptions and comments: without the Clean Descriptors Option
they are removed. It does not have every attribute that could identify: compared with the whole
data dictionary (pydicom's, PS3.6), it lacks order numbers, birth dates in other calendars, URLs,
network addresses and most free text. Attributes that it lacks are therefore decided here by
group and VR, and removed in doubt: code strings, numbers, short labels such as the kernel, and
pixels stay.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

from dicomanonymizer.dicom_anonymization_databases import (
    dicomfields_2026c as table_e1_1,
)
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from pipeline.core.refusals import Unreadable

EDITION = "2026c"


@dataclass(frozen=True)
class Options:
    """Options of the Basic Profile (PS3.15 E.3): each keeps more than the profile does.

    trust_pixels: none of the standard's: copy images that may hold text in their pixels, since
    someone has looked.
    """

    shift_dates: bool = False
    safe_private: bool = False
    retain_device: bool = False
    trust_pixels: bool = False


class Action(Enum):
    """What de-identification does with an attribute (PS3.15 table E.1-1a)."""

    KEEP = auto()  # the items of a sequence are cleaned in turn
    REMOVE = auto()
    EMPTY = auto()
    DUMMY = auto()
    NEW_UID = auto()
    SHIFT = auto()


#: Where the table leaves a choice, the action that is valid for every type (PS3.15 E.1.1).
ACTIONS = {
    "X_TAGS": Action.REMOVE,
    "Z_TAGS": Action.EMPTY,
    "D_TAGS": Action.DUMMY,
    "U_TAGS": Action.NEW_UID,
    "X_Z_TAGS": Action.EMPTY,
    "X_D_TAGS": Action.DUMMY,
    "Z_D_TAGS": Action.DUMMY,
    "X_Z_D_TAGS": Action.DUMMY,
    "X_Z_U_STAR_TAGS": Action.KEEP,  # sequences of references: their UIDs are replaced
}


def _action(name: str, tag: tuple[int, int]) -> Action:
    is_known = dictionary_has_tag(tag)  # the table is newer than the dictionary
    if is_known and ACTIONS[name] is Action.DUMMY and dictionary_VR(tag) == "SQ":
        # There is no dummy for a sequence's item.
        return Action.EMPTY if name == "D_TAGS" else Action.REMOVE
    return ACTIONS[name]


#: Its entries with masks, of overlays and curves, are in GROUPS_REMOVED.
TABLE: dict[int, Action] = {
    Tag(entry): _action(name, entry)
    for name in ACTIONS
    for entry in getattr(table_e1_1, name)
    if len(entry) == 2
}

#: A valid value without information, for each VR that the table has a dummy for.
DUMMIES: dict[str, str | bytes] = {
    **dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"), "REMOVED"),
    "AS": "000Y",
    "DA": "19000101",
    "DT": "19000101000000",
    "TM": "000000",
    "UR": "urn:removed",
    "OB": b"\0\0",
    "UN": b"\0\0",
}


def _tags(keywords: str) -> frozenset[int]:
    return frozenset(Tag(keyword) for keyword in keywords.split())


#: Column "Rtn. Dev. Id. Opt." of table E.1-1 where it says K. Left out are its dates, which
#: follow the rule for dates: the day of a calibration may be the day of the scan.
DEVICE = _tags(
    """
    CassetteID DetectorID DeviceDescription DeviceLabel DeviceSerialNumber DeviceUID
    GantryID GeneratorID HardcopyCreationDeviceID LensMake LensModel LensSerialNumber
    LensSpecification ManufacturerDeviceClassUID ManufacturerDeviceIdentifier
    ModifyingDeviceID ModifyingSystem PerformedStationGeographicLocationCodeSequence
    PerformedStationName PerformedStationNameCodeSequence PlateID
    ScheduledProcedureStepLocation ScheduledStationGeographicLocationCodeSequence
    ScheduledStationName ScheduledStationNameCodeSequence ScheduledStudyLocation
    SecondaryCaptureDeviceID SourceManufacturer SourceSerialNumber StationName
    TransducerIdentificationSequence TreatmentMachineName UDISequence UniqueDeviceIdentifier
    XRayDetectorID XRayDetectorLabel XRaySourceID
    """
)

#: (private creator, group): elements that hold no identity. Of table E.3.10-1 those that CT
#: and PET-CT scanners write; PS3.15 names vendor and element, and so vouches for them.
SAFE_PRIVATE: dict[tuple[str, int], frozenset[int]] = {
    ("ELSCINT1", 0x00E1): frozenset({0x21}),  # dose-length product
    ("ELSCINT1", 0x01E1): frozenset({0x26, 0x50}),  # phantom type, duration
    ("ELSCINT1", 0x01F1): frozenset({0x01, 0x07, 0x26, 0x27}),  # type, table speed, pitch, turn
    ("GEMS_ACQU_01", 0x0019): frozenset({0x23, 0x24, 0x27}),  # table speed, mid time, rotation
    ("GEMS_SERS_01", 0x0025): frozenset({0x07}),  # images in series
    ("GEMS_PARM_01", 0x0043): frozenset({0x27}),  # pitch ratio
    ("GEMS_HELIOS_01", 0x0045): frozenset({0x01, 0x02}),  # detector rows, their width
    ("Philips PET Private Group", 0x7053): frozenset({0x00, 0x09}),  # SUV and activity factors
}

#: Not in the table, though they may identify: identifiers, names, and their issuers.
ALSO_REMOVED = _tags(
    """
    AcquisitionProtocolName DeviceID FillerOrderNumberImagingServiceRequestRetired
    FillerOrderNumberProcedure FrameLabel GridID InstructionText
    IssuerOfAccessionNumberSequence ModifiedImageID NTPSourceAddress
    OrderFillerIdentifierSequence OrderPlacerIdentifierSequence
    OriginalImageIdentificationNomenclature PlacerOrderNumberImagingServiceRequestRetired
    PlacerOrderNumberProcedure PrivateDataElementCharacteristicsSequence RecognitionCode
    ReferenceLocationLabel StorageMediaFileSetID
    """
)
#: Encrypted and signed content, and the retired groups of curves and overlays.
GROUPS_REMOVED = frozenset({0x0400, 0x4FFE, *range(0x5000, 0x5100), *range(0x6000, 0x6100)})
#: Groups of patient, study request and visit: only what the table keeps of them stays.
GROUPS_OF_PEOPLE = frozenset({0x0010, 0x0032, 0x0038})
#: Binary values are kept only in these groups: pixels and look-up tables.
GROUPS_OF_PIXELS = frozenset({0x0028, 0x7FE0})

#: VRs whose values people type: those that stay are searched for the patient's identity.
LABELS = frozenset({"AE", "CS", "LO", "LT", "SH", "ST", "UC", "UT"})
#: Dates and times as PS3.5 6.2 has them.
CLOCK = {
    "DA": re.compile(r"\d{8}"),
    "DT": re.compile(r"\d{8}(\d\d){0,3}(\.\d{1,6})?([+-]\d{4})?"),
    "TM": re.compile(r"(\d\d){1,3}(\.\d{1,6})?"),
}
FREE_TEXT = frozenset({"AE", "LT", "ST", "UC", "UR", "UT"})
OPAQUE = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
#: Never shifted, but treated as without the option: birth is no event of the course of a disease,
#: and publicly known dates (of a template, on a device's label) would disclose the shift.
FIXED_DATES = _tags(
    """
    ContextGroupLocalVersion ContextGroupVersion DateOfInstallation DateOfManufacture
    PatientBirthDate PatientBirthTime TemplateLocalVersion TemplateVersion
    """
)

#: A VR is accepted for another one of its family, as editions of PS3.6 and scanners differ.
FAMILIES = (
    frozenset({"AE", "CS", "LO", "LT", "SH", "ST", "UC", "UT"}),
    frozenset({"DS", "IS"}),
    frozenset({"OB", "OW", "SL", "SS", "UL", "US"}),
)


def standard_vr(tag: BaseTag) -> str:
    """The VR of a standard attribute (PS3.6), the first one where it has a choice."""
    return str(dictionary_VR(tag)).split(" or ")[0]


def require_vr(tag: BaseTag, stated: str | None) -> None:
    """Raises Unreadable where a file states a VR that a standard attribute cannot have: what its
    value holds would be a guess."""
    vr = standard_vr(tag)
    in_family = any(stated in family and vr in family for family in FAMILIES)
    if stated not in (None, "UN", *dictionary_VR(tag).split(" or ")) and not in_family:
        raise Unreadable("a wrong VR", keyword_for_tag(tag), f"{stated}, not {vr}")


def action_for(tag: BaseTag, stated: str | None, options: Options) -> Action:
    """The action for a standard attribute with the VR `stated` in its file, None in implicit VR.

    Raises Unreadable as require_vr does.
    """
    if tag.group < 0x0008 or tag.group in GROUPS_REMOVED or not dictionary_has_tag(tag):
        return Action.REMOVE
    require_vr(tag, stated)
    vr = standard_vr(tag)
    if vr == "SQ" and stated == "UN":
        return Action.REMOVE
    if options.retain_device and tag in DEVICE:
        return Action.KEEP
    if options.shift_dates and vr in CLOCK and tag not in FIXED_DATES:
        return Action.SHIFT
    return basic_action(tag)


def basic_action(tag: BaseTag) -> Action:
    """The profile's action for a standard attribute, without any option."""
    if tag in TABLE:
        return TABLE[tag]
    vr = standard_vr(tag)
    if tag.group in GROUPS_OF_PEOPLE or tag in ALSO_REMOVED or vr in {*CLOCK, *FREE_TEXT}:
        return Action.REMOVE
    if vr in OPAQUE and tag.group not in GROUPS_OF_PIXELS:
        return Action.REMOVE
    return {"UI": Action.NEW_UID, "PN": Action.EMPTY}.get(vr, Action.KEEP)


def shifted(vr: str, values: list[str], days: int) -> list[str] | None:
    """Dates of VR DA or DT moved back by `days`, times (TM) unchanged.

    None where a value is no full date or time: a year or month alone cannot be moved by days.
    """
    moved = [_shifted(vr, value.strip(), days) for value in values]
    return None if None in moved else [str(value) for value in moved]


def _shifted(vr: str, value: str, days: int) -> str | None:
    if not CLOCK[vr].fullmatch(value):
        return None
    if vr == "TM":
        return value
    try:
        day = datetime.strptime(value[:8], "%Y%m%d") - timedelta(days=days)
    except (ValueError, OverflowError):
        return None
    return f"{day.year:04d}{day.month:02d}{day.day:02d}{value[8:]}"


def values_of(dataset: Dataset, tag: BaseTag | str) -> list[str]:
    """An element's values as texts, [] for none; in its data set the element stays undecoded."""
    element = dataset.get_item(Tag(tag))
    if isinstance(element, RawDataElement):
        encoding = dataset.original_character_set
        element = convert_raw_data_element(element, encoding=encoding, ds=dataset)
    if element is None or element.is_empty:
        return []
    return [str(value) for value in (element.value if element.VM > 1 else [element.value])]


def safe_private(dataset: Dataset) -> set[BaseTag]:
    """Tags of private elements in SAFE_PRIVATE, with the private creators of their blocks."""
    kept: set[BaseTag] = set()
    tags = list(dataset.keys())
    for creator in (tag for tag in tags if tag.is_private_creator):
        offsets = SAFE_PRIVATE.get((" ".join(values_of(dataset, creator)), creator.group), ())
        kept |= {
            part
            for tag in tags
            for part in (creator, tag)
            if tag.group == creator.group
            and tag.element >> 8 == creator.element
            and tag.element & 0xFF in offsets
            and dataset.get_item(tag).VR != "SQ"
        }
    return kept
