"""An odd series as a list of choices, and the hypothesis strategies that draw them.

The first value of each choice is the ordinary one: a failing case shrinks to the oddities that it
takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import strategies as st
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from helpers.odd_series.attributes import (
    CHARACTER_SETS,
    IMAGE_TYPES,
    MAY_BE_EMPTY,
    MISLEADING,
    OPTIONAL,
    PHASES,
    ROOTS,
    Header,
)
from helpers.odd_series.codecs import COMPRESSED_SYNTAXES, SMALLEST_JPEG_2000
from helpers.odd_series.geometry import DIRECTIONS, Geometry
from helpers.odd_series.pixels import Coding, Content, Padding, is_possible

PLAIN_SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
#: Slope and intercept by (bits, signed), with air within the range of values.
RESCALES = {
    (16, True): ["1 -1024", "1 0", "1.0 -1024.0", "0.1 0", "-1 0", "1.5 -1024.5", "1e0 -1.024E3"],
    (16, False): ["1 -1024", "1 -8192", "1 -32768", "0.25 -1000.5", "+1 -1000", "2 -1024"],
    (12, True): ["1 0", "1 -24", "1.5 0", "1.00000 0.00000"],
    (12, False): ["1 -1024", "1 -1000", "-1 3071", "2 -1024", "1.5 -1024.25"],
}
#: What a converter that did not know these attributes would have written as UN.
NUMBERS_OF_PLACE_AND_VALUE = (
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "RescaleSlope",
    "RescaleIntercept",
)
#: Forms of file names, and what else lies in the folder.
NAMES = ("numbers", "uids", "no suffix", "folders", "letters")
BESIDE = ("localizer", "report", "text", "hidden", "private class")
BITS = {12: (12, 13, 14), 16: (16, 15)}


@dataclass(frozen=True)
class Storage:
    """How files are written. offsets: a filled basic offset table. fragments: of one compressed
    frame. names: of the files. beside: other objects in the folder. copy: one slice is there
    twice. zipped: all lie in an archive. pixel_vr, pixels_behind: of PixelData, and bytes after the
    last pixel. multi_frame: "enhanced" or "legacy", one file; per_frame: with nothing shared."""

    syntax: str = ExplicitVRLittleEndian
    undefined: bool = False
    group_lengths: bool = False
    start: str = "preamble"
    trailing_padding: int = 0
    offsets: bool = False
    fragments: int = 1
    names: str = "numbers"
    shuffle_seed: int = 0
    beside: frozenset[str] = frozenset()
    copy: bool = False
    zipped: bool = False
    pixel_vr: str = "OW"
    pixels_behind: int = 0
    multi_frame: str = ""
    per_frame: bool = False

    @property
    def is_compressed(self) -> bool:
        return self.syntax in COMPRESSED_SYNTAXES


@dataclass(frozen=True)
class OddSeries:
    """Everything that makes one case; `build.write_series` turns it into files. own_rescales:
    slices differ in theirs. phases: the attribute by which two volumes in one place differ."""

    rows: int = 8
    columns: int = 12
    geometry: Geometry = field(default_factory=Geometry)
    coding: Coding = field(default_factory=Coding)
    padding: Padding = field(default_factory=Padding)
    content: Content = field(default_factory=Content)
    header: Header = field(default_factory=Header)
    storage: Storage = field(default_factory=Storage)
    own_rescales: bool = False
    phases: str = ""

    @property
    def phase_count(self) -> int:
        return 2 if self.phases else 1


def _one_of(*values: object) -> st.SearchStrategy:
    return st.sampled_from(values)


def _some_of(values: tuple[str, ...]) -> st.SearchStrategy[frozenset[str]]:
    return st.one_of(
        st.just(frozenset()),
        st.frozensets(st.sampled_from(values), max_size=4),
        st.frozensets(st.sampled_from(values)),
    )


def geometries() -> st.SearchStrategy[Geometry]:
    """Every plane, turned and tilted."""
    return st.builds(
        Geometry,
        plane=_one_of(*DIRECTIONS),
        turned=st.tuples(_one_of(0.0, 5.0, 17.0, -33.3), _one_of(0.0, 0.5, -12.0)),
        tilt=_one_of(0.0, 0.0, 10.0, -24.5),
        slices=st.integers(3, 6),
        step_mm=_one_of(2.5, -2.5, 0.625, 1.0, -5.0, 3.75),
        spacing=_one_of(
            ("0.80", "0.70"),
            ("0.703125", "0.703125"),
            ("7.03125e-01", "7.03125e-01"),
            (" 0.9765625", "0.9765625"),
            ("1", "1"),
            ("+.5", "+.5"),
        ),
        origin_mm=st.tuples(
            _one_of(-10.5, 0.0, 123.456), _one_of(-20.25, 200.0), _one_of(0.0, -1234.5)
        ),
        decimals=_one_of(6, 3, 1, 10),
        style=_one_of("plain", "trimmed", "plus", "exponent", "leading", "trailing", "long"),
        jitter=_one_of(0.0, 0.0, 2e-7, 8e-10),
        mixed_texts=st.booleans(),
    )


@st.composite
def codings(draw: st.DrawFn, storage: Storage) -> Coding:
    """Bits, sign, rescale, and where the bits lie; compressed streams hold values alone."""
    kind = draw(_one_of(*RESCALES))
    slope, intercept = draw(_one_of(*RESCALES[kind])).split()
    bits = draw(_one_of(*BITS[kind[0]]))
    if bits == 15 and intercept == "-32768":
        bits = 16
    if storage.is_compressed or bits == 16:
        return Coding(bits, kind[1], (slope, intercept))
    top, unused = draw(_one_of((False, "sign"), (False, "zero"), (True, "sign")))
    return Coding(bits, kind[1], (slope, intercept), top, unused)


@st.composite
def paddings(draw: st.DrawFn, coding: Coding) -> Padding:
    """Padding that lies below what is measured."""
    kind = draw(_one_of("none", "declared", "range", "idle", "silent"))
    value = draw(_one_of(0, 48, 29744, 30768))
    padding = Padding(kind, value, draw(st.booleans()))
    return padding if is_possible(coding, padding) else Padding()


@st.composite
def contents(draw: st.DrawFn, coding: Coding, storage: Storage) -> Content:
    """What is shown, with overlays where bits are left for them."""
    content = Content(draw(st.integers(0, 2**16)), draw(st.booleans()), draw(st.booleans()))
    if storage.is_compressed or storage.multi_frame or coding.top or coding.bits > 14:
        return content
    bits = draw(_one_of((), (15,), (14,), (14, 15)))
    return replace(
        content, overlay_bits=bits, drawing=draw(_one_of("scattered", "dot", "line", "blank"))
    )


def headers() -> st.SearchStrategy[Header]:
    """What headers say, leave out, and how."""
    optional = tuple(OPTIONAL)
    return st.builds(
        Header,
        left_out=_some_of(optional),
        emptied=_some_of(MAY_BE_EMPTY),
        as_un=_some_of((*optional, *NUMBERS_OF_PLACE_AND_VALUE)),
        numbering=_one_of(
            "ordinary",
            "reversed",
            "late",
            "constant",
            "absent",
            "empty",
            "plus",
            "zeros",
            "leading",
            "shuffled",
            "decimal",
            "text",
        ),
        image_type=_one_of(*IMAGE_TYPES, None),
        rescale_type=_one_of("HU", "", "HU ", "hu", "Houndsfield Unit"),
        vendor=_one_of("none", "Siemens", "GE", "Philips", "Canon", "huge", "unknown sequence"),
        blanks=_one_of("none", "trailing", "leading", "only"),
        charset=_one_of(*CHARACTER_SETS),
        sequences=st.booleans(),
        photometric=_one_of("MONOCHROME2", "MONOCHROME1", "MONOCHROME2 ", "monochrome2"),
        kvp_styles=_one_of(("120",), ("120.0",), ("120", "120.0", "1.2e2"), ("+120 ", " 120")),
        root=_one_of(*ROOTS),
        class_in_meta=_one_of(False, False, True),
        patient_id=_one_of("SECRET-4711", "", "  ", " 4711 "),
        modality=_one_of("CT", "CT", "ct"),
        misleading=_some_of(tuple(MISLEADING)),
    )


@st.composite
def storages(draw: st.DrawFn) -> Storage:
    """Encodings, and what lies where in the folder."""
    syntax = draw(st.one_of(_one_of(*PLAIN_SYNTAXES), _one_of(*COMPRESSED_SYNTAXES)))
    multi_frame = draw(_one_of("", "", "", "enhanced", "legacy"))
    one_fragment = syntax == RLELossless or multi_frame
    has_vr = syntax in (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
    starts = ("preamble", "text", "meta", *(["bare"] if syntax in PLAIN_SYNTAXES[:2] else []))
    return Storage(
        syntax=syntax,
        undefined=draw(st.booleans()),
        group_lengths=draw(st.booleans()),
        start=draw(_one_of(*starts)),
        trailing_padding=draw(_one_of(0, 2, 1000)),
        offsets=draw(st.booleans()),
        fragments=draw(_one_of(1) if one_fragment else _one_of(1, 2, 3)),
        names=draw(_one_of(*NAMES)),
        shuffle_seed=draw(st.integers(0, 1000)),
        beside=draw(st.frozensets(_one_of(*BESIDE), max_size=2)),
        copy=not multi_frame and draw(_one_of(False, False, True)),
        zipped=draw(_one_of(False, False, True)),
        pixel_vr=draw(_one_of("OW", "OW", "OB", "UN") if has_vr else _one_of("OW")),
        pixels_behind=draw(_one_of(0, 0, 2, 64)),
        multi_frame=multi_frame,
        per_frame=draw(st.booleans()),
    )


@st.composite
def odd_series(draw: st.DrawFn) -> OddSeries:
    """A case that the standard allows, or that scanners and archives are known to write."""
    storage = draw(storages())
    coding = draw(codings(storage))
    is_jpeg_2000 = storage.syntax in (JPEG2000Lossless, JPEG2000)
    smallest = SMALLEST_JPEG_2000 if is_jpeg_2000 else 0
    header = draw(headers())
    if storage.syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian):
        header = replace(header, as_un=frozenset())
    if storage.syntax == ExplicitVRBigEndian and header.vendor == "unknown sequence":
        header = replace(header, vendor="none")  # pydicom cannot read that
    if storage.start == "bare":
        header = replace(header, class_in_meta=False)
    geometry = draw(geometries())
    if storage.multi_frame:
        geometry = replace(geometry, mixed_texts=False, jitter=0.0)
    return OddSeries(
        rows=smallest + draw(_one_of(8, 12, 9)),
        columns=smallest + draw(_one_of(12, 8, 7)),
        geometry=geometry,
        coding=coding,
        padding=draw(paddings(coding)),
        content=draw(contents(coding, storage)),
        header=header,
        storage=storage,
        own_rescales=draw(_one_of(False, False, True)),
        phases="" if storage.multi_frame else draw(st.one_of(st.just(""), _one_of(*PHASES))),
    )
