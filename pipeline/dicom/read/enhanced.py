"""Multi-frame CT (PS3.3 A.38, A.70) as single-frame CT Images, which the rest of the code reads.

A frame becomes an ordinary CT Image: the attributes of the file, and over them those of the
frame's functional groups (PS3.3 C.7.6.16), under the names of the CT Image IOD (C.8.2.1).
Such an image is a conversion, so it follows PS3.3 C.12.1: its UID is new, a function of the
file's UID and the frame, and Conversion Source Attributes Sequence names the object and frame
that exist. Private attributes of groups are left out: side by side their blocks would mix.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import math
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.tag import BaseTag
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage
from pydicom.uid import LegacyConvertedEnhancedCTImageStorage as LegacyConvertedCTImageStorage

from pipeline.core.refusals import Unreadable
from pipeline.dicom.read.file_meta import complete
from pipeline.dicom.read.files import read_dataset

Elements = dict[BaseTag, DataElement | RawDataElement]


def _tags(keywords: str) -> frozenset[BaseTag]:
    return frozenset(BaseTag(tag_for_keyword(keyword) or 0) for keyword in keywords.split())


#: Without these a frame has no place or no values: the attribute, and the group it comes from.
REQUIRED_GROUPS = {
    "PixelSpacing": "PixelMeasuresSequence",
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
}

#: Attributes of the file as a whole, meaningless or wrong for one frame.
MULTI_FRAME_TAGS = _tags(
    "NumberOfFrames SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence "
    "DimensionOrganizationType DimensionOrganizationSequence DimensionIndexSequence "
    "DimensionIndexValues ConcatenationUID ConcatenationFrameOffsetNumber InConcatenationNumber "
    "InConcatenationTotalNumber SOPInstanceUIDOfConcatenationSource RepresentativeFrameNumber "
    "SmallestImagePixelValue LargestImagePixelValue IconImageSequence ReferencedSeriesSequence "
    "PixelData ExtendedOffsetTable ExtendedOffsetTableLengths"
)
#: Attributes that a functional group cannot override: identity, and how pixels are coded.
FILE_LEVEL_TAGS = _tags(
    "SpecificCharacterSet SOPClassUID SOPInstanceUID PatientID StudyInstanceUID SeriesInstanceUID "
    "FrameOfReferenceUID SamplesPerPixel PhotometricInterpretation Rows Columns "
    "BitsAllocated BitsStored HighBit PixelRepresentation"
)
#: Groups whose items are values themselves, not a wrapping of attributes. The last one, what a
#: legacy file was converted from, gives way to the file that was read.
WHOLE_SEQUENCES = _tags(
    "ReferencedImageSequence RealWorldValueMappingSequence ConversionSourceAttributesSequence"
)

#: Names in groups and in a CT Image. It holds whole mA, ms, mAs: the exact ones stay beside them.
RENAMED = {
    "FrameAcquisitionNumber": "AcquisitionNumber",
    "FrameAcquisitionDateTime": "AcquisitionDateTime",
    "FrameComments": "ImageComments",
    "XRayTubeCurrentInmA": "XRayTubeCurrent",
    "ExposureTimeInms": "ExposureTime",
    "ExposureInmAs": "Exposure",
}


#: What a CT Image has, if only empty, and a multi-frame file need not (type 2, PS3.3 A.3.3).
TYPE_2_KEYWORDS = (
    "KVP",
    "AcquisitionNumber",
    "SliceThickness",
    "PositionReferenceIndicator",
    "Manufacturer",
)


def is_multi_frame_ct(sop_class_uid: str) -> bool:
    """Whether objects of this class hold CT slices as frames."""
    return sop_class_uid in (EnhancedCTImageStorage, LegacyConvertedCTImageStorage)


def frame_headers(dataset: Dataset) -> list[Dataset]:
    """Every frame's header as a CT Image's, no pixels; sequences are shared by all of them.

    `dataset` may have been read without its pixels. Raises Unreadable for a damaged file.
    """
    multi_frame = MultiFrame(dataset)
    return [multi_frame.header(frame) for frame in range(multi_frame.count)]


def is_frame(header: Dataset) -> bool:
    """Whether a CT Image is a frame of a multi-frame file, as it is read here."""
    sources = header.get("ConversionSourceAttributesSequence") or ()
    return any(is_multi_frame_ct(item.get("ReferencedSOPClassUID", "")) for item in sources)


def frames_of(dataset: Dataset) -> Iterator[Dataset]:
    """Every frame of a multi-frame CT as single_frame gives it, one after another."""
    multi_frame = MultiFrame(dataset)
    return (multi_frame.image(frame) for frame in range(multi_frame.count))


def single_frame(dataset: Dataset, frame: int) -> Dataset:
    """Frame `frame`, counted from 0, of a multi-frame CT as a CT Image of its own, with pixels.

    Raises Unreadable for a damaged file, and for a frame whose pixels are not there.
    """
    return MultiFrame(dataset).image(frame)


def load_frame(path: Path, frame: int) -> Dataset:
    """single_frame of a file, which stays in memory until another file is read.

    Raises Unreadable as single_frame does.
    """
    # Of a member of an archive, the archive is what can change.
    status = next(place for place in (path, *path.parents) if place.exists()).stat()
    multi_frame = _open_multi_frame(path, (status.st_mtime_ns, status.st_size))
    if isinstance(multi_frame, Unreadable):
        raise Unreadable(multi_frame.reason, multi_frame.attribute, multi_frame.value)
    return multi_frame.image(frame)


@functools.lru_cache(maxsize=1)
def _open_multi_frame(path: Path, stamp: tuple[int, int]) -> MultiFrame | Unreadable:
    """A fault is cached too: else a damaged file would be read again for each of its frames."""
    try:
        with _damage_in("file"):
            dataset = read_dataset(path)
            if not dataset:  # pydicom gives up all that it read
                raise Unreadable("the file ends within its pixels", "PixelData")
            complete(dataset)
            return MultiFrame(dataset)
    except Unreadable as fault:
        return fault


def source_reference(header: Dataset, frame: int | None) -> Dataset:
    """A reference to the stored object: PS3.3 table 10-3 (Image SOP Instance Reference).

    `header` is a slice's; where it is a frame of a multi-frame file, `frame` is not None.
    """
    if frame is not None:
        return copy.deepcopy(header.ConversionSourceAttributesSequence[0])
    reference = Dataset()
    reference.ReferencedSOPClassUID = CTImageStorage
    reference.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return reference


@contextmanager
def _damage_in(what: str, attribute: str = "") -> Iterator[None]:
    """Turn what pydicom raises on damaged values, of many kinds, into Unreadable."""
    try:
        yield
    except Unreadable:
        raise
    except Exception as error:
        raise Unreadable(f"damaged {what} ({type(error).__name__})", attribute) from error


class MultiFrame:
    """A multi-frame file, parsed once; its frames are assembled one by one."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        with _damage_in("multi-frame header"):
            self._per_frame = _per_frame_groups(dataset)
            self.count = len(self._per_frame)
            shared = dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
            self._shared = _attributes(shared[0])
            self._offset = int(dataset.get("ConcatenationFrameOffsetNumber") or 0)
            if not dataset.get("SOPInstanceUID"):
                raise Unreadable("SOPInstanceUID missing or empty", "SOPInstanceUID")
            self._of_file = {
                tag: dataset.get_item(tag)
                for tag in list(dataset.keys())
                # Overlays have frames of their own.
                if tag not in MULTI_FRAME_TAGS and not 0x6000 <= tag.group <= 0x60FF
            }

    def header(self, frame: int) -> Dataset:
        """Frame `frame`, counted from 0, as a CT Image without pixels; raises Unreadable."""
        with _damage_in(f"functional groups of frame {frame + 1}"):
            found = self._shared | _attributes(self._per_frame[frame])
            for keyword, group in REQUIRED_GROUPS.items():
                if tag_for_keyword(keyword) not in found:
                    raise Unreadable(f"frame {frame + 1} has no {keyword} in its {group}", group)
            # Copies: an attribute set in one header must not change in all the others.
            header = Dataset({t: copy.copy(e) for t, e in (self._of_file | found).items()})
            encoding = self._dataset.original_encoding
            header.set_original_encoding(*encoding, self._dataset.original_character_set)
            _add_ct_image_names(header, found)
            if tag_for_keyword("InstanceNumber") not in found:
                # Not InStackPositionNumber, which begins again in each stack.
                header.InstanceNumber = self._offset + frame + 1
            for keyword in TYPE_2_KEYWORDS:
                if keyword not in header:
                    setattr(header, keyword, None)
            self._name(header, frame)
        return header

    def _name(self, header: Dataset, frame: int) -> None:
        """Make the header that of an object of its own, with a reference to the file and frame."""
        source = Dataset()
        source.ReferencedSOPClassUID = self._dataset.SOPClassUID
        source.ReferencedSOPInstanceUID = self._dataset.SOPInstanceUID
        source.ReferencedFrameNumber = frame + 1
        header.ConversionSourceAttributesSequence = [source]
        header.SOPClassUID = CTImageStorage
        header.SOPInstanceUID = frame_uid(self._dataset.SOPInstanceUID, frame)
        header.file_meta = FileMetaDataset()
        header.file_meta.MediaStorageSOPClassUID = CTImageStorage
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
        header.file_meta.TransferSyntaxUID = self._dataset.file_meta.TransferSyntaxUID

    def image(self, frame: int) -> Dataset:
        """Frame `frame`, counted from 0, with its pixels as they are stored; raises Unreadable."""
        if frame >= self.count:
            raise Unreadable(f"no frame {frame + 1}", "NumberOfFrames", self.count)
        image = copy.deepcopy(self.header(frame))
        with _damage_in(f"pixels of frame {frame + 1}", "PixelData"):
            if "PixelData" not in self._dataset:
                raise Unreadable("no pixel data", "PixelData")
            encapsulated = image.file_meta.TransferSyntaxUID.is_encapsulated
            pixels = self._fragment(frame) if encapsulated else self._native(frame)
            image.add_new("PixelData", self._dataset["PixelData"].VR, pixels)
            image["PixelData"].is_undefined_length = encapsulated
        return image

    def _native(self, frame: int) -> bytes:
        """PS3.5 8.1.1: frames lie end to end; all together are padded to an even length."""
        dataset = self._dataset
        samples = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel
        length = samples * (dataset.BitsAllocated // 8)
        pixels = dataset.PixelData[frame * length : (frame + 1) * length]
        if len(pixels) < length:
            reason = f"frame {frame + 1} is cut short: {len(pixels)} bytes, expected {length}"
            raise Unreadable(reason, "PixelData")
        return pixels + b"\0" * (length % 2)

    def _fragment(self, frame: int) -> bytes:
        """PS3.5 A.4: the frame's fragments as one, in an encapsulation of its own."""
        return encapsulate([get_frame(self._dataset.PixelData, frame, number_of_frames=self.count)])


def frame_uid(sop_instance_uid: str, frame: int) -> str:
    """A UID under 2.25 (PS3.5 B.2) for a frame, counted from 0: the same in every run."""
    summary = hashlib.sha256(f"{sop_instance_uid}\0frame {frame + 1}".encode()).digest()
    return f"2.25.{uuid.UUID(bytes=summary[:16], version=5).int}"


def _per_frame_groups(dataset: Dataset) -> list[Dataset]:
    """Each frame's functional groups; as many as the file says it has frames."""
    count = dataset.get("NumberOfFrames")
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if not groups or count != len(groups):
        reason = f"{len(groups)} items in PerFrameFunctionalGroupsSequence, expected one a frame"
        raise Unreadable(reason, "NumberOfFrames", "missing" if count is None else count)
    return list(groups)


def _attributes(groups: Dataset) -> Elements:
    """The attributes of one item of functional groups, without the wrapping, by tag."""
    public = [groups[tag] for tag in list(groups.keys()) if not tag.is_private]
    # What a converter found no group for comes first, and gives way to what has its group.
    public.sort(key=lambda group: not group.keyword.startswith("Unassigned"))
    found: Elements = {}
    for group in public:
        if group.tag in WHOLE_SEQUENCES:
            found[group.tag] = group
        elif group.VR == "SQ" and group.value:
            found |= _common_attributes(list(group.value))
    return found


def _common_attributes(items: list[Dataset]) -> Elements:
    """The attributes of a group that has the same value in all its items.

    Groups have one item, but for example X-ray details one for each of two tubes: with two
    tube voltages there is no KVP that a CT Image could state.
    """
    first, *others = items
    return {
        tag: first.get_item(tag)
        for tag in list(first.keys())
        if not (tag.is_private or tag in FILE_LEVEL_TAGS or tag in MULTI_FRAME_TAGS)
        and all(tag in other and other[tag] == first[tag] for other in others)
    }


def _add_ct_image_names(header: Dataset, found: Elements) -> None:
    """Set attributes under a CT Image's names, unless a converter kept both names."""
    for old, new in RENAMED.items():
        if tag_for_keyword(old) in found and tag_for_keyword(new) not in found:
            value = header[old].value
            if isinstance(value, float):
                value = round(value) if math.isfinite(value) else None
            setattr(header, new, value)
    if header.get("FrameType"):
        header.ImageType = _image_type(list(header.FrameType))


def _image_type(frame_type: list[str]) -> list[str]:
    """PS3.3 C.8.15.3.1.1 to C.8.2.1.1.1: a CT Image is either AXIAL or a LOCALIZER.

    What else value 3 says (VOLUME, ANGIO...) follows; NONE says that value 4 says nothing.
    """
    values = [v for place, v in enumerate(frame_type) if place < 3 or v != "NONE"]
    if values[2:3] not in ([], ["AXIAL"], ["LOCALIZER"]):
        values.insert(2, "AXIAL")
    return values
