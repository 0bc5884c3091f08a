"""One file's header: is it a CT slice, and has it all that a slice needs?

Pixels are not read here. A file that is no CT slice is excluded; one that should be and cannot
be used is quarantined.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    CTImageStorage,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
)

from pipeline.core.library_warnings import library_remarks
from pipeline.core.refusals import Disposition, Refusal, Unreadable
from pipeline.dicom.read.enhanced import frame_headers, is_multi_frame_ct, load_frame
from pipeline.dicom.read.fast_header import HEAD_BYTES, PixelSpan, scan
from pipeline.dicom.read.file_meta import complete, lacks_what_meta_has
from pipeline.dicom.read.files import opened, read_dataset, read_with_remarks
from pipeline.dicom.read.header_tags import CODES, HEADER_TAGS
from pipeline.dicom.read.identifiers import identifier_remarks
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.made_up_uids import name_by_folder, was_made_here
from pipeline.dicom.read.object_kind import (
    UNKNOWN_CLASS,
    is_damaged_class,
    not_dicom,
    other_object,
)
from pipeline.dicom.read.raw_elements import set_value
from pipeline.dicom.read.slice_requirements import (
    UID_KEYWORDS,
    numbers,
    position_mm,
    require_slice,
    tidy_code,
)
from pipeline.dicom.read.to_rescale import copy_changed, has_other_pixels, to_rescale

#: Values longer than this are skipped when a whole header is read: none of HEADER_TAGS is.
DEFER_ABOVE_BYTES = 64 * 1024

#: Transfer syntaxes that cannot hold a lossless image; of JPEG 2000, 91 can.
LOSSY_SYNTAXES = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)
#: PS3.5 A.4.4 and A.4.11: reversible or not, which the code stream says alone.
MAYBE_LOSSY_SYNTAXES = (JPEG2000, HTJ2K)


@dataclass(frozen=True)
class Instance:
    """One slice's file, its header (no pixels) and its place along the series' normal.

    frame counts from 0 in a multi-frame file; None for a file that holds just this slice.
    pixels says where they lie in the file, if they need no decoder. remarks: what is odd in the
    file and was carried on, for the series' warnings. completed: the file itself lacks what
    `load` gives, or is in another encoding than it says (pipeline.dicom.read.file_meta).
    """

    path: Path
    header: Dataset
    position_mm: float
    frame: int | None = None
    pixels: PixelSpan | None = None
    remarks: tuple[str, ...] = ()
    completed: bool = False

    @property
    def is_lossy(self) -> bool:
        """Compressed with loss, now or earlier: by LossyImageCompression or transfer syntax."""
        return is_lossy(self.header)

    @property
    def is_unidentified(self) -> bool:
        """Whether a UID was made here, from its folder (IngestOptions.unidentified)."""
        return any(was_made_here(self.header, name) for name in UID_KEYWORDS)

    @property
    def origin_mm(self) -> NDArray[np.float64]:
        """ImagePositionPatient: (x, y, z) of the first pixel's centre in LPS mm."""
        return numbers(self.header, "ImagePositionPatient", 3)

    def load(self, *, pixels: bool = True) -> Dataset:
        """The slice as a single-frame data set, with its pixels as they are stored or without.

        Raises Unreadable, and what pydicom raises, where the file is damaged.
        """
        if self.frame is not None:
            dataset = load_frame(self.path, self.frame)
            _tidy_photometric(dataset)
        else:
            dataset = read_dataset(self.path, stop_before_pixels=not (pixels or self.completed))
            complete(dataset)
            if is_damaged_class(_sop_class(dataset)):
                set_value(dataset, "SOPClassUID", CTImageStorage)
            _tidy_photometric(dataset)
            if self.completed:
                to_rescale(dataset)
        if not pixels:
            dataset.pop("PixelData", None)
        return dataset


def read_instances(
    path: Path,
    intake: IngestOptions = IngestOptions(),  # noqa: B008  (frozen)
) -> list[Instance] | Refusal:
    """The slices of a file, or a Refusal for a file that is no CT image.

    intake: the user's choices; `unidentified` and `rescale_type` matter here. Raises Unreadable
    for a CT image that cannot be used.
    """
    try:
        with library_remarks() as heard:
            found = _read_instances(path, intake)
    except InvalidDicomError:
        return not_dicom(path)
    except Unreadable:
        raise
    except (PermissionError, FileNotFoundError) as error:
        raise Unreadable(f"cannot be opened: {error.strerror}") from error
    except Exception as error:  # damaged streams raise many kinds, in pydicom and behind it
        raise Unreadable(f"damaged header ({type(error).__name__})") from error
    if not heard or isinstance(found, Refusal):
        return found
    return [replace(instance, remarks=(*instance.remarks, *heard)) for instance in found]


