"""Export of CT in which a generative model filled a region, marked as not measured.

A series becomes a derived series labelled MADE UP, with a DICOM SEG of the region; an image file
becomes an image file and a label file. Missing slices have no source image that a derived one
could reference: they are written as NIfTI marked SYNTHETIC, with a label file.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.sr.codedict import codes

from pipeline.config.names import digest
from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.core.label_map import LabelMap
from pipeline.core.refusals import Refusal, SeriesRefusedError, Unreadable
from pipeline.core.types import Progress
from pipeline.core.volume import Volume
from pipeline.dicom.derived.structure_codes import Anatomy
from pipeline.dicom.derived.write import MADE_UP, Operation
from pipeline.dicom.read.pixels import read_slice
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import Slice, read_volume
from pipeline.export.labels import export_labels
from pipeline.export.series import (
    Export,
    Exported,
    ExportReport,
    file_stem,
    publish,
    require_identifiers,
    warnings_of,
)
from pipeline.generative.fill import Fill, filled, filled_gaps
from pipeline.generative.untrusted_regions import METAL_HU, METAL_MARGIN_MM, metal, truncation
from pipeline.io.discover import Source
from pipeline.io.image_formats import written_suffix
from pipeline.io.image_names import result_name
from pipeline.io.volume_files import ImageReading, read_padded
from pipeline.io.volume_writer import write_image, write_voxels
from pipeline.labels.discover import grid_of
from pipeline.labels.files import read_mask, write_labels
from pipeline.labels.grid import LabelGrid
from pipeline.models.adapters.card import ModelCard
from pipeline.models.adapters.generative import Generative

METAL, TRUNCATION, MISSING = "metal", "truncation", "missing"
#: CID 7203 has no code for generated content; this one is of CID 9231.
BY_AI = ("123110", "DCM", "Artificial Intelligence")
#: Of CID 7150 and PS3.16 annex D: no structure of the patient.
NO_STRUCTURE = Anatomy(codes.SCT.SpatialAndRelationalConcept, codes.DCM.SelectedRegion)
NAME = "made up, not measured"
NOTHING = np.empty(0, np.float32)


@dataclass(frozen=True)
class FillRequest:
    """The region to fill: METAL, TRUNCATION, MISSING slices, or the path of a label file.

    threshold_hu, margin_mm: of metal (pipeline.generative.untrusted_regions). Raises ConfigError
    for a negative margin, and for a region that is neither a name nor an existing path.
    """

    region: str
    threshold_hu: float = METAL_HU
    margin_mm: float = METAL_MARGIN_MM
    fill: Fill = field(default_factory=Fill)

    def __post_init__(self) -> None:
        if self.margin_mm < 0:
            raise ConfigError(f"--margin {self.margin_mm:g}: a margin is not negative")
        if not self.is_named and not Path(self.region).exists():
            named = ", ".join((METAL, TRUNCATION, MISSING))
            raise ConfigError(f"--region {self.region}: write {named}, or the path of a mask file")

    @property
    def is_named(self) -> bool:
        """Whether the region is searched for, and not read from a label file."""
        return self.region in (METAL, TRUNCATION, MISSING)

    @property
    def name(self) -> str:
        """The region's name; "mask" for a label file, whose own name may be a patient's."""
        return self.region if self.is_named else "mask"

    def found_in(self, volume: Volume, grid: LabelGrid) -> NDArray[np.bool_]:
        """Where the region is in a volume [slices, rows, columns].

        Raises NothingUsableError where the volume has no such region, and ConfigError for a label
        file that does not fit `grid`.
        """
        if self.region == METAL:
            limits = {"threshold_hu": self.threshold_hu, "margin_mm": self.margin_mm}
            found, why = metal(volume, **limits), f"no pixel of {self.threshold_hu:g} HU and more"
        elif self.region == TRUNCATION:
            found = truncation(volume)
            why = "no body runs into padding (one cut by the edge of the matrix leaves no room)"
        else:
            found, why = _marked(Path(self.region), grid), "no voxel is marked"
        if not found.any():
            raise NothingUsableError(f"{self.name}: {why}: nothing to do")
        return found

    def to_dict(self) -> dict[str, object]:
        """The region as report.json has it."""
        if self.region != METAL:
            return {"region": self.name}
        limits = {"threshold_hu": self.threshold_hu, "margin_mm": self.margin_mm}
        return {"region": self.name, **limits}

    def operation(self, card: ModelCard, region: LabelMap) -> Operation:
        """The operation for derived headers; another region, or search, is another operation."""
        request = {**self.to_dict(), **self.fill.facts(), "where": region.digest}
        operation = Operation(
            label=f"{MADE_UP} {self.name} {card.name} v{card.version}",
            description=(
                f"The region '{self.name}' was MADE UP by a generative neural network (latent "
                "search, blended at its rim): it was not measured and shows no patient. NOT FOR "
                "DIAGNOSIS. The segmentation of this series shows the region; all other pixels "
                f"are the source's. Model {card.name} version {card.version}, weights SHA-256 "
                f"{card.weights_sha256}."
            ),
            code=BY_AI,
            equipment=card.name,
            equipment_version=f"{card.version} sha256:{card.weights_sha256[:16]}",
            identity=f"{card.name}/{card.version}/{card.weights_sha256}/fill/{digest(request)}",
        )
        return card.marked(operation)


def _marked(path: Path, grid: LabelGrid) -> NDArray[np.bool_]:
    if not path.is_file():
        raise ConfigError("--region: of a CT, give one label file on its grid")
    try:
        return read_mask(path, grid).labels > 0
    except Unreadable as fault:
        raise ConfigError(f"--region, the label file: {fault}") from fault


def export_filled(
    model: Generative,
    card: ModelCard,
    source: Source,
    to: Export,
    request: FillRequest,
    progress: Progress = lambda slices: None,
) -> Exported:
    """Fill the requested region of a source, and write the result with the region.

    Raises NothingUsableError where the source has no such region, LdctError for what
    pipeline.generative.fill refuses, and for a derived series that fails its check.
    """
    try:
        source, found, refusals = _read(source, to)
    except SeriesRefusedError as refused:
        return Exported(None, refused.refusals)
    except Unreadable as fault:
        assert isinstance(source, Path)
        return Exported(None, [fault.refusal(source)])
    volume = found.volume
    if request.region == MISSING:
        return Exported(_export_missing(model, card, volume, to, request), refusals)
    region = request.found_in(volume, grid_of(source))
    result = filled(model, volume.image_hu, region, request.fill, sequence=True, progress=progress)
    labels = LabelMap(region.astype(np.uint8), {1: NAME}, {"kind": "region"})
    operation = request.operation(card, labels)
    made = replace(volume, image_hu=result.images)
    report = _write(replace(found, volume=made), labels, source, to, operation)
    pixels, warnings = int(region.sum()), warnings_of(volume)
    details = {**request.to_dict(), "pixels": pixels, "warnings": warnings, **result.facts()}
    return Exported(report.with_details(**details), refusals)


def _read(source: Source, to: Export) -> tuple[Source, ImageReading, list[Refusal]]:
    """The source without the slices that cannot be read, what it holds, and what was refused; the
    padding of a series stays in its slices."""
    if isinstance(source, Series):
        require_identifiers(source)
        reading = read_volume(source)
        return reading.series, ImageReading(reading.volume, NOTHING), reading.refusals
    return source, read_padded(source, air=to.air), []


def _write(
    found: ImageReading, region: LabelMap, source: Source, to: Export, operation: Operation
) -> ExportReport:
    """Write the region first, so that the filled image is never there without it.

    found: with the filled image in place of the source's.
    """
    volume = found.volume
    if not isinstance(source, Series):
        name = result_name(source, file_stem(operation))
        suffix = written_suffix(source)
        write_labels(region, grid_of(source), to.folder / f"{name}-region{suffix}")
        path = to.folder / f"{name}{suffix}"
        write_image(volume, path, padding=found.padding, generated=region.labels > 0)
        return ExportReport(to.folder.name, len(region.labels), {"clipped_pixels": 0})
    marking = replace(operation, label=f"{operation.label} REGION", product="region")
    beside = to.folder.with_name(f"{to.folder.name}-region")
    labels = export_labels(region, source, beside, marking, anatomy={NAME: NO_STRUCTURE})
    triples = zip(source.instances, volume.image_hu, region.labels > 0, strict=True)
    processed = (
        Slice(instance, read_slice(instance), image_hu, generated)
        for instance, image_hu, generated in triples
    )
    report = publish(processed, source, operation, to)
    return report.with_details(region_in=labels.to_dict())


def _export_missing(
    model: Generative, card: ModelCard, volume: Volume, to: Export, request: FillRequest
) -> ExportReport:
    """All slices on an even grid as NIfTI, with a label file of those that were generated."""
    whole, made, found = filled_gaps(model, volume, request.fill)
    along_mm = np.linalg.norm(whole.slice_origins_mm - whole.slice_origins_mm[0], axis=1)
    numbers = ", ".join(str(number + 1) for number in made)
    texts = {
        "descrip": "SYNTHETIC IN PART: slices made up, see the label file",
        "made up": f"SYNTHETIC IN PART: slices {numbers} of {len(whole.image_hu)}, counted from 1, "
        f"were MADE UP by {card.name} v{card.version} sha256:{card.weights_sha256} from the "
        "slices beside them. Not measured, not for diagnosis.",
    }
    region = np.zeros(whole.image_hu.shape, np.uint8)
    region[made] = 1
    place = (whole.affine_lps, whole.slice_origins_mm)
    marked = LabelMap(region, {1: NAME}, {"kind": "region"})
    write_labels(marked, LabelGrid.of_volume(whole), to.folder / "synthetic-slices-region.nii.gz")
    write_voxels(whole.image_hu, *place, to.folder / "synthetic-slices.nii.gz", texts=texts)
    details = {
        "clipped_pixels": 0,
        **request.to_dict(),
        "made_up": [
            {"slice": number + 1, "position_mm": round(float(along_mm[number]), 3)}
            for number in made
        ],
        "beside": found.facts()["slices"],
    }
    return ExportReport(to.folder.name, len(whole.image_hu), details)
