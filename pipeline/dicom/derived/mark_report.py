"""Measurements on a series' images as a DICOM Structured Report by template TID 1500 (PS3.16).

Regions are planar ROI groups (TID 1410) with an ellipse, distances and angles measurement groups
(TID 1501) whose value is inferred from a polyline. highdicom builds the object.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import highdicom.sr as sr
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ComprehensiveSRStorage, generate_uid

from pipeline.core.versions import SOFTWARE
from pipeline.dicom.derived.report_objects import (
    ATTENUATION,
    TOMOGRAPHY,
    Place,
    evidence_of,
    finish,
    person,
    places_of,
    reference_of,
    require_holds,
    unreadable_unless,
)
from pipeline.dicom.derived.structure_objects import first_header
from pipeline.dicom.read.files import read_dataset
from pipeline.dicom.read.headers import Instance
from pipeline.dicom.read.series import Series

REGION, DISTANCE, ANGLE = "region", "distance", "angle"
SERIES_NUMBER = 9901
DEGREE = Code("deg", "UCUM", "degree")
#: SCOORD counts from the corner of the first pixel (PS3.3 C.18.6.1.2), we from its centre.
CORNER = 0.5


@dataclass(frozen=True)
class Figure:
    """One measured value: of HU with what it is of them, otherwise a length, area or angle."""

    name: Code
    value: float
    unit: Code
    derivation: Code | None = None


@dataclass(frozen=True)
class Measured:
    """A region, distance or angle on one image of a series.

    tracking: the UID that the same mark has on every series, with its short name. number: of the
    slice. points: [points, 2], column and row counted from pixels' centres: of a region the ends of
    one axis of its ellipse, then of the other; of a distance its ends; of an angle its apex second.
    figures: what was measured; read from a file they are left out.
    """

    tracking: tuple[str, str]
    kind: str
    number: int
    points: NDArray[np.float64]
    figures: tuple[Figure, ...] = ()


def region_figures(
    mean_hu: float, sd_hu: float, extremes_hu: tuple[float, float], area_mm2: float
) -> tuple[Figure, ...]:
    """What is said of a region: mean, SD, minimum and maximum in HU, area in mm2."""
    unit = codes.UCUM.HounsfieldUnit
    return (
        Figure(ATTENUATION, mean_hu, unit, codes.SCT.Mean),
        Figure(ATTENUATION, sd_hu, unit, codes.SCT.StandardDeviation),
        Figure(ATTENUATION, extremes_hu[0], unit, codes.SCT.Minimum),
        Figure(ATTENUATION, extremes_hu[1], unit, codes.SCT.Maximum),
        Figure(codes.SCT.Area, area_mm2, codes.UCUM.SquareMillimeter),
    )


def length_figure(length_mm: float) -> tuple[Figure, ...]:
    """What is said of a distance, mm."""
    return (Figure(codes.SCT.Length, length_mm, codes.UCUM.Millimeter),)


def angle_figure(angle_degrees: float) -> tuple[Figure, ...]:
    """What is said of an angle."""
    return (Figure(codes.SCT.Angle, angle_degrees, DEGREE),)


def write_report(measured: list[tuple[Series, Measured]], path: Path, *, observer: str) -> None:
    """Write the measurements, of one study, as a report.

    observer: who measured. Raises LdctError for a series without the identifiers that a report
    refers to, and for one that can no longer be read.
    """
    source = first_header(measured[0][0])
    require_holds(source, observer)
    images = [_image(series, each) for series, each in measured]
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(person(observer)),
        procedure_reported=TOMOGRAPHY,
        imaging_measurements=[
            _group(each, image) for (_, each), image in zip(measured, images, strict=True)
        ],
        title=codes.DCM.ImagingMeasurementReport,
    )
    made = sr.ComprehensiveSR(
        evidence=evidence_of(images),
        content=content[0],
        series_instance_uid=generate_uid(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=SOFTWARE,
        is_complete=True,
        is_final=False,
        is_verified=False,
    )
    finish(made, source, "Measurements on the review page")
    made.save_as(path, enforce_file_format=True)


def _image(series: Series, measured: Measured) -> Instance:
    return series.instances[measured.number]


def _group(measured: Measured, image: Instance) -> Dataset:
    """One mark with its figures."""
    tracking = sr.TrackingIdentifier(uid=measured.tracking[0], identifier=measured.tracking[1])
    place = sr.SourceImageForRegion(*reference_of(image))
    points = measured.points + CORNER
    if measured.kind == REGION:
        region = sr.ImageRegion(sr.GraphicTypeValues.ELLIPSE, _longest_first(points), place)
        figures = [_measurement(figure) for figure in measured.figures]
        return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracking, referenced_region=region, measurements=figures
        )
    line = sr.CoordinatesForMeasurement(sr.GraphicTypeValues.POLYLINE, points, place)
    figures = [_measurement(figure, line) for figure in measured.figures]
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking, measurements=figures
    )


def _measurement(
    figure: Figure, line: sr.CoordinatesForMeasurement | None = None
) -> sr.Measurement:
    return sr.Measurement(
        name=figure.name,
        value=float(figure.value),
        unit=figure.unit,
        derivation=figure.derivation,
        referenced_coordinates=None if line is None else [line],
    )


def _longest_first(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The ends of the major axis, then of the minor one, as PS3.3 C.18.6.1.2 has them."""
    first, second = (np.linalg.norm(points[k + 1] - points[k]) for k in (0, 2))
    return points if first >= second else points[[2, 3, 0, 1]]