def _read_instances(path: Path, intake: IngestOptions) -> list[Instance] | Refusal:
    header, pixels, form = _header(path)
    named = name_by_folder(header, path) if intake.unidentified == "folder" else ()
    slices: list[tuple[Dataset, int | None]] = [(header, None)]
    if is_multi_frame_ct(_sop_class(header)):
        dataset = read_dataset(path, stop_before_pixels=True)
        complete(dataset)
        frames = frame_headers(dataset)
        slices = [(frame_header, number) for number, frame_header in enumerate(frames)]
    lower = [_tidy_codes(one) for one, _ in slices]
    in_meta = _meta(header, "MediaStorageSOPClassUID")
    others = [other_object(one, _sop_class(one), in_meta) for one, _ in slices]
    if others[0] and all(others):
        return Refusal(path, Disposition.EXCLUDED, *others[0])
    found = []
    for (slice_header, frame), other, cased in zip(slices, others, lower, strict=True):
        if other:
            continue  # a localizer's frame among slices
        rescaled: tuple[str, ...] = ()
        if frame is None and has_other_pixels(slice_header):
            pixels, rescaled = None, _rescaled(slice_header, path)
        # All of them at once: a value that cannot be decoded shows here, not later.
        values = plain_values(slice_header)
        odd = require_slice(values, rescale_type=intake.rescale_type)
        remarks = (*form, *named, *rescaled, *cased, *odd, *identifier_remarks(values))
        completed = bool(form or rescaled)
        if is_damaged_class(_sop_class(slice_header)):
            set_value(slice_header, "SOPClassUID", CTImageStorage)
            remarks, completed = (*remarks, UNKNOWN_CLASS), True
        place = position_mm(values)
        found.append(Instance(path, slice_header, place, frame, pixels, remarks, completed))
    return found


def _tidy_codes(header: Dataset) -> list[str]:
    """Make codes upper-case and free of padding, as PS3.5 6.2 (VR CS) has them; a remark on those
    in lower case."""
    lower = []
    for name in CODES:
        held = header.get(name) or ""
        codes = [held] if isinstance(held, str) else list(held)
        tidy = list(map(tidy_code, codes))
        if tidy != codes:
            set_value(header, name, tidy if len(tidy) > 1 else tidy[0])
        if any(code != code.upper() for code in codes):
            lower.append(name)
    return [f"codes in lower case were read in upper case: {', '.join(lower)}"] if lower else []


def _tidy_photometric(dataset: Dataset) -> None:
    photometric = str(dataset.get("PhotometricInterpretation") or "")
    if tidy_code(photometric) != photometric:  # no decoder takes another
        dataset.PhotometricInterpretation = tidy_code(photometric)


def _rescaled(header: Dataset, path: Path) -> tuple[str, ...]:
    """Give the header what its pixels are changed to; remarks on that."""
    dataset = read_dataset(path)
    _tidy_photometric(dataset)
    remarks = to_rescale(dataset)
    copy_changed(dataset, header)
    return remarks


def plain_values(header: Dataset) -> dict[str, Any]:
    """A slice header's values by keyword: looking many up in a data set takes longer.

    Of HEADER_TAGS alone: a frame's header also holds what nothing here depends on, and private
    values may be other than pydicom's dictionary expects.
    """
    return {
        HEADER_TAGS[int(tag)]: (
            element.value if isinstance(element, DataElement) else header[tag].value
        )
        for tag, element in list(header.items())
        if int(tag) in HEADER_TAGS
    }


def _header(path: Path) -> tuple[Dataset, PixelSpan | None, tuple[str, ...]]:
    """A file's header, where its plain pixels lie, and remarks on the file's form."""
    with opened(path) as stream:
        head = stream.read(HEAD_BYTES)
    scanned = scan(head, HEADER_TAGS)
    if scanned and not lacks_what_meta_has(scanned[0]):
        return *scanned, ()
    header, remarks = read_with_remarks(
        path,
        stop_before_pixels=True,
        specific_tags=sorted(HEADER_TAGS),
        defer_size=DEFER_ABOVE_BYTES,
    )
    return header, None, (*remarks, *complete(header))


def is_lossy(header: Dataset) -> bool:
    """Compressed with loss, now or earlier: by LossyImageCompression or transfer syntax."""
    declared = str(header.get("LossyImageCompression", "")) == "01"
    return declared or _meta(header, "TransferSyntaxUID") in LOSSY_SYNTAXES


def may_be_lossy(header: Dataset) -> bool:
    """The same, or compressed by a transfer syntax that allows loss and need not have any."""
    return is_lossy(header) or _meta(header, "TransferSyntaxUID") in MAYBE_LOSSY_SYNTAXES


def _sop_class(header: Dataset) -> UID:
    return UID(header.SOPClassUID)


def _meta(header: Dataset, name: str) -> str:
    """An attribute of the file's meta information; "" where there is none."""
    meta = getattr(header, "file_meta", None)
    return "" if meta is None else str(meta.get(name, ""))
