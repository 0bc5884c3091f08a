"""What a header says of being derived: from which images, by what, and as what."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.uid import ParametricMapStorage, RTStructureSetStorage, SegmentationStorage

from pipeline.core.versions import SOFTWARE
from pipeline.dicom.derived.write import MADE_UP, PROCESSED_SOURCE, SUBTRACTED
from pipeline.dicom.read.enhanced import source_reference
from pipeline.dicom.read.headers import Instance
from pipeline.dicom.read.object_kind import LABEL_MAP_SEGMENTATION
from pipeline.dicom.read.raw_elements import walk_items
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.slice_requirements import optional_number

#: How the description of a derived series begins, so that it is not mistaken for the original.
MARKINGS = ("AI ", "SIMULATED ", "DIFFERENCE ")
DIFFERENCE = "DIFFERENCE"

#: Objects that hold structures of images, by their class.
SEGMENTATIONS = (SegmentationStorage, LABEL_MAP_SEGMENTATION)
STRUCTURES = (*SEGMENTATIONS, RTStructureSetStorage)
#: Objects that are about the images of a series and are none themselves.
ABOUT_IMAGES = (*STRUCTURES, ParametricMapStorage)
#: Where these reference their images: the first of these sequences that is there.
REFERENCE_SEQUENCES = (
    "ReferencedSeriesSequence",
    "ReferencedFrameOfReferenceSequence",
    "PerFrameFunctionalGroupsSequence",
    "ROIContourSequence",
)

#: What a derived object has as its source has it.
KEPT_KEYWORDS = ("StudyInstanceUID", "PatientID", "FrameOfReferenceUID", "ConvolutionKernel", "KVP")

ImageKey = tuple[str, int]


def code_of(item: Dataset) -> tuple[str, str]:
    """(CodeValue, CodingSchemeDesignator) of a code sequence's item."""
    return str(item.get("CodeValue", "")), str(item.get("CodingSchemeDesignator", ""))


def is_difference(header: Dataset) -> bool:
    """Whether the values are differences, on a grid of their own."""
    return SUBTRACTED[:2] in map(code_of, header.get("DerivationCodeSequence") or ())


def is_generated(header: Dataset) -> bool:
    """Whether the series says that a part of its images was made up and not measured."""
    return str(header.get("SeriesDescription") or "").startswith(MADE_UP)


def own_equipment(header: Dataset) -> list[Dataset]:
    """The items of ContributingEquipmentSequence that this software wrote."""
    items = header.get("ContributingEquipmentSequence") or ()
    return [item for item in items if item.get("Manufacturer") == SOFTWARE]


def key_of(reference: Dataset) -> ImageKey:
    """The image of a reference: (SOPInstanceUID, frame number), 0 for a single-frame image."""
    number = reference.get("ReferencedFrameNumber")
    frame = int(number) if isinstance(number, int | str) and number else 0
    return str(reference.get("ReferencedSOPInstanceUID", "")), frame


def structures_of(header: Dataset) -> tuple[set[str], set[str]]:
    """The UIDs of the series, and of the images, that a SEG or RTSTRUCT references."""
    for name in REFERENCE_SEQUENCES:
        items = [item for group in header.get(name) or () for item in walk_items(group)]
        series = {str(item.get("SeriesInstanceUID") or "") for item in items} - {""}
        images = {str(item.get("ReferencedSOPInstanceUID") or "") for item in items} - {""}
        if series or images:
            return series, images - {str(header.get("StudyInstanceUID"))}
    return set(), set()


def references(header: Dataset) -> list[ImageKey]:
    """The images in SourceImageSequence."""
    return [key_of(item) for item in header.get("SourceImageSequence") or ()]


def keys_of(series: Series) -> dict[ImageKey, Instance]:
    """A series' slices by the keys that references to them have."""
    return {key_of(source_reference(i.header, i.frame)): i for i in series.instances}


def likeness(header: Dataset, source: Series) -> int:
    """How much of what derived objects keep of their source a header has in common with a series.

    It distinguishes series that share the UIDs of their images, which references alone cannot.
    """
    original, description = source.header, str(header.get("SeriesDescription") or "")
    kept = [header.get(name) == original.get(name) for name in KEPT_KEYWORDS]
    numbers = [optional_number(one, "SeriesNumber") or 0 for one in (header, original)]
    numbered_after = numbers[0] // 100 == abs(numbers[1])  # write.series_number
    return sum(kept) + numbered_after + (source.part.replace("\\", "/") in description)


def claims_to_be_derived(header: Dataset) -> bool:
    """Whether a header says that its image is derived.

    Scanners write SourceImageSequence in originals too, but with other purposes. SEG, RTSTRUCT
    and Parametric Maps are always derived: for these, whether this software wrote them.
    """
    ours = own_equipment(header) or str(header.get("SeriesDescription") or "").startswith(MARKINGS)
    if header.get("SOPClassUID") in ABOUT_IMAGES:
        return bool(ours)
    purposes = (
        code_of(purpose)
        for item in header.get("SourceImageSequence") or ()
        for purpose in item.get("PurposeOfReferenceCodeSequence") or ()
    )
    return bool(
        list(header.get("ImageType") or ())[:1] == ["DERIVED"]
        or header.get("DerivationDescription")
        or header.get("DerivationCodeSequence")
        or ours
        or PROCESSED_SOURCE[:2] in purposes
    )
