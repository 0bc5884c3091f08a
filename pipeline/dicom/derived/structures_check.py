"""Check SEG and RTSTRUCT objects of a series: before they are published, and by `ldct check`.

They must have the patient, study and places of their source, refer to its images, and state what
every derived object states of itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset

from pipeline.dicom.derived.dicom3tools import Validation, attribute_of, files_of, validate
from pipeline.dicom.derived.image_rules import RULES, AttributeRule, Finding
from pipeline.dicom.derived.provenance import ImageKey, key_of, keys_of, structures_of
from pipeline.dicom.derived.series_check import REUSE, Problem
from pipeline.dicom.derived.source_rules import STUDY, tags_of
from pipeline.dicom.derived.structure_objects import contour_points
from pipeline.dicom.read.compare_elements import same_element
from pipeline.dicom.read.files import read_dataset
from pipeline.dicom.read.headers import Instance
from pipeline.dicom.read.object_kind import LABEL_MAP_SEGMENTATION
from pipeline.dicom.read.raw_elements import RawDataset
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.slice_requirements import normal_of, numbers

#: Of the rules for derived images, those that hold for every derived object.
COMMON_RULES = (
    "code-meaning",
    "equipment",
    "marking",
    "file-meta",
    "uid",
    "identity",
    "identity-removed",
)
#: A frame or contour lies in its slice to within this, which is more than decimals may cost.
PLACE_TOLERANCE_MM = 1e-3
UID_KEYWORDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
NEW_FINDING_REMEDY = "write what the program asks for, as the source does"
SOURCE = ("source-image", "name images of the source, and no others")
FRAME = ("frame-of-reference", "take the source's coordinates")
KEPT = ("patient-and-study", "keep the source's attributes")
PLACE = ("place", "put frames and contours where the slices that they name are")
ALGORITHM = ("algorithm", "say by which algorithm and version each segment was made")


@dataclass(frozen=True)
class _StructureObject:
    """A SEG or RTSTRUCT, its source series, and that one's first header; None where unknown."""

    image: RawDataset
    source: Series | None
    first: RawDataset | None

    @property
    def dataset(self) -> Dataset:
        """The object's data set, decoded as needed."""
        return self.image.dataset


def examine_structures(
    path: Path, shown: str, source: Series | None, *, scratch: Path | None = None
) -> tuple[list[Problem], Validation]:
    """What is wrong with an object, and what dciodvfy and dcentvfy find new against its source.

    shown: the file's name in problems. scratch: the folder for temporary copies of the headers
    of source slices that are no files of their own.
    """
    try:
        image = RawDataset(read_dataset(path))
    except Exception as error:  # damaged files raise many kinds
        problem = Problem(shown, "readable", "", type(error).__name__, "write a whole DICOM file")
        return [problem], Validation((), 0, 1)
    first = RawDataset(source.instances[0].load()) if source else None
    checked = _StructureObject(image, source, first)
    problems = [
        Problem(shown, rule.name, attribute, value, rule.remedy)
        for rule in RULES
        if rule.name in COMMON_RULES
        for attribute, value in _broken(rule, checked)
    ]
    for (name, remedy), find in CHECKS.items():
        problems += [Problem(shown, name, *found, remedy) for found in find(checked)]
    validation = _validated(path, checked, scratch)
    problems += [
        Problem("", program, attribute_of(finding), finding, NEW_FINDING_REMEDY)
        for program, finding in validation.new
    ]
    return problems, validation


def _broken(rule: AttributeRule, checked: _StructureObject) -> list[Finding]:
    """What breaks the rule, except for what was copied from the source and is broken there."""
    excused = list(rule.find(checked.first.dataset)) if rule.kept and checked.first else []
    return [finding for finding in rule.find(checked.dataset) if finding not in excused]


def _images(checked: _StructureObject) -> Iterator[Finding]:
    _, named = structures_of(checked.dataset)
    if not named:
        yield "ReferencedSOPInstanceUID", "names no image"
    if checked.source:
        known = {uid for uid, _ in keys_of(checked.source)}
        if named - known:
            yield "ReferencedSOPInstanceUID", f"names {len(named - known)} images not there"


