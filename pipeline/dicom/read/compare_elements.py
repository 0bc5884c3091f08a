"""Whether two data sets' elements mean the same, whatever their padding and encoding.

Writers pad values, and readers take the padding away: PS3.5 section 6.2 says for each value
representation (VR) what of a value means nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from decimal import Decimal, InvalidOperation
from typing import TypeAlias

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR, STR_VR

from pipeline.dicom.read.raw_elements import (
    Element,
    RawDataset,
    in_little_endian,
    is_group_length,
    vr_of,
)

#: The values of an element, by what they mean.
Meaning: TypeAlias = tuple[Hashable, ...]

#: VRs whose leading spaces mean nothing either (PS3.5 table 6.2-1; of UI, readers take them so).
PADDED_AT_BOTH_ENDS = frozenset(("AE", "CS", "DS", "IS", "LO", "SH", "UI"))
#: VRs of one text, in which a backslash is a character.
SINGLE_TEXTS = frozenset(("LT", "ST", "UR", "UT"))
TEXTS = frozenset(map(str, STR_VR))
CODED_TEXTS = frozenset(map(str, CUSTOMIZABLE_CHARSET_VR)) - {"SQ"}
BYTES = frozenset(("OB", "UN"))


def same_element(tag: BaseTag, derived: RawDataset, source: RawDataset) -> bool:
    """Whether a derived data set has under `tag` what its source means there.

    Where the source has nothing, an empty value means the same (type 2, PS3.5 7.4.3). Group
    lengths mean nothing (retired, PS3.5 7.2).
    """
    first, second = derived.elements.get(tag), source.elements.get(tag)
    if is_group_length(tag):
        return True
    if first is None or second is None:
        return second is None and (first is None or _is_empty(first, derived.dataset))
    return _same(first, second, derived.dataset, source.dataset)


def meaning_under(dataset: Dataset, tag: BaseTag) -> Meaning:
    """What the element under `tag`, no sequence, means: its values; () for none."""
    return _meaning(dataset.get_item(tag), dataset) if tag in dataset else ()


def text_meaning(vr: str, text: str) -> Meaning:
    """What a text means by its VR: its values, without padding; () for none.

    Decimal and integer strings are numbers: 120, 120.0 and 1.2e2 are the same. Codes have no
    lower case, names no trailing delimiters (PS3.5 6.2.1.1), and dates and times may have the
    old ones of ACR-NEMA (PS3.5 table 6.2-1, DA and TM).
    """
    text = text.rstrip(" \0")
    parts = [text] if vr in SINGLE_TEXTS else text.split("\\")
    values = tuple(_part_meaning(vr, part) for part in parts)
    return () if values == ("",) else values


def _part_meaning(vr: str, part: str) -> Hashable:
    part = part.strip(" \0") if vr in PADDED_AT_BOTH_ENDS else part.rstrip(" \0")
    if vr in ("DS", "IS"):
        return _number(part)
    if vr == "PN":
        groups = ("^".join(c.rstrip() for c in g.split("^")).rstrip("^") for g in part.split("="))
        return "=".join(groups).rstrip("=")
    if vr == "CS":
        return part.upper()
    if vr == "DA":
        return part.replace(".", "")
    return part.replace(":", "") if vr == "TM" else part


def _number(text: str) -> Hashable:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    return number if number.is_finite() else text


def _is_empty(element: Element, owner: Dataset) -> bool:
    value = element.value
    if isinstance(element, RawDataElement):
        return not (value or b"").strip(b" \0") if vr_of(element) in TEXTS else not value
    return not value if vr_of(element) == "SQ" else _meaning(element, owner) == ()


def _same(first: Element, second: Element, one: Dataset, other: Dataset) -> bool:
    """Whether elements of two data sets mean the same."""
    vr = vr_of(first)
    if vr == "SQ" or vr_of(second) == "SQ":
        return _same_items(one[first.tag].value or [], other[second.tag].value or [])
    if isinstance(first, RawDataElement) and isinstance(second, RawDataElement):
        held, kept = in_little_endian(first), in_little_endian(second)
        if vr not in CODED_TEXTS or _same_coding(held + kept, one, other):
            return held == kept or _bytes_meaning(vr, held) == _bytes_meaning(vr, kept)
    return _meaning(first, one) == _meaning(second, other)


def _same_coding(held: bytes, one: Dataset, other: Dataset) -> bool:
    """Whether these bytes are the same text in both: ASCII always is, without escapes."""
    if held.isascii() and b"\x1b" not in held:
        return True
    return one.get("SpecificCharacterSet") == other.get("SpecificCharacterSet")


def _bytes_meaning(vr: str, value: bytes) -> Meaning | bytes:
    if vr in TEXTS:
        return text_meaning(vr, value.decode("latin-1"))
    return value.rstrip(b"\0") if vr in BYTES else value


def _meaning(element: Element, owner: Dataset) -> Meaning:
    """The meaning of a value as pydicom decodes it."""
    decoded = owner[element.tag]
    vr, value = vr_of(decoded), decoded.value
    values = value if decoded.VM > 1 else () if value is None else (value,)
    if vr in TEXTS:
        return text_meaning(vr, "\\".join(map(str, values)))
    return () if decoded.VM == 0 else tuple(values)


def _same_items(derived: Sequence[Dataset], source: Sequence[Dataset]) -> bool:
    """Of items, only public elements are compared, as a derived image has no others."""
    return len(derived) == len(source) and all(map(_same_item, derived, source))


def _same_item(derived: Dataset, source: Dataset) -> bool:
    one, other = _public(derived), _public(source)
    return one.keys() == other.keys() and all(
        _same(one[tag], other[tag], derived, source) for tag in one
    )


def _public(item: Dataset) -> dict[BaseTag, Element]:
    return {
        tag: item.get_item(tag)
        for tag in list(item.keys())
        if not (tag.is_private or is_group_length(tag))
    }
