"""A derived series as one Enhanced CT Image (PS3.3 A.38), made of its checked CT Images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import BaseTag
from pydicom.uid import EnhancedCTImageStorage

from pipeline.core.errors import LdctError
from pipeline.dicom.derived.encode import copy_of, save_image
from pipeline.dicom.derived.functional_groups import (
    FRAME_TYPE,
    SharedAndPerFrame,
    describe_pixels,
    functional_groups,
)
from pipeline.dicom.derived.image_rules import stored_in
from pipeline.dicom.derived.source_rules import STUDY
from pipeline.dicom.derived.write import Operation, derived_uid
from pipeline.dicom.read.compare_elements import same_element
from pipeline.dicom.read.enhanced import frames_of
from pipeline.dicom.read.files import read_dataset
from pipeline.dicom.read.raw_elements import RawDataset
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.slice_requirements import has_window, is_empty


def _names(keywords: str) -> tuple[str, ...]:
    return tuple(keywords.split())


#: Patient and clinical trial: taken over whole, as every derived image keeps them.
KEPT_GROUPS = (0x0010, 0x0012)
#: How the pixels are stored: one image has one of each.
PIXELS = _names(
    "Rows Columns SamplesPerPixel PhotometricInterpretation BitsAllocated BitsStored HighBit "
    "PixelRepresentation PixelPaddingValue PixelPaddingRangeLimit"
)
#: What must not differ between the slices of one object.
ALIKE = (
    *STUDY,
    *PIXELS,
    *_names(
        "SpecificCharacterSet SeriesInstanceUID SeriesNumber SeriesDescription Modality "
        "FrameOfReferenceUID PatientPosition LossyImageCompression"
    ),
)
#: Of the acquisition: under the names of a CT Image, where all slices agree, since the groups
#: and modules that would hold them want codes and values that a CT Image does not have.
ACQUISITION = _names(
    "KVP ConvolutionKernel ReconstructionDiameter FilterType XRayTubeCurrent ExposureTime Exposure "
    "GantryDetectorTilt TableHeight DataCollectionDiameter SpiralPitchFactor ScanOptions "
    "AcquisitionNumber ContrastBolusAgent ContrastBolusRoute"
)
#: What else the modules of PS3.3 table A.38-1 hold for the object as a whole.
KEPT = (
    *ALIKE,
    *ACQUISITION,
    *_names(
        "TimezoneOffsetFromUTC LongitudinalTemporalInformationModified "
        "ContributingEquipmentSequence IssuerOfAccessionNumberSequence "
        "ConsultingPhysicianName PhysiciansOfRecord NameOfPhysiciansReadingStudy "
        "ReferencedStudySequence ProcedureCodeSequence "
        "ReferencedPatientSequence ReferringPhysicianIdentificationSequence RequestingService "
        "ConsultingPhysicianIdentificationSequence PhysiciansOfRecordIdentificationSequence "
        "PhysiciansReadingStudyIdentificationSequence RequestingServiceCodeSequence "
        "ReasonForPerformedProcedureCodeSequence AdmittingDiagnosesCodeSequence AdmissionID "
        "IssuerOfAdmissionIDSequence ServiceEpisodeID ServiceEpisodeDescription ReasonForVisit "
        "ReasonForVisitCodeSequence PatientState "
        "AdmittingDiagnosesDescription SeriesDate SeriesTime PerformingPhysicianName OperatorsName "
        "BodyPartExamined ProtocolName ReferencedPerformedProcedureStepSequence "
        "PerformedProcedureStepStartDate PerformedProcedureStepStartTime PerformedProcedureStepID "
        "PerformedProcedureStepDescription RequestAttributesSequence PositionReferenceIndicator "
        "Manufacturer InstitutionName InstitutionAddress StationName InstitutionalDepartmentName "
        "ManufacturerModelName DeviceSerialNumber SoftwareVersions GantryID SpatialResolution "
        "DateOfLastCalibration TimeOfLastCalibration RecognizableVisualFeatures BurnedInAnnotation "
        "LossyImageCompressionMethod"
    ),
)
#: Enhanced General Equipment (C.7.5.2) must state these.
EQUIPMENT = ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions")
UNKNOWN = "UNKNOWN"
#: Where the date and time of the content are taken from, which must be there (C.7.6.16).
TIMES = ("Content", "Acquisition", "Series", "Study")
#: What an object's uncompressed pixels may take: PS3.5 7.1.2 has 32 bits for their length.
MAX_BYTES = 2**32 - 2


def enhanced_operation(operation: Operation) -> Operation:
    """The operation with an identity of its own, so that no UID is that of the CT Images."""
    return replace(operation, identity=f"{operation.identity}/enhanced")


def write_multi_frame(
    slices: Sequence[Path], path: Path, source: Series, operation: Operation, *, syntax: str
) -> list[str]:
    """Write derived CT Images, uncompressed and in the order of their places, as one object.

    operation: as enhanced_operation gives it. Returns remarks for the report. Raises LdctError for
    slices that cannot be one object, naming the attribute, and for pixels that cannot be
    compressed without loss.
    """
    images, frames = _read(slices)
    stored = np.stack(frames)
    if stored.nbytes > MAX_BYTES:
        raise LdctError(
            f"{len(images)} frames are {stored.nbytes} bytes of PixelData, an object holds "
            f"{MAX_BYTES}; leave out --enhanced"
        )
    raws = [RawDataset(one) for one in images]
    groups = functional_groups(raws)
    image = _whole(raws)
    remarks = [*_fill(image, images), *_left_out(images)]
    uids = [str(one.SOPInstanceUID) for one in images]
    if _add_irradiation_event(groups, derived_uid(["irradiation event", *uids], operation)):
        remarks.append("--enhanced: no IrradiationEventUID in the source: one was made")
    image.ImageType = list(FRAME_TYPE)
    describe_pixels(image)
    image.SharedFunctionalGroupsSequence = [groups.shared]
    image.PerFrameFunctionalGroupsSequence = groups.per_frame
    image.NumberOfFrames, image.InstanceNumber = len(images), 1
    _name(image, derived_uid(uids, operation))
    _organise(image, derived_uid(["dimensions", *uids], operation))
    image.SourceImageEvidenceSequence = [_evidence(source, images)]
    save_image(image, _in_16_bits(image, stored), path, syntax=syntax)
    _require_same(path, stored)
    return remarks


def _require_same(path: Path, stored: NDArray) -> None:
    """Raises LdctError for a file whose frames are not read back as these values."""
    frames = frames_of(read_dataset(path))
    for number, (frame, values) in enumerate(zip(frames, stored, strict=True), start=1):
        if not np.array_equal(stored_in(frame), values):
            raise LdctError(f"frame {number} is read back with other values; leave out --enhanced")


def _in_16_bits(image: Dataset, stored: NDArray) -> NDArray:
    """The values as an Enhanced CT Image holds them: 12 or 16 bits of 16 (C.8.15.2)."""
    if image.BitsAllocated == 16 and image.BitsStored in (12, 16):
        return stored
    kind = np.int16 if image.PixelRepresentation else np.uint16
    wide = stored.astype(kind)
    if not np.array_equal(wide, stored):
        raise LdctError(
            f"BitsAllocated {image.BitsAllocated}: an Enhanced CT image has 16 bits, which do not "
            "hold all values; leave out --enhanced"
        )
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    return wide


def _read(slices: Sequence[Path]) -> tuple[list[Dataset], list[NDArray]]:
    """The slices' headers, and their stored values."""
    images, frames = [], []
    for path in slices:
        image = read_dataset(path)
        frames.append(stored_in(image))
        del image.PixelData
        images.append(image)
    return images, frames


