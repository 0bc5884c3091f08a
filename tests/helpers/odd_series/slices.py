"""One slice of a case as the elements of a CT Image (PS3.3 A.3), with its pixels."""

from __future__ import annotations

import struct
from dataclasses import replace

from pydicom.datadict import tag_for_keyword
from pydicom.uid import CTImageStorage

from helpers.odd_series.attributes import (
    PHASES,
    ROOTS,
    header_elements,
    joined,
    pixel_description,
)
from helpers.odd_series.case import OddSeries
from helpers.odd_series.codecs import compressed
from helpers.odd_series.encoding import PIXEL_DATA, Element, number, text
from helpers.odd_series.pixels import Coding, SlicePixels, padding_elements, slice_pixels


def pixels_of(case: OddSeries, index: int, phase: int = 0) -> SlicePixels:
    """What slice `index` shows; phases differ in their noise."""
    content = replace(case.content, seed=case.content.seed + 100_000 * phase)
    shape = (case.rows, case.columns)
    return slice_pixels(coding_of(case, index), case.padding, content, shape, index)


def coding_of(case: OddSeries, index: int) -> Coding:
    """Every second slice has a rescale of its own, where scanners choose one for each."""
    slope, intercept = case.coding.rescale
    if not case.own_rescales or index % 2 == 0:
        return case.coding
    return replace(case.coding, rescale=(slope, f"{float(intercept) - 24:g}"))


def sop_uid(case: OddSeries, index: int, phase: int) -> str:
    return f"{ROOTS[case.header.root]}.3.{phase}.{index + 1}"


def slice_elements(case: OddSeries, index: int, phase: int = 0) -> list[Element]:
    """All elements of slice `index`; a later one of the same tag replaces an earlier one."""
    numbered = index + phase * case.geometry.slices
    found = [
        *identity(case, CTImageStorage, sop_uid(case, index, phase)),
        *header_elements(case.header, numbered, case.geometry.slices * case.phase_count),
        *_geometry(case, index),
        *pixel_module(case, pixels_of(case, index, phase), coding_of(case, index)),
    ]
    if case.phases:
        value = PHASES[case.phases][phase]
        is_uid = case.phases == "SeriesInstanceUID"
        found.append(text(case.phases, ROOTS[case.header.root] + value if is_uid else value))
    return list({element.tag: element for element in found}.values())


def identity(case: OddSeries, sop_class: str, uid: str) -> list[Element]:
    """Who and what it is; `class_in_meta` leaves the class to the file's meta information."""
    root = ROOTS[case.header.root]
    return [
        *([] if case.header.class_in_meta else [text("SOPClassUID", sop_class)]),
        text("SOPInstanceUID", uid),
        text("StudyInstanceUID", f"{root}.1"),
        text("SeriesInstanceUID", f"{root}.2"),
        text("FrameOfReferenceUID", f"{root}.4"),
        text("PatientID", case.header.patient_id),
        text("Modality", case.header.modality),
    ]


def _geometry(case: OddSeries, index: int) -> list[Element]:
    geometry = case.geometry
    found = [
        text("PixelSpacing", joined(geometry.spacing_of(index))),
        text("ImageOrientationPatient", joined(geometry.cosines[index])),
        text("ImagePositionPatient", joined(geometry.positions[index])),
    ]
    return [_unknown(case, element) for element in found]


def pixel_module(case: OddSeries, pixels: SlicePixels, coding: Coding) -> list[Element]:
    """The Image Pixel module, the rescale, and overlays in the pixels' unused bits."""
    high_bit = 15 if coding.top else coding.bits - 1
    found = [
        *pixel_description(
            case.rows, case.columns, (coding.bits, coding.signed, high_bit), case.header.photometric
        ),
        *padding_elements(coding, case.padding),
        number("SmallestImagePixelValue", 0, vr="SS" if coding.signed else "US"),
        _unknown(case, text("RescaleSlope", coding.rescale[0])),
        _unknown(case, text("RescaleIntercept", coding.rescale[1])),
        _pixel_data(case, pixels),
    ]
    for plane, bit in enumerate(case.content.overlay_bits):
        found += _overlay(case, plane, bit)
    return found


def _unknown(case: OddSeries, element: Element) -> Element:
    tags = {tag_for_keyword(keyword) for keyword in case.header.as_un}
    return replace(element, vr="UN", value=element.padded) if element.tag in tags else element


def _pixel_data(case: OddSeries, pixels: SlicePixels) -> Element:
    if not case.storage.is_compressed:
        content = pixels.cells.tobytes() + bytes(case.storage.pixels_behind)
        return Element(PIXEL_DATA, case.storage.pixel_vr, content)
    parts = _split(stream_of(case, pixels), case.storage.fragments)
    table = struct.pack("<I", 0) if case.storage.offsets else b""
    return Element(PIXEL_DATA, "OB", fragments=(table, *parts))


def stream_of(case: OddSeries, pixels: SlicePixels) -> bytes:
    """The compressed pixels, of an even length."""
    cells = pixels.cells.view(case.coding.dtype)
    stream = compressed(cells, case.coding.bits, case.storage.syntax)
    return stream + b"\0" * (len(stream) % 2)


def _split(stream: bytes, count: int) -> list[bytes]:
    """Fragments of even lengths (PS3.5 A.4)."""
    size = max(2, len(stream) // count // 2 * 2)
    cuts = [*range(0, size * count, size)][:count]
    return [stream[at : at + size if at != cuts[-1] else None] for at in cuts]


def _overlay(case: OddSeries, plane: int, bit: int) -> list[Element]:
    """An overlay in the pixels' unused bits, retired with the 2004 edition (PS3.3 C.9.2)."""
    group = 0x6000 + 2 * plane << 16
    return [
        Element(group | 0x0010, "US", struct.pack("<H", case.rows)),
        Element(group | 0x0011, "US", struct.pack("<H", case.columns)),
        Element(group | 0x0040, "CS", b"G"),
        Element(group | 0x0050, "SS", struct.pack("<hh", 1, 1)),
        Element(group | 0x0100, "US", struct.pack("<H", 16)),
        Element(group | 0x0102, "US", struct.pack("<H", bit)),
    ]
