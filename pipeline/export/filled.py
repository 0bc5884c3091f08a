"""What a generator made up of a CT, handed over so that nobody takes it for measured.

A series becomes a derived series that says MADE UP, and with it a DICOM SEG of where; an image
file becomes an image file and a label file. Slices that were never there have no source image
that a derived one could name: they go into NIfTI marked SYNTHETIC, with a label file.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.sr.codedict import codes

from pipeline.config.run import digest
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
from pipeline.export.series import Export, Exported, publish, require_names
from pipeline.generative.fill import Fill, filled, filled_gaps
from pipeline.generative.untrusted_regions import METAL_HU, METAL_MARGIN_MM, metal, truncation
from pipeline.io.discover import Source
from pipeline.io.volume_files import read_image, write_image, write_voxels, written_suffix
from pipeline.labels.discover import grid_of
from pipeline.labels.files import read_mask, write_labels
from pipeline.labels.grid import LabelGrid
from pipeline.models.adapters.card import ModelCard
from pipeline.models.adapters.generative import Generative

METAL, TRUNCATION, MISSING = "metal", "truncation", "missing"
#: CID 7203 has no code for making up; this one is of CID 9231.
BY_AI = ("123110", "DCM", "Artificial Intelligence")
#: Of CID 7150 and PS3.16 annex D: no structure of the patient.
NO_STRUCTURE = Anatomy(codes.SCT.SpatialAndRelationalConcept, codes.DCM.SelectedRegion)
NAME = "made up, not measured"


@dataclass(frozen=True)
class FillRequest:
    """What is to be made up: METAL, TRUNCATION, MISSING slices, or what a label file marks.

    threshold_hu, margin_mm: of metal (pipeline.generative.untrusted_regions).
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
        return self.region in (METAL, TRUNCATION, MISSING)

    @property
    def name(self) -> str:
        """Without the mask's own name, which may be a patient's."""
        return self.region if self.is_named else "mask"

    def found_in(self, volume: Volume, grid: LabelGrid) -> NDArray[np.bool_]:
        """The region; raises NothingUsableError where the volume has none."""
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

    def facts(self) -> dict[str, Any]:
        told: dict[str, Any] = {"region": self.name}
        if self.region == METAL:
            told |= {"threshold_hu": self.threshold_hu, "margin_mm": self.margin_mm}
        return told

    def operation(self, card: ModelCard, where: LabelMap) -> Operation:
        """As a derived header tells it; another region, or search, is another operation."""
        asked = {**self.facts(), **self.fill.facts(), "where": where.digest}
        return Operation(
            label=f"{MADE_UP} {self.name} {card.name} v{card.version}",
            description=(
                f"The region '{self.name}' was MADE UP by a generative neural network (latent "
                "search, blended at its rim): it was not measured and shows no patient. NOT FOR "
                "DIAGNOSIS. Where it is, the segmentation of this series tells; all other pixels "
                f"are the source's. Model {card.name} version {card.version}, weights SHA-256 "
                f"{card.weights_sha256}."
            ),
            code=BY_AI,
            equipment=card.name,
            equipment_version=f"{card.version} sha256:{card.weights_sha256[:16]}",
            identity=f"{card.name}/{card.version}/{card.weights_sha256}/fill/{digest(asked)}",
        )


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
    wanted: FillRequest,
    progress: Progress = lambda slices: None,
) -> Exported:
    """Make up what is wanted of a source, and hand it over with the region that was made up.

    Returns what to report of it, and what is refused of the source. Raises NothingUsableError
    where there is nothing to make up, LdctError for what pipeline.generative.fill refuses, and for
    a derived series that fails its check.
    """
    try:
        source, volume, refusals = _read(source)
    except SeriesRefusedError as refused:
        return None, refused.refusals
    except Unreadable as fault:
        assert isinstance(source, Path)
        return None, [fault.refusal(source)]
    if wanted.region == MISSING:
        return _missing(model, card, volume, to, wanted), refusals
    region = wanted.found_in(volume, grid_of(source))
    done = filled(model, volume.image_hu, region, wanted.fill, sequence=True, progress=progress)
    where = LabelMap(region.astype(np.uint8), {1: NAME}, {"kind": "region"})
    operation = wanted.operation(card, where)
    told = _handed_over(replace(volume, image_hu=done.images), where, source, to, operation)
    return {**told, **wanted.facts(), "pixels": int(region.sum()), **done.facts()}, refusals


def _read(source: Source) -> tuple[Source, Volume, list[Refusal]]:
    """A volume, the slices of a series that made it, and what of it is refused."""
    if isinstance(source, Series):
        require_names(source)
        reading = read_volume(source)
        return reading.series, reading.volume, reading.refusals
    return source, read_image(source), []


def _handed_over(
    volume: Volume, where: LabelMap, source: Source, to: Export, operation: Operation
) -> dict[str, Any]:
    """The region first: what is made up is never there without it."""
    if not isinstance(source, Series):
        name = operation.label.lower().replace(" ", "-")
        suffix = written_suffix(source)
        write_labels(where, grid_of(source), to.folder / f"{name}-region{suffix}")
        write_image(volume, to.folder / f"{name}{suffix}")
        return {"folder": to.folder.name, "instances": len(where.labels), "clipped_pixels": 0}
    marking = replace(operation, label=f"{operation.label} REGION", product="region")
    beside = to.folder.with_name(f"{to.folder.name}-region")
    told = export_labels(where, source, beside, marking, anatomy={NAME: NO_STRUCTURE})
    triples = zip(source.instances, volume.image_hu, where.labels > 0, strict=True)
    made = (Slice(one, read_slice(one), image_hu, made_up) for one, image_hu, made_up in triples)
    return {**publish(made, source, operation, to), "region_in": told}


def _missing(
    model: Generative, card: ModelCard, volume: Volume, to: Export, wanted: FillRequest
) -> dict[str, Any]:
    """All slices on their even grid as NIfTI, those that were made up named."""
    whole, made, found = filled_gaps(model, volume, wanted.fill)
    along_mm = np.linalg.norm(whole.slice_origins_mm - whole.slice_origins_mm[0], axis=1)
    numbers = ", ".join(str(number + 1) for number in made)
    told = {
        "descrip": "SYNTHETIC IN PART: slices made up, see the label file",
        "made up": f"SYNTHETIC IN PART: slices {numbers} of {len(whole.image_hu)}, counted from 1, "
        f"were MADE UP by {card.name} v{card.version} sha256:{card.weights_sha256} from the "
        "slices beside them. Not measured, not for diagnosis.",
    }
    region = np.zeros(whole.image_hu.shape, np.uint8)
    region[made] = 1
    place = (whole.affine_lps, whole.slice_origins_mm)
    marked = LabelMap(region, {1: NAME}, {"kind": "region"})
    write_labels(marked, LabelGrid.of(whole), to.folder / "synthetic-slices-region.nii.gz")
    write_voxels(whole.image_hu, *place, to.folder / "synthetic-slices.nii.gz", told=told)
    return {
        "folder": to.folder.name,
        "instances": len(whole.image_hu),
        "clipped_pixels": 0,
        **wanted.facts(),
        "made_up": [
            {"slice": number + 1, "position_mm": round(float(along_mm[number]), 3)}
            for number in made
        ],
        "beside": found.facts()["slices"],
    }
