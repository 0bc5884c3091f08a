"""DICOM SR on a derived series: figures of what was done to it, as other systems can read them.

Comprehensive 3D SR (PS3.3 A.35.13) by template TID 1500, Measurement Report (PS3.16), as IHE's AI
Results profile asks: a group of measurements on the source and one on the derived series, each
naming the images that were measured. highdicom builds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from highdicom.sr import (
    AlgorithmIdentification,
    Comprehensive3DSR,
    ContainerContentItem,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurement,
    TextContentItem,
    TrackingIdentifier,
    UIDRefContentItem,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from pipeline.core.versions import SOFTWARE, VERSION
from pipeline.dicom.derived.highdicom_objects import series_identity
from pipeline.dicom.derived.report_objects import (
    ATTENUATION,
    TOMOGRAPHY,
    evidence_of,
    reference_of,
)
from pipeline.dicom.derived.structure_objects import (
    copy_patient_and_study,
    date_and_time,
    first_header,
    save_object,
)
from pipeline.dicom.derived.write import (
    Operation,
    derived_uid,
    equipment_item,
    series_description,
)
from pipeline.dicom.read.series import Series

FILE = "SR.dcm"
#: Of figures for which DICOM has no code; the object names the scheme (PS3.3 C.12.1.1.3).
SCHEME = "99LDCT"
DOSE_RATIO = Code("dose-ratio", SCHEME, "Dose that the denoising makes up for, as a ratio")
AUDITED = Code("audited", SCHEME, "Slices audited for changes beyond noise")
FLAGGED = Code("flagged", SCHEME, "Slices changed by more than noise")
UNLIKE = Code("unlike-training", SCHEME, "Unlike the series that the model learned from")
#: Noise is the standard deviation of the attenuation, in HU.
DEVIATION = Code("386136009", "SCT", "Standard Deviation")
HU = codes.UCUM.HounsfieldUnit
NO_UNIT = codes.UCUM.NoUnits
COMMENT = Code("121106", "DCM", "Comment")
SERIES_UID = Code("112002", "DCM", "Series Instance UID")
_NOISE_BY = AlgorithmIdentification(f"{SOFTWARE} noise in flat tissue", VERSION)
_CONTAINS = RelationshipTypeValues.CONTAINS


@dataclass(frozen=True)
class SeriesFigures:
    """What is reported of a derived series.

    noise_before_hu, noise_after_hu: median standard deviation in flat tissue, None where too little
    is there. measured: numbers of the slices, from 0. dose_ratio: None for a model that takes none.
    audited, flagged: how many slices, None where they were not audited. unlike: whether the series
    is unlike the model's training, None where that is not known. comments: sentences for people,
    without identity and in ASCII.
    """

    noise_before_hu: float | None
    noise_after_hu: float | None
    measured: tuple[int, ...]
    dose_ratio: float | None = None
    audited: int | None = None
    flagged: int | None = None
    unlike: bool | None = None
    comments: tuple[str, ...] = ()


def write_measurement_report(
    figures: SeriesFigures, source: Series, derived: Series, operation: Operation, folder: Path
) -> None:
    """Write SR.dcm into `folder`, which exists.

    derived: the series that `operation` made of `source`, slice by slice. The object is
    unverified and preliminary: no person has looked at it. Raises LdctError for a source without
    identifiers.
    """
    header = first_header(source)
    report_by = replace(
        operation,
        label=f"AI REPORT {operation.label.removeprefix('AI DENOISED ')}",
        product="report",
    )
    made = Comprehensive3DSR(
        evidence=evidence_of([*source.instances, *derived.instances]),
        content=_content(figures, source, derived, report_by)[0],
        **series_identity(header, report_by, source),
        manufacturer=SOFTWARE,
        is_complete=True,
        is_final=False,
        is_verified=False,
    )
    made.SeriesDescription = series_description(header.dataset, report_by, source.part)
    made.ManufacturerModelName = operation.equipment[:64]
    made.SoftwareVersions = [VERSION, operation.equipment_version[:64]]  # type: ignore[assignment]
    made.ContributingEquipmentSequence = [equipment_item(operation)]
    made.CodingSchemeIdentificationSequence = [_scheme()]
    made.ContentDate, made.ContentTime = date_and_time(header.dataset)
    for name in ("InstanceCreationDate", "InstanceCreationTime"):
        made.pop(name, None)
    copy_patient_and_study(header, made)
    save_object(made, folder, FILE)


def _content(
    figures: SeriesFigures, source: Series, derived: Series, operation: Operation
) -> MeasurementReport:
    device = DeviceObserverIdentifyingAttributes(
        uid=derived_uid([], operation, "device"),
        name=SOFTWARE,
        manufacturer_name=SOFTWARE,
        model_name=operation.equipment[:64],
    )
    observer = ObserverContext(codes.DCM.Device, device)
    return MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=TOMOGRAPHY,
        imaging_measurements=[
            _of_source(figures, source, operation),
            _of_derived(figures, derived, operation),
        ],
        title=codes.DCM.ImagingMeasurementReport,
    )


def _of_source(
    figures: SeriesFigures, source: Series, operation: Operation
) -> MeasurementsAndQualitativeEvaluations:
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking("source series", operation),
        measurements=_noise(figures.noise_before_hu, figures.measured, source),
    )
    return _with_items(group, source, ())


def _of_derived(
    figures: SeriesFigures, derived: Series, operation: Operation
) -> MeasurementsAndQualitativeEvaluations:
    counts = ((DOSE_RATIO, figures.dose_ratio), (AUDITED, figures.audited),
              (FLAGGED, figures.flagged))  # fmt: skip
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking("derived series", operation),
        algorithm_id=AlgorithmIdentification(operation.equipment, operation.equipment_version),
        measurements=[
            *_noise(figures.noise_after_hu, figures.measured, derived),
            *(Measurement(name, float(n), NO_UNIT) for name, n in counts if n is not None),
        ],
        qualitative_evaluations=[QualitativeEvaluation(UNLIKE, _answer(figures.unlike))],
    )
    return _with_items(group, derived, (operation.description, *figures.comments))


def _noise(noise_hu: float | None, measured: Sequence[int], series: Series) -> list[Measurement]:
    if noise_hu is None:
        return []
    images = [series.instances[number] for number in measured]
    return [
        Measurement(
            ATTENUATION,
            round(noise_hu, 2),
            HU,
            derivation=DEVIATION,
            algorithm_id=_NOISE_BY,
            referenced_images=[SourceImageForMeasurement(*reference_of(one)) for one in images],
        )
    ]


def _with_items(
    group: MeasurementsAndQualitativeEvaluations, series: Series, comments: Sequence[str]
) -> MeasurementsAndQualitativeEvaluations:
    """The group with the series that it is about, and sentences; TID 1501 is extensible."""
    container = group[0]
    assert isinstance(container, ContainerContentItem)
    uid = str(series.header.SeriesInstanceUID)
    container.ContentSequence.append(UIDRefContentItem(SERIES_UID, uid, _CONTAINS))
    for text in comments:
        container.ContentSequence.append(TextContentItem(COMMENT, text, _CONTAINS))
    return group


def _tracking(identifier: str, operation: Operation) -> TrackingIdentifier:
    return TrackingIdentifier(derived_uid([identifier], operation), identifier)


def _answer(unlike: bool | None) -> Code:
    if unlike is None:
        return Code("261665006", "SCT", "Unknown")
    return codes.SCT.Yes if unlike else codes.SCT.No


def _scheme() -> Dataset:
    scheme = Dataset()
    scheme.CodingSchemeDesignator, scheme.CodingSchemeName = SCHEME, f"Codes of {SOFTWARE}"
    scheme.CodingSchemeResponsibleOrganization = SOFTWARE
    return scheme