def _whole(raws: Sequence[RawDataset]) -> Dataset:
    """What all images say of patient, study, series, equipment and pixels.

    What only some say, or differently, is left out; raises LdctError where that cannot be.
    """
    kept = {BaseTag(tag_for_keyword(name) or 0) for name in KEPT}
    tags = {tag for raw in raws for tag in raw.elements if tag.group in KEPT_GROUPS or tag in kept}
    alike = {tag for tag in tags if _is_alike(tag, raws)}
    # Public sets have another in each slice; reading them as one series has settled that.
    frame_of_reference = BaseTag(tag_for_keyword("FrameOfReferenceUID") or 0)
    for tag in sorted(tags - alike - {frame_of_reference}):
        name = keyword_for_tag(tag)
        if tag.group in KEPT_GROUPS or name in ALIKE:
            raise LdctError(
                f"{name or tag} differs between the slices, and one Enhanced CT image has one "
                "value of it; leave out --enhanced"
            )
    empty = {tag_for_keyword(name) for name in ACQUISITION if is_empty(raws[0].dataset, name)}
    return copy_of(raws[0], ({*alike, frame_of_reference} & tags) - empty)


def _is_alike(tag: BaseTag, raws: Sequence[RawDataset]) -> bool:
    first = raws[0]
    if any((tag in raw.elements) != (tag in first.elements) for raw in raws):
        return False
    return all(same_element(tag, first, raw) for raw in raws[1:])


