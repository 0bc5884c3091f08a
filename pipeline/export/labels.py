"""Export of labels: DICOM SEG or RTSTRUCT of a series, checked before they are published, or a
label file on the grid of an image file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.core.atomic_files import replacing_folder
from pipeline.core.errors import ConfigError
from pipeline.core.label_map import LabelMap
from pipeline.dicom.derived import rtstruct, seg
from pipeline.dicom.derived.check import check_structures
from pipeline.dicom.derived.structure_codes import Anatomy
from pipeline.dicom.derived.write import Operation
from pipeline.dicom.read.series import Series
from pipeline.export.series import ExportReport, file_stem
from pipeline.io.discover import Source
from pipeline.io.image_formats import written_suffix
from pipeline.io.image_names import result_name
from pipeline.labels.discover import grid_of
from pipeline.labels.files import write_labels
from pipeline.models.adapters.card import ModelCard

SEG, LABELMAP, RTSTRUCT, NIFTI = "seg", "labelmap", "rtstruct", "nifti"
FORMS = (SEG, LABELMAP, RTSTRUCT, NIFTI)
#: Of PS3.16 CID 7203.
SEGMENTED = ("113076", "DCM", "Segmentation")


def segmentation_by(card: ModelCard) -> Operation:
    """The operation of a segmentation model, as its DICOM objects state it."""
    operation = Operation(
        label=f"AI SEGMENTED {card.name} v{card.version}",
        description=(
            f"Segmentation by neural network. Model {card.name} version {card.version}, weights "
            f"SHA-256 {card.weights_sha256}. AI-derived, not for primary diagnosis; on the "
            "source's own slices."
        ),
        code=SEGMENTED,
        equipment=card.name,
        equipment_version=f"{card.version} sha256:{card.weights_sha256[:16]}",
        identity=f"{card.name}/{card.version}/{card.weights_sha256}",
    )
    return card.marked(operation)


def require_form(form: str) -> str:
    """The form; raises ConfigError for what is not one of FORMS."""
    if form not in FORMS:
        raise ConfigError(f"no form {form!r} of labels: choose one of {', '.join(FORMS)}")
    return form


def export_labels(
    labelmap: LabelMap,
    source: Source,
    folder: Path,
    operation: Operation,
    *,
    form: str = SEG,
    anatomy: Mapping[str, Anatomy] | None = None,
) -> ExportReport:
    """Write the label map of a source into `folder`, whole or not at all.

    labelmap: on the grid of the slices of a series, or of the image file. form: of a series,
    one of FORMS; an image file has a label file of its own format. anatomy: the codes of names
    that pipeline.dicom.derived.structure_codes does not know. The same source, labels and operation
    give the same bytes. Raises ConfigError for a form that is not one of FORMS, LdctError for an
    object that fails its check, which is then not written, and for slices whose places no NIfTI
    file can hold.
    """
    require_form(form)
    if not isinstance(source, Series) or form == NIFTI:
        return _export_file(labelmap, source, folder, operation)
    with replacing_folder(folder) as partial:
        if form == RTSTRUCT:
            written = rtstruct.write_rtstruct_file(labelmap, source, operation, partial)
        else:
            kind = seg.LABELMAP if form == LABELMAP else seg.BINARY
            written = seg.write_seg_file(
                labelmap, source, operation, partial, kind=kind, anatomy=anatomy
            )
        file = rtstruct.FILE if form == RTSTRUCT else seg.FILE
        result = check_structures(partial / file, source, name=folder.name)
        result.require()
    details = {**written.to_dict(), "check": result.summary().to_dict()}
    return ExportReport(folder.name, written.instances, details)


def _export_file(
    labelmap: LabelMap, source: Source, folder: Path, operation: Operation
) -> ExportReport:
    suffix = ".nii.gz" if isinstance(source, Series) else written_suffix(source)
    made_by = file_stem(operation)
    name = made_by if isinstance(source, Series) else result_name(source, made_by)
    write_labels(labelmap, grid_of(source), folder / f"{name}{suffix}")
    return ExportReport(folder.name, 1, {"structures": len(labelmap.names)})
