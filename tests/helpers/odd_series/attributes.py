"""What a CT header says beside pixels and place: required, optional, odd, and private."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.datadict import tag_for_keyword

from helpers.odd_series.encoding import Element, encoded, number, sequence, text
from helpers.odd_series.encoding import Encoding as Layout

#: Attributes of type 2 and 3 of the CT Image IOD (PS3.3 A.3) with a usual value.
OPTIONAL = {
    "PatientName": "Doe^Jane",
    "PatientBirthDate": "19520304",
    "PatientSex": "F",
    "PatientAge": "047Y",
    "StudyDate": "19991231",
    "StudyTime": "235959.999999",
    "StudyID": "1",
    "StudyDescription": "CT Thorax",
    "AccessionNumber": "A4711",
    "ReferringPhysicianName": "Roe^Richard",
    "SeriesNumber": "3",
    "SeriesDescription": "Lung 2.5",
    "SeriesDate": "19991231",
    "AcquisitionDate": "19991231",
    "AcquisitionNumber": "1",
    "ContentDate": "19991231",
    "ContentTime": "120000",
    "Manufacturer": "ODD MEDICAL SYSTEMS",
    "ManufacturerModelName": "Odd 64",
    "BodyPartExamined": "CHEST",
    "ConvolutionKernel": "STANDARD",
    "PatientPosition": "HFS",
    "KVP": "120",
    "SliceThickness": "2.5",
    "SpacingBetweenSlices": "2.5",
    "GantryDetectorTilt": "0",
    "XRayTubeCurrent": "200",
    "Exposure": "100",
    "ReconstructionDiameter": "360",
    "PositionReferenceIndicator": "SN",
    "ImageComments": "none",
    "WindowCenter": "40",
    "WindowWidth": "400",
    "Laterality": "",
    "ContrastBolusAgent": "",
    "ProtocolName": "5.1 Thorax",
    "RescaleType": "HU",
    "LossyImageCompression": "00",
    "BurnedInAnnotation": "NO",
}
#: Of type 2 (or 2C, 3 and known to be empty in the field): no value is legal.
MAY_BE_EMPTY = tuple(name for name in OPTIONAL if name not in ("RescaleType",))

#: Texts in a character set: (SpecificCharacterSet, the bytes of a name, of a description).
CHARACTER_SETS: dict[str, tuple[str, bytes, bytes]] = {
    "none": ("", b"Doe^Jane", b"Thorax"),
    "latin 1": ("ISO_IR 100", "Müller^Jörg".encode("latin-1"), "Schädel".encode("latin-1")),
    "UTF-8": ("ISO_IR 192", "Wang^XiaoDong=王^小東=".encode(), "Schädel".encode()),
    "GB18030": ("GB18030", "Wang^XiaoDong=王^小东=".encode("gb18030"), "胸部".encode("gb18030")),
    "Japanese": (
        "\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B",
        b"\x1b$B;3ED\x1b(B",
    ),
    "misspelt": ("ISO-IR 100", "Müller^Jörg".encode("latin-1"), b"Schaedel"),
    "unknown": ("ISO_IR 999", b"Doe^Jane", b"Thorax"),
    "undeclared": ("", "Müller^Jörg".encode("latin-1"), "Schädel".encode("latin-1")),
    "Russian": ("ISO_IR 144", "Люкceмбypг".encode("iso8859-5"), "Грудь".encode("iso8859-5")),
}

#: Values that mean nothing sound, of attributes on which no voxel depends.
MISLEADING = {
    "SliceThickness": "0",
    "SpacingBetweenSlices": "-0.625",
    "GantryDetectorTilt": "-99.5",
    "ReconstructionDiameter": "0",
    "XRayTubeCurrent": "-1",
    "WindowWidth": "400\\1500\\0",
    "PatientAge": "47",
    "StudyDate": "1999.12.31",
    "LossyImageCompression": "0",
}

IMAGE_TYPES = (
    "ORIGINAL\\PRIMARY\\AXIAL",
    "ORIGINAL\\PRIMARY",
    "ORIGINAL\\PRIMARY\\AXIAL\\CT_SOM5 SPI",
    "original\\primary\\axial",
    "ORIGINAL\\PRIMARY\\AXIAL\\HELIX",
    "DERIVED\\SECONDARY\\REFORMATTED\\AVERAGE",
    "DERIVED\\PRIMARY\\MPR",
    "ORIGINAL\\PRIMARY\\\\CT",
    "ORIGINAL \\PRIMARY \\AXIAL ",
)


#: Roots of UIDs: ordinary, made of a UUID, unknown to the standard, and with a leading zero.
ROOTS = {
    "ordinary": "1.2.826.0.1.3680043.8.498.24",
    "uuid": "2.25.329800735698586629295641978511506172918",
    "unknown root": "9503.20111102.329",
    "leading zero": "1.2.826.0.1.3680043.8.498.024",
}
#: In which attribute two phases differ, and its values.
PHASES = {
    "AcquisitionNumber": ("1", "2"),
    "TemporalPositionIdentifier": ("1", "2"),
    "TriggerTime": ("40.5", "440.5"),
    "ScanOptions": ("SYS 40%", "DIA 75%"),
    "ImageComments": ("arterial", "venous"),
    "ContentTime": ("120000.1", "120031"),
    "AcquisitionTime": ("120000", "120031.500000"),
    "ConvolutionKernel": ("STANDARD", "B70f\\2"),
    "KVP": ("80", "1.4E+02"),
    "SeriesInstanceUID": (".2", ".5"),
}


@dataclass(frozen=True)
class Header:
    """What a series' headers say. left_out, emptied: of OPTIONAL. as_un: attributes that a
    converter wrote as UN (PS3.5 6.2.2). numbering: of InstanceNumber. vendor: whose private
    blocks. blanks: after, before or instead of values. charset: a key of CHARACTER_SETS.
    root: of the UIDs, a key of ROOTS. class_in_meta: SOPClassUID is there alone.
    misleading: of MISLEADING."""

    left_out: frozenset[str] = frozenset()
    emptied: frozenset[str] = frozenset()
    as_un: frozenset[str] = frozenset()
    numbering: str = "ordinary"
    image_type: str | None = IMAGE_TYPES[0]
    rescale_type: str = "HU"
    vendor: str = "none"
    blanks: str = "none"
    charset: str = "none"
    sequences: bool = False
    photometric: str = "MONOCHROME2"
    kvp_styles: tuple[str, ...] = ("120",)
    root: str = "ordinary"
    patient_id: str = "SECRET-4711"
    class_in_meta: bool = False
    modality: str = "CT"
    misleading: frozenset[str] = frozenset()


def header_elements(header: Header, index: int, slices: int) -> list[Element]:
    """The optional and descriptive attributes of slice `index`."""
    charset, name, description = CHARACTER_SETS[header.charset]
    values: dict[str, str | bytes] = {**OPTIONAL, "PatientName": name, "RescaleType": ""}
    values["SeriesDescription"] = description
    values |= {name: MISLEADING[name] for name in header.misleading}
    values["RescaleType"] = header.rescale_type
    values["KVP"] = header.kvp_styles[index % len(header.kvp_styles)]
    if header.image_type is not None:
        values["ImageType"] = header.image_type
    if charset:
        values["SpecificCharacterSet"] = charset
    found = []
    for keyword, value in values.items():
        if keyword in header.left_out:
            continue
        is_empty = keyword in header.emptied or (keyword == "RescaleType" and not value)
        found.append(_blanked(keyword, b"" if is_empty else value, header.blanks))
    instance_number = _instance_number(header.numbering, index, slices)
    if instance_number is not None:
        found.append(text("InstanceNumber", instance_number))
    found += _sequences() if header.sequences else []
    return [_unknown(element, header.as_un) for element in found + private(header.vendor)]


def _blanked(keyword: str, value: str | bytes, blanks: str) -> Element:
    """A value with the blanks that its VR may have around it (PS3.5 table 6.2-1)."""
    element = text(keyword, value)
    may_lead = element.vr in ("DS", "IS", "LO", "SH", "CS")
    content = element.value
    if blanks == "trailing" and content and keyword != "SpecificCharacterSet":
        content += b"  "
    elif blanks == "leading" and content and may_lead and b"\\" not in content:
        content = b" " + content
    elif blanks == "only" and not content and element.vr not in ("DA", "TM", "AS"):
        content = b"  "
    return Element(element.tag, element.vr, content)


def _instance_number(numbering: str, index: int, slices: int) -> str | None:
    return {
        "ordinary": str(index + 1),
        "reversed": str(slices - index),
        "late": str(index + 101),
        "constant": "1",
        "absent": None,
        "empty": "",
        "plus": f"+{index + 1}",
        "zeros": f"{index + 1:05d}",
        "leading": f" {index + 1}",
        "decimal": f"{index + 1}.0",
        "text": f"IM{index + 1}",
        "shuffled": str((index * 2) % slices + 1 if slices % 2 else index ^ 1),
    }[numbering]


def _unknown(element: Element, as_un: frozenset[str]) -> Element:
    tags = {tag_for_keyword(keyword) for keyword in as_un}
    if element.tag not in tags or element.vr == "SQ":
        return element
    return Element(element.tag, "UN", element.padded)


def _sequences() -> list[Element]:
    """Nested and empty sequences, and one with an empty item."""
    code = [
        text("CodeValue", "24627-2"),
        text("CodingSchemeDesignator", "LN"),
        text("CodeMeaning", "Chest CT"),
    ]
    return [
        sequence("ProcedureCodeSequence", code),
        sequence("ReferencedStudySequence"),
        sequence("ReferencedPatientSequence", []),
        sequence(
            "RequestAttributesSequence",
            [
                text("ScheduledProcedureStepID", "S1"),
                sequence("ScheduledProtocolCodeSequence", code),
            ],
        ),
    ]


def private(vendor: str) -> list[Element]:
    """Private blocks as vendors write them (PS3.5 7.8), with what makes them hard to skip."""
    return {
        "none": list,
        "Siemens": _siemens,
        "GE": _ge,
        "Philips": _philips,
        "Canon": _canon,
        "huge": _huge,
        "unknown sequence": _unknown_sequence,
    }[vendor]()


def _siemens() -> list[Element]:
    return [
        Element(0x00290010, "LO", b"SIEMENS CSA HEADER"),
        Element(0x00291008, "CS", b"IMAGE NUM 4"),
        Element(0x00291010, "OB", b"SV10\4\3\2\1" + bytes(range(256)) * 4),
        Element(0x00291009, "UN", b"20100114"),
        Element(0x7FE10010, "LO", b"SIEMENS CSA NON-IMAGE"),
        Element(0x7FE11010, "OB", bytes(500)),
    ]


def _ge() -> list[Element]:
    return [
        Element(0x00090010, "LO", b"GEMS_IDEN_01"),
        Element(0x00091001, "LO", b"GE_GENESIS_FF"),
        Element(0x00091027, "SL", (879000000).to_bytes(4, "little")),
        Element(0x00190010, "LO", b"GEMS_ACQU_01"),
        Element(0x00191002, "SL", (912).to_bytes(4, "little")),
        Element(0x00270010, "LO", b"GEMS_IMAG_01"),
        Element(0x00271040, "SH", b"S"),
        Element(0x00431010, "US", (400).to_bytes(2, "little")),
        Element(0x00430010, "LO", b"GEMS_PARM_01"),
    ]


def _philips() -> list[Element]:
    item = [
        Element(0x20050010, "LO", b"Philips MR Imaging DD 001"),
        Element(0x20051000, "FL", bytes(4)),
    ]
    return [
        Element(0x01E10010, "LO", b"ELSCINT1"),
        Element(0x01E11018, "UN", b"\xfe\xff\x00\xe0\xff\xff\xff\xff"),
        Element(0x20050010, "LO", b"Philips Imaging DD 001"),
        Element(0x20051083, "SQ", items=(tuple(item), ())),
        Element(0x200510FF, "UN", b"\0\0\0\0"),
    ]


def _canon() -> list[Element]:
    return [
        Element(0x70050010, "LO", b"TOSHIBA_MEC_CT3"),
        Element(0x7005100B, "UN", b"ORG "),
        Element(0x7005101D, "UN", b"\1\0"),
        # The content of a sequence, whose VR the writer did not know (PS3.5 6.2.2, note 2).
        Element(0x70051030, "UN", encoded([text("CodeValue", "1")], Layout("1.2.840.10008.1.2"))),
    ]


def _unknown_sequence() -> list[Element]:
    """A private sequence of undefined length whose VR the writer did not know (PS3.5 6.2.2)."""
    item = (text("CodeValue", "1"), sequence("ProcedureCodeSequence", [text("CodeValue", "2")]))
    return [
        Element(0x00510010, "LO", b"ODD SEQUENCES"),
        Element(0x00511001, "UN", items=(item, ())),
    ]


def _huge() -> list[Element]:
    return [Element(0x00990010, "LO", b"ODD RAW"), Element(0x00991001, "OB", bytes(70_000))]


def pixel_description(
    rows: int, columns: int, coding: tuple[int, bool, int], photometric: str
) -> list[Element]:
    """The Image Pixel module without the pixels; coding: bits stored, signed, high bit."""
    bits, signed, high_bit = coding
    return [
        number("SamplesPerPixel", 1),
        text("PhotometricInterpretation", photometric),
        number("Rows", rows),
        number("Columns", columns),
        number("BitsAllocated", 16),
        number("BitsStored", bits),
        number("HighBit", high_bit),
        number("PixelRepresentation", int(signed)),
    ]


def joined(values: Sequence[str]) -> str:
    """Several values of one attribute (PS3.5 6.4)."""
    return "\\".join(values)