def _frame_of_reference(checked: _StructureObject) -> Iterator[Finding]:
    own = checked.dataset.get("FrameOfReferenceUID")
    if checked.source:
        known = {i.header.get("FrameOfReferenceUID") for i in checked.source.instances}
        if own not in known:
            yield "FrameOfReferenceUID", ""


def _kept(checked: _StructureObject) -> Iterator[Finding]:
    if checked.first is None:
        return
    both = {*checked.image.elements, *checked.first.elements}
    patient = {tag for tag in both if tag.group in (0x0010, 0x0012)}
    for tag in sorted(patient | tags_of(STUDY)):
        if not same_element(tag, checked.image, checked.first):
            yield keyword_for_tag(tag) or str(tag), ""


def _uids(checked: _StructureObject) -> Iterator[Finding]:
    if checked.source is None:
        return
    if checked.dataset.get("SeriesInstanceUID") == checked.source.header.SeriesInstanceUID:
        yield "SeriesInstanceUID", ""
    if checked.dataset.get("SOPInstanceUID") in {uid for uid, _ in keys_of(checked.source)}:
        yield "SOPInstanceUID", ""


def _algorithm(checked: _StructureObject) -> Iterator[Finding]:
    for segment in checked.dataset.get("SegmentSequence") or ():
        made_by = segment.get("SegmentationAlgorithmIdentificationSequence") or ()
        named = all(item.get("AlgorithmName") and item.get("AlgorithmVersion") for item in made_by)
        if segment.get("SegmentNumber") and not (made_by and named):
            yield "SegmentationAlgorithmIdentificationSequence", f"segment {segment.SegmentNumber}"


def _places(checked: _StructureObject) -> Iterator[Finding]:
    if checked.source is None:
        return
    instances = keys_of(checked.source)
    offsets_mm = [
        _offset_mm(points, instances[key])
        for key, points in (*_frames(checked.dataset), *_contours(checked.dataset))
        if key in instances
    ]
    if offsets_mm and max(offsets_mm) > PLACE_TOLERANCE_MM:
        yield "", f"{max(offsets_mm):.3f} mm off a slice"


def _offset_mm(points: NDArray[np.float64], instance: Instance) -> float:
    """Distance of a frame's corner from its slice's, or of a contour's points from its plane."""
    offsets = points - numbers(instance.header, "ImagePositionPatient", 3)
    if len(points) == 1:
        return float(np.linalg.norm(offsets))
    return float(np.abs(offsets @ normal_of(instance.header)).max())


def _frames(dataset: Dataset) -> Iterator[tuple[ImageKey, NDArray[np.float64]]]:
    for groups in dataset.get("PerFrameFunctionalGroupsSequence") or ():
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        for derivation in groups.get("DerivationImageSequence") or ():
            for item in derivation.get("SourceImageSequence") or ():
                yield key_of(item), np.array([position], float)


def _contours(dataset: Dataset) -> Iterator[tuple[ImageKey, NDArray[np.float64]]]:
    for roi in dataset.get("ROIContourSequence") or ():
        for contour in roi.get("ContourSequence") or ():
            points = contour_points(contour)
            for item in contour.get("ContourImageSequence") or ():
                yield key_of(item), points


CHECKS: dict[tuple[str, str], Callable[[_StructureObject], Iterator[Finding]]] = {
    SOURCE: _images,
    FRAME: _frame_of_reference,
    KEPT: _kept,
    REUSE: _uids,
    ALGORITHM: _algorithm,
    PLACE: _places,
}


def _validated(path: Path, checked: _StructureObject, scratch: Path | None) -> Validation:
    """dciodvfy does not know the class of label map segmentations: there is nothing to compare."""
    unknown = checked.dataset.get("SOPClassUID") == LABEL_MAP_SEGMENTATION
    if checked.source is None or unknown or not path.is_file():
        return Validation((), 0, 1)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=scratch) as folder:
        sources = files_of([checked.source.instances[0]], Path(folder))
        return validate([(path, sources[0])], Path(folder), _uids_of(checked.source))


def _uids_of(source: Series) -> set[str]:
    """The UIDs of all its slices, which a structure object names."""
    found = {str(i.header.get(name)) for i in source.instances for name in UID_KEYWORDS}
    return found | {uid for uid, _ in keys_of(source)}
