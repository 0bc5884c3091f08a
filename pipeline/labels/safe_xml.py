"""A parser for XML of unknown origin, which refuses entities (XXE, entity expansion)."""

from __future__ import annotations

from xml.etree import ElementTree

from pipeline.core.refusals import Unreadable

#: Four readers' outlines of a whole scan are one or two megabytes.
MAX_BYTES = 64 * 1024 * 1024


def parse_xml(content: bytes) -> ElementTree.Element:
    """The root element; raises Unreadable for what is damaged, huge or declares entities."""
    if len(content) > MAX_BYTES:
        raise Unreadable(f"XML of {len(content)} bytes: no label file is so large")
    # UTF-16 and UTF-32 would hide the declarations.
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content or b"\0" in content[:64]:
        raise Unreadable("XML that declares a document type: refused unread")
    try:
        return ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise Unreadable("damaged XML") from error
