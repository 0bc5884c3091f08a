"""Are objects that hold structures of a series, SEG and RTSTRUCT, what they say they are?

They take from their source its patient, study and places, and refer to its images; that, and
what every derived object must say of itself, is asked here, before they are handed over and by
`ldct check`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset

from pipeline.dicom.derived.dicom3tools import (
    ENTITIES,
    Validation,
    attribute_of,
    files_of,
    validate,
)
from pipeline.dicom.derived.image_rules import RULES, AttributeRule, Finding
from pipeline.dicom.derived.provenance import ImageKey, key_of, keys_of, structures_of
from pipeline.dicom.derived.series_check import REUSE, Problem
from pipeline.dicom.derived.source_rules import STUDY, tags_of
from pipeline.dicom.derived.structure_objects import OF_PATIENT_AND_STUDY, contour_points
from pipeline.dicom.read.files import read_dataset
from pipeline.dicom.read.headers import LABEL_MAP_SEGMENTATION, Instance
from pipeline.dicom.read.raw_elements import AsRead, same
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.slice_requirements import normal_of, numbers

#: Of the rules for derived images, those that hold for every derived object.
OF_EVERY_OBJECT = (
    "code-meaning",
    "equipment",
    "marking",
    "file-meta",
    "uid",
    "identity",
    "identity-removed",
)
#: A frame or contour lies in its slice to this, which is more than decimals may cost.
PLACE_TOLERANCE_MM = 1e-3
NEW_FINDING = "write what the program asks for, as the source does"
SOURCE = ("source-image", "name images of the source, and no others")
FRAME = ("frame-of-reference", "take the source's coordinates")
KEPT = ("patient-and-study", "keep the source's attributes to the byte")
PLACE = ("place", "put frames and contours where the slices that they name are")
ALGORITHM = ("algorithm", "say by which algorithm and version each segment was made")


@dataclass(frozen=True)
class _Judged:
    """An object, and the source that it is beside, if that is to be had."""

    image: AsRead
    source: Series | None
    first: AsRead | None

    @property
    def dataset(self) -> Dataset:
        return self.image.dataset


def examine_structures(
    path: Path, shown: str, source: Series | None, *, scratch: Path | None = None
) -> tuple[list[Problem], Validation]:
    """What is wrong with an object, and what dciodvfy and dcentvfy find new against its source.

    shown: how the file is named in what is told. Files of a source that has none of its own lie
    in `scratch` for a moment.
    """
    try:
        image = AsRead(read_dataset(path))
    except Exception as error:  # damaged files raise many kinds
        problem = Problem(shown, "readable", "", type(error).__name__, "write a whole DICOM file")
        return [problem], Validation((), 0, 1)
    first = AsRead(source.instances[0].load()) if source else None
    judged = _Judged(image, source, first)
    problems = [
        Problem(shown, rule.name, attribute, value, rule.remedy)
        for rule in RULES
        if rule.name in OF_EVERY_OBJECT
        for attribute, value in _broken(rule, judged)
    ]
    for (name, remedy), find in ASKED.items():
        problems += [Problem(shown, name, *found, remedy) for found in find(judged)]
    validation = _validated(path, judged, scratch)
    problems += [
        Problem("", program, attribute_of(finding), finding, NEW_FINDING)
        for program, finding in validation.new
    ]
    return problems, validation


def _broken(rule: AttributeRule, judged: _Judged) -> list[Finding]:
    """What breaks the rule; what was taken over from the source so is no fault of the object."""
    excused = list(rule.find(judged.first.dataset)) if rule.kept and judged.first else []
    return [finding for finding in rule.find(judged.dataset) if finding not in excused]


def _images(judged: _Judged) -> Iterator[Finding]:
    _, named = structures_of(judged.dataset)
    if not named:
        yield "ReferencedSOPInstanceUID", "names no image"
    if judged.source:
        known = {uid for uid, _ in keys_of(judged.source)}
        if named - known:
            yield "ReferencedSOPInstanceUID", f"names {len(named - known)} images not there"


def _frame_of_reference(judged: _Judged) -> Iterator[Finding]:
    told = judged.dataset.get("FrameOfReferenceUID")
    if judged.source:
        known = {i.header.get("FrameOfReferenceUID") for i in judged.source.instances}
        if told not in known:
            yield "FrameOfReferenceUID", ""


def _kept(judged: _Judged) -> Iterator[Finding]:
    if judged.first is None:
        return
    both = {*judged.image.elements, *judged.first.elements}
    patient = {tag for tag in both if tag.group in (0x0010, 0x0012)}
    for tag in sorted(patient | tags_of(STUDY)):
        # What these objects must have, and the source lacks, is there and empty.
        held = judged.dataset.get(tag)
        added = tag not in judged.first.elements and not (held and held.value)
        if not added and not same(tag, judged.image, judged.first):
            yield keyword_for_tag(tag) or str(tag), ""


def _uids(judged: _Judged) -> Iterator[Finding]:
    if judged.source is None:
        return
    if judged.dataset.get("SeriesInstanceUID") == judged.source.header.SeriesInstanceUID:
        yield "SeriesInstanceUID", ""
    if judged.dataset.get("SOPInstanceUID") in {uid for uid, _ in keys_of(judged.source)}:
        yield "SOPInstanceUID", ""


def _algorithm(judged: _Judged) -> Iterator[Finding]:
    for segment in judged.dataset.get("SegmentSequence") or ():
        made_by = segment.get("SegmentationAlgorithmIdentificationSequence") or ()
        told = all(item.get("AlgorithmName") and item.get("AlgorithmVersion") for item in made_by)
        if segment.get("SegmentNumber") and not (made_by and told):
            yield "SegmentationAlgorithmIdentificationSequence", f"segment {segment.SegmentNumber}"


def _places(judged: _Judged) -> Iterator[Finding]:
    if judged.source is None:
        return
    instances = keys_of(judged.source)
    apart_mm = [
        _apart_mm(points, instances[key])
        for key, points in (*_frames(judged.dataset), *_contours(judged.dataset))
        if key in instances
    ]
    if apart_mm and max(apart_mm) > PLACE_TOLERANCE_MM:
        yield "", f"{max(apart_mm):.3f} mm off a slice"


def _apart_mm(points: NDArray[np.float64], instance: Instance) -> float:
    """How far a frame's corner is from its slice's; of a contour, its points from the plane."""
    apart = points - numbers(instance.header, "ImagePositionPatient", 3)
    if len(points) == 1:
        return float(np.linalg.norm(apart))
    return float(np.abs(apart @ normal_of(instance.header)).max())


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


ASKED: dict[tuple[str, str], Callable[[_Judged], Iterator[Finding]]] = {
    SOURCE: _images,
    FRAME: _frame_of_reference,
    KEPT: _kept,
    REUSE: _uids,
    ALGORITHM: _algorithm,
    PLACE: _places,
}


def _validated(path: Path, judged: _Judged, scratch: Path | None) -> Validation:
    """dciodvfy does not know the class of label map segmentations: there is nothing to compare."""
    unknown = judged.dataset.get("SOPClassUID") == LABEL_MAP_SEGMENTATION
    if judged.source is None or unknown or not path.is_file():
        return Validation((), 0, 1)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=scratch) as folder:
        sources = files_of([judged.source.instances[0]], Path(folder))
        validation = validate([(path, sources[0])])
    return replace(validation, new=tuple(f for f in validation.new if not _is_added(f, judged)))


def _is_added(told: tuple[str, str], judged: _Judged) -> bool:
    """dcentvfy minds attributes that an object must have, if empty, and that the source lacks."""
    program, finding = told
    name = attribute_of(finding)
    lacking = judged.first is not None and name not in judged.first.dataset
    return program == ENTITIES and name in OF_PATIENT_AND_STUDY and lacking
