"""DICOM Parametric Map: a figure for each voxel of a series as one object of float pixels (PS3.3
A.75, C.7.6.16.2.11).

highdicom builds it, frame by frame at the places of the source's slices and with a reference to
each.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from highdicom import VOILUTTransformation
from highdicom.pm import ParametricMap, RealWorldValueMapping
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from pipeline.core.versions import SOFTWARE, VERSION
from pipeline.dicom.derived.highdicom_objects import (
    make_deterministic,
    reference_frames,
    series_identity,
    slice_headers,
)
from pipeline.dicom.derived.structure_objects import first_header, save_object
from pipeline.dicom.derived.write import Operation
from pipeline.dicom.read.series import Series

FILE = "PM.dcm"
#: Of PS3.16 CID 7203.
DEVIATION = ("113061", "DCM", "Standard Deviation")


def uncertainty_of(operation: Operation, explanation: str) -> Operation:
    """The operation that says how far what `operation` made may be off. explanation: begins the
    object's description."""
    return replace(
        operation,
        label=f"AI UNCERTAINTY {operation.label.removeprefix('AI DENOISED ')}",
        description=f"{explanation} Of: {operation.description}",
        code=DEVIATION,
        product="uncertainty",
    )


def write_deviation_map(
    deviation_hu: NDArray[np.float32], series: Series, operation: Operation, folder: Path
) -> None:
    """Write PM.dcm, a standard deviation in HU for each voxel, into `folder`, which exists.

    deviation_hu: [slices, rows, columns] on the grid of series.instances, 0 or more. Raises
    LdctError for a source without identifiers, and ValueError for another shape or values that are
    not finite.
    """
    shape = (len(series.instances), int(series.header.Rows), int(series.header.Columns))
    if deviation_hu.shape != shape or not np.isfinite(deviation_hu).all():
        raise ValueError(f"finite values of {shape} are needed, got {deviation_hu.shape}")
    source = first_header(series)
    largest_hu = float(deviation_hu.max(initial=1.0))
    made = ParametricMap(
        source_images=slice_headers(series),
        pixel_array=deviation_hu,
        **series_identity(source, operation, series),
        manufacturer=SOFTWARE,
        manufacturer_model_name=operation.equipment[:64],
        software_versions=VERSION,
        device_serial_number=SOFTWARE,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_in_hu(largest_hu)],
        voi_lut_transformations=[VOILUTTransformation(largest_hu / 2, largest_hu)],
        derived_pixel_contrast="STD_DEVIATION",
        content_label="UNCERTAINTY",
        content_description=operation.label[:64],
        derivation=Code(*DEVIATION),
    )
    _describe(made, operation)
    _body_part(made, source.dataset)
    reference_frames(made, series)
    make_deterministic(made, source, operation, series)
    save_object(made, folder, FILE)


def _body_part(made: Dataset, source: Dataset) -> None:
    """What the source says of it: of a body part that is known no laterality is needed (PS3.3
    C.7.3.1)."""
    for keyword in ("BodyPartExamined", "Laterality"):
        if keyword in source:
            setattr(made, keyword, source[keyword].value)


def _in_hu(largest_hu: float) -> RealWorldValueMapping:
    return RealWorldValueMapping(
        lut_label="HU",
        lut_explanation="Standard deviation in HU",
        unit=codes.UCUM.HounsfieldUnit,
        value_range=(0.0, largest_hu),
        slope=1.0,
        intercept=0.0,
        quantity_definition=Code(*DEVIATION),
    )


def _describe(made: Dataset, operation: Operation) -> None:
    """Say in each frame how it was made, in words."""
    for groups in made.PerFrameFunctionalGroupsSequence:
        for item in groups.get("DerivationImageSequence") or ():
            item.DerivationDescription = operation.description