def _fill(image: Dataset, images: Sequence[Dataset]) -> list[str]:
    """What the IOD must state beyond what a CT Image must; returns a remark on what was filled."""
    remarks = _fill_content_time(image, images[0])
    unknown = [name for name in EQUIPMENT if is_empty(image, name)]
    for name in unknown:
        setattr(image, name, UNKNOWN)
    _declare_loss(image, images)
    image.BurnedInAnnotation = image.get("BurnedInAnnotation") or "NO"
    image.ContentQualification = "RESEARCH"
    image.PresentationLUTShape = "IDENTITY"
    image.AcquisitionContextSequence = []
    if unknown:
        names = ", ".join(unknown)
        remarks.append(f"--enhanced: {names} of the source missing, written as {UNKNOWN}")
    return remarks


def _fill_content_time(image: Dataset, first: Dataset) -> list[str]:
    """Type 1 (C.7.6.16): a dummy, as PS3.15 E.1 has it, where a source without identity lost it."""
    remarks = []
    for part, dummy in (("Date", "19000101"), ("Time", "000000")):
        known = [f"{w}{part}" for w in TIMES if not is_empty(first, f"{w}{part}")]
        value = first[known[0]].value if known else dummy
        setattr(image, f"Content{part}", value)
        if not known:
            remarks.append(f"--enhanced: no {part.lower()} in the source, written as {dummy}")
    return remarks


def _declare_loss(image: Dataset, images: Sequence[Dataset]) -> None:
    """The largest ratio of all frames stands for the object."""
    if is_empty(image, "LossyImageCompression"):
        image.LossyImageCompression = "00"
    ratios = [
        one[name] for one in images if not is_empty(one, name := "LossyImageCompressionRatio")
    ]
    if ratios:
        worst = max(ratios, key=lambda ratio: max(map(float, np.atleast_1d(ratio.value))))
        image.LossyImageCompressionRatio = worst.value


def _left_out(images: Sequence[Dataset]) -> list[str]:
    remarks = []
    frames = {one.get("FrameOfReferenceUID") for one in images}
    if len(frames) > 1:
        remarks.append(
            f"--enhanced: {len(frames)} values of FrameOfReferenceUID in one source series; the "
            "object has that of its first slice"
        )
    if not all(map(has_window, images)):
        remarks.append("--enhanced: frames without a window have that of soft tissue, 40/400 HU")
    if any("VOILUTSequence" in image for image in images):
        remarks.append("--enhanced: VOILUTSequence has no place in an Enhanced CT image: left out")
    return remarks


def _add_irradiation_event(groups: SharedAndPerFrame, uid: str) -> bool:
    """The group is required of every frame (table A.38-2); returns whether one had none."""
    name = "IrradiationEventIdentificationSequence"
    lacking = [frame for frame in groups.per_frame if name not in frame]
    if name in groups.shared or not lacking:
        return False
    event = Dataset()
    event.IrradiationEventUID = uid
    targets = [groups.shared] if len(lacking) == len(groups.per_frame) else lacking
    for target in targets:
        setattr(target, name, [event])
    return True


def _name(image: Dataset, uid: str) -> None:
    image.SOPClassUID, image.SOPInstanceUID = EnhancedCTImageStorage, uid
    image.file_meta = FileMetaDataset()
    image.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    image.file_meta.MediaStorageSOPInstanceUID = uid


def _organise(image: Dataset, uid: str) -> None:
    """C.7.6.17: frames are ordered by their stack, which is one, and by their position in it."""
    organisation = Dataset()
    organisation.DimensionOrganizationUID = uid
    image.DimensionOrganizationSequence = [organisation]
    image.DimensionIndexSequence = []
    for name in ("StackID", "InStackPositionNumber"):
        index = Dataset()
        index.DimensionOrganizationUID = uid
        index.DimensionIndexPointer = tag_for_keyword(name)
        index.FunctionalGroupPointer = tag_for_keyword("FrameContentSequence")
        image.DimensionIndexSequence.append(index)


def _evidence(source: Series, images: Sequence[Dataset]) -> Dataset:
    """All objects that the frames name as their sources: PS3.3 table 10-4."""
    objects: dict[str, Dataset] = {}
    for image in images:
        for reference in image.SourceImageSequence:
            item = Dataset()
            item.ReferencedSOPClassUID = reference.ReferencedSOPClassUID
            item.ReferencedSOPInstanceUID = reference.ReferencedSOPInstanceUID
            objects.setdefault(item.ReferencedSOPInstanceUID, item)
    series, study = Dataset(), Dataset()
    series.SeriesInstanceUID = source.header.SeriesInstanceUID
    series.ReferencedSOPSequence = list(objects.values())
    study.StudyInstanceUID = source.header.StudyInstanceUID
    study.ReferencedSeriesSequence = [series]
    return study