def read_report(path: Path, series: list[Series]) -> list[tuple[Series, Measured]]:
    """The marks of a report on any of `series`, without their figures.

    Raises Unreadable for a file that is no such report; marks on other images are left out.
    """
    places = places_of(series)
    with unreadable_unless("report of measurements"):
        found = [_mark(group, places) for group in _groups(read_dataset(path))]
    return [each for each in found if each is not None]


def _groups(report: Dataset) -> list[Dataset]:
    """The items of every measurement group (125007, DCM)."""
    groups: list[Dataset] = []
    if report.SOPClassUID != ComprehensiveSRStorage:
        raise ValueError("of another class")

    def walk(item: Dataset) -> None:
        name = item.get("ConceptNameCodeSequence")
        if name and name[0].get("CodeValue") == codes.DCM.MeasurementGroup.value:
            groups.append(item)
            return
        for inner in item.get("ContentSequence") or ():
            walk(inner)

    walk(report)
    return groups


def _mark(
    group: Dataset, places: dict[Place, tuple[Series, int]]
) -> tuple[Series, Measured] | None:
    """The one shape of a group, and its image; None where it is on another image."""
    by_type: dict[str, list[Dataset]] = defaultdict(list)
    items = list(group.ContentSequence)
    while items:
        item = items.pop()
        by_type[item.ValueType].append(item)
        items += item.get("ContentSequence") or ()
    shape = by_type["SCOORD"][0]
    reference = shape.ContentSequence[0].ReferencedSOPSequence[0]
    frame = reference.get("ReferencedFrameNumber")
    place = places.get(
        (str(reference.ReferencedSOPInstanceUID), None if frame is None else int(frame))
    )
    if place is None:
        return None
    points = np.array(shape.GraphicData, float).reshape(-1, 2) - CORNER
    kind = REGION if shape.GraphicType == "ELLIPSE" else {2: DISTANCE, 3: ANGLE}[len(points)]
    name = {item.ConceptNameCodeSequence[0].CodeValue: item for item in by_type["TEXT"]}
    uid = {item.ConceptNameCodeSequence[0].CodeValue: item for item in by_type["UIDREF"]}
    tracking = str(uid["112040"].UID), str(name["112039"].TextValue)
    return place[0], Measured(tracking, kind, place[1], points)
