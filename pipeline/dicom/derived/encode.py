"""How a derived image's pixels lie in its file, and whether a source's lost something there.

Compression here is lossless, and proved so slice by slice. A losslessly compressed copy holds
the same image, so it keeps its SOP Instance UID, as an archive that compresses what it stores
keeps it: PS3.3 C.7.6.1.1.2 asks for a new one only where the pixels differ. UIDs therefore do
not depend on the transfer syntax.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_file_meta_info
from pydicom.tag import BaseTag
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, STR_VR

from pipeline.core.errors import ConfigError, LdctError
from pipeline.dicom.read.fast_header import PIXEL_DATA, UNDEFINED, explicit_head
from pipeline.dicom.read.raw_elements import (
    RawDataset,
    in_little_endian,
    is_group_length,
    is_signed_by_pixels,
    vr_of,
    walk_items,
)

#: How explicit VR holds values (PS3.5 7.1.2): the largest length of all but some VRs.
LONG_VRS = frozenset(map(str, EXPLICIT_VR_LENGTH_32))
MAX_SHORT_LENGTH = 0xFFFF
#: VRs whose values have an even length by a space (PS3.5 6.2).
PADDED_BY_SPACES = frozenset(map(str, STR_VR)) - {"UI"}

UNCOMPRESSED = "none"
SYNTAXES = {
    UNCOMPRESSED: ExplicitVRLittleEndian,
    "j2k": JPEG2000Lossless,
    "jpegls": JPEGLSLossless,
    "rle": RLELossless,
}
#: Named, not left to what is installed: another encoder may give other bytes.
ENCODERS = {JPEG2000Lossless: "pylibjpeg", JPEGLSLossless: "pyjpegls", RLELossless: "pydicom"}

#: Transfer syntaxes that may lose, and how Lossy Image Compression Method names them
#: (PS3.3 C.7.6.1.1.5.1).
LOSSY_METHODS = {
    JPEGBaseline8Bit: "ISO_10918_1",
    JPEGExtended12Bit: "ISO_10918_1",
    JPEGLSNearLossless: "ISO_14495_1",
    JPEG2000: "ISO_15444_1",
    HTJ2K: "ISO_15444_15",
}


def require_syntax(syntax: str) -> None:
    """Raises ConfigError for what is not one of SYNTAXES."""
    if syntax not in SYNTAXES:
        raise ConfigError(f"no transfer syntax {syntax!r}: choose one of {', '.join(SYNTAXES)}")


def save_image(derived: Dataset, stored: NDArray, path: Path, *, syntax: str) -> None:
    """Give the header its pixels and write it, by the name of one of SYNTAXES.

    stored: [rows, columns], or [frames, rows, columns] where the header has a NumberOfFrames.
    The header's elements may have been read in any encoding. Raises LdctError for pixels that
    cannot be compressed without loss.
    """
    keep_bytes(derived)
    derived.file_meta.TransferSyntaxUID = SYNTAXES[syntax]
    if syntax == UNCOMPRESSED:
        content = stored.tobytes() + bytes(stored.nbytes % 2)
        tag = BaseTag(PIXEL_DATA)
        derived[tag] = RawDataElement(tag, "OW", len(content), content, 0, False, True)
        _save_as_read(derived, path)
        return
    _compress(derived, stored, syntax)
    derived.save_as(path, enforce_file_format=True)


def copy_of(source: RawDataset, tags: Iterable[BaseTag]) -> Dataset:
    """A data set of these elements as they were read; raw ones, which are immutable, are shared."""
    elements = ((tag, source.elements[tag]) for tag in tags)
    copied = Dataset(
        {tag: e if isinstance(e, RawDataElement) else copy.deepcopy(e) for tag, e in elements}
    )
    read = source.dataset
    copied.set_original_encoding(*read.original_encoding, read.original_character_set)
    return copied


def keep_bytes(dataset: Dataset, *, implicit: bool = False) -> None:
    """Make a data set that was read in any encoding one that is written in little endian with
    its values' own bytes.

    These are the same in implicit and explicit VR (PS3.5 7.1): a value that was read lacks only
    its VR. Numbers of big endian are swapped. Also inside sequences; group lengths go.
    """
    signed = dataset.get("PixelRepresentation") == 1
    for item in walk_items(dataset):
        for tag in list(item.keys()):
            element = item.get_item(tag)
            if is_group_length(tag):
                del item[tag]
            elif isinstance(element, RawDataElement) and vr_of(element) != "SQ":
                item[tag] = _with_vr(element, signed)
        item.set_original_encoding(implicit, True, item.original_character_set)


def _with_vr(element: RawDataElement, signed: bool) -> RawDataElement:
    """The element with a VR and an even length, which PS3.5 7.1.1 asks for, as it may lack."""
    value, vr = in_little_endian(element), element.VR
    if vr is None:
        vr = "SS" if signed and is_signed_by_pixels(element.tag) else vr_of(element)
    if len(value) > MAX_SHORT_LENGTH and vr not in LONG_VRS:
        vr = "UN"  # PS3.5 6.2.2: the only VR that holds so many bytes
    if len(value) % 2:
        value += b" " if vr in PADDED_BY_SPACES else b"\0"
    length = element.length if element.length == UNDEFINED else len(value)
    return element._replace(
        VR=vr, length=length, value=value, is_implicit_VR=False, is_little_endian=True
    )


def _save_as_read(derived: Dataset, path: Path) -> None:
    """Write as pydicom's save_as does for explicit little endian, in a third of its time.

    Values that were read are written unchanged after their tag, VR and length (PS3.5 section
    7.1.2); pydicom writes what was set here.
    """
    encoded = _explicit()
    encoded.write(bytes(128) + b"DICM")
    write_file_meta_info(encoded, derived.file_meta)
    for tag in sorted(derived.keys(), key=int):
        element = derived.get_item(tag)
        if element.is_raw and element.length != UNDEFINED and vr_of(element) != "SQ":
            encoded.write(explicit_head(tag, element.VR, len(element.value)))
            encoded.write(element.value)
        else:
            write_data_element(encoded, element, derived.get("SpecificCharacterSet"))
    path.write_bytes(encoded.getvalue())


def _explicit() -> DicomBytesIO:
    stream = DicomBytesIO()
    stream.is_implicit_VR, stream.is_little_endian = False, True
    return stream


def _compress(derived: Dataset, stored: NDArray, syntax: str) -> None:
    uid = SYNTAXES[syntax]
    pixels = stored[0] if len(stored) == derived.get("NumberOfFrames") == 1 else stored
    try:
        derived.compress(
            uid, arr=pixels, encoding_plugin=ENCODERS[uid], generate_instance_uid=False
        )
        exact = np.array_equal(derived.pixel_array, pixels)
    except (ValueError, RuntimeError) as error:
        # Most often padding that lies beyond BitsStored, which no compressed syntax can hold.
        reason = " ".join(str(error).split())
        raise LdctError(
            f"PixelData cannot be compressed as {syntax!r} ({reason}); write it uncompressed"
        ) from error
    if not exact:
        raise LdctError(f"PixelData is not the same after {syntax!r}; write it uncompressed")


def is_lossy(dataset: Dataset) -> bool:
    """Whether the pixels are known to have been compressed with loss, here or in an ancestor."""
    if dataset.get("LossyImageCompression") == "01":
        return True
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax not in LOSSY_METHODS:
        return False
    try:
        code = get_frame(dataset.PixelData, 0, number_of_frames=1)
    except ValueError:  # no pixels to ask: the syntax is all there is
        return True
    if syntax in (JPEG2000, HTJ2K):
        # COD marker (ISO/IEC 15444-1 A.6.1): transform 0 is the irreversible one. A reversible
        # one is common under these syntaxes, and only the header could say that it was cut.
        start = code.find(b"\xff\x52")
        return start >= 0 and code[start + 13 : start + 14] == b"\0"
    if syntax == JPEGLSNearLossless:
        # SOS marker of one component (ISO/IEC 14495-1 C.2.3): NEAR, the error allowed.
        start = code.find(b"\xff\xda")
        return start < 0 or code[start + 7 : start + 8] != b"\0"
    return True


def declare_loss(derived: Dataset, source: Dataset) -> None:
    """Declare the loss of the source's encoding in the derived header, if the source does not.

    What the source declares is kept: loss cannot be undone (PS3.3 C.7.6.1.1.5).
    """
    if source.get("LossyImageCompression") == "01" or not is_lossy(source):
        return
    size = source.Rows * source.Columns * source.BitsStored / 8
    derived.LossyImageCompression = "01"
    derived.LossyImageCompressionRatio = f"{size / len(source.PixelData):.4g}"
    derived.LossyImageCompressionMethod = LOSSY_METHODS[source.file_meta.TransferSyntaxUID]
