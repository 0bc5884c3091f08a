"""Label maps as NIfTI, NRRD and MetaImage files: read onto an image's grid, and written.

Names of values are read from the file where it has them: a table in a NIfTI extension, which
TotalSegmentator and Connectome Workbench write, or the keys of 3D Slicer's NRRD segmentations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import nibabel
import numpy as np
from numpy.typing import NDArray

from pipeline.core.label_map import MAX_VALUE, LabelMap, compact, values_in
from pipeline.core.refusals import Unreadable
from pipeline.dicom.deidentify.identity_text import identity_in
from pipeline.io.image_formats import NIFTI, format_of
from pipeline.io.itk_reader import ITK_FORMATS, open_itk, suffix_of
from pipeline.io.volume_files import read_stored
from pipeline.io.volume_writer import write_voxels
from pipeline.labels.grid import LabelGrid, place_on
from pipeline.labels.safe_xml import parse_xml

#: A file with more different values than this holds grey values, not structures.
MAX_STRUCTURES = 240
MASK = "mask file"


def read_mask(
    path: Path, image: LabelGrid, *, names: Mapping[int, str] | None = None, resample: bool = False
) -> LabelMap:
    """A file's labels on the image's grid.

    names: of values, where the file has none; a value without a name is `label N`. resample:
    labels on another grid are resampled, not refused. Raises Unreadable for a file that holds no
    labels, or labels that lie elsewhere.
    """
    stored = read_stored(path)
    labels = labels_of(stored.values)
    slices, rows, columns = labels.shape
    placed = place_on(
        labels, LabelGrid.even((slices, rows, columns), stored.affine_lps), image, resample=resample
    )
    known = dict(names or {}) | names_in(path)
    identifying = _identifying(known, image)
    safe = {value: name for value, name in known.items() if value not in identifying}
    default = {
        value: f"label {value}" for value in sorted({*values_in(labels), *identifying} - {0})
    }
    warnings = [text for text in (*stored.warnings, placed.warning) if text]
    warnings += [f"the name of value {v} identifies the patient: left out" for v in identifying]
    source = {"kind": MASK, "format": format_of(path)} | (
        {"warnings": warnings} if warnings else {}
    )
    return LabelMap(np.ascontiguousarray(placed.values), default | safe, source)


def _identifying(names: Mapping[int, str], image: LabelGrid) -> list[int]:
    """The values whose names identify the patient, by the image's own header if it has one."""
    if image.series is None:
        return []
    header = image.series.instances[0].load()
    return [value for value, name in names.items() if identity_in(name, header)]


def labels_of(values: NDArray[np.float32]) -> NDArray[np.unsignedinteger]:
    """Values as labels of the smallest integer type; raises Unreadable for values that are none:
    not whole, out of range, too many different ones, or all 0."""
    lowest, highest = values.min(initial=0), values.max(initial=0)
    if not (lowest >= 0 and highest <= MAX_VALUE):  # so that NaN is refused
        raise Unreadable("labels are whole numbers from 0 to 65535", "values", f"{lowest:g}")
    labels = compact(values)
    if not np.array_equal(labels, values):
        raise Unreadable("labels are whole numbers, and these values are not", "values")
    present = values_in(labels)
    if len(present) > MAX_STRUCTURES:
        raise Unreadable("grey values rather than labels: too many different ones", "values")
    if not any(present):
        raise Unreadable("no voxel is labelled", "values", 0)
    return labels


def names_in(path: Path) -> dict[int, str]:
    """The names of values that a file has itself; {} where it has none."""
    if suffix_of(path) not in ITK_FORMATS:
        return _names_in_nifti(path)
    return _names_in_nrrd(path) if ITK_FORMATS[suffix_of(path)] == "NRRD" else {}


def _names_in_nifti(path: Path) -> dict[int, str]:
    for extension in nibabel.load(path).header.extensions:
        content = extension.get_content()
        text = content if isinstance(content, bytes) else str(content).encode()
        if b"<LabelTable" in text:
            table = parse_xml(text.strip(b"\0 \n"))
            labels = {int(item.get("Key", 0)): item.text or "" for item in table.iter("Label")}
            return {value: name for value, name in labels.items() if value and name}
    return {}


def _names_in_nrrd(path: Path) -> dict[int, str]:
    reader, _ = open_itk(path)
    names = {}
    for key in reader.GetMetaDataKeys():
        found = re.fullmatch(r"(Segment\d+_)LabelValue", key)
        if found and reader.HasMetaDataKey(f"{found[1]}Name"):
            names[int(reader.GetMetaData(key))] = reader.GetMetaData(f"{found[1]}Name")
    return names


def write_labels(labelmap: LabelMap, image: LabelGrid, path: Path) -> None:
    """Write a label map on its image's grid, with the names of its values.

    Raises as write_image does, ValueError for structures that overlap, since these formats have
    one value a voxel, and ValueError for labels of another shape than the image's.
    """
    if labelmap.overlaps:
        raise ValueError("structures overlap: group them, or write DICOM SEG")
    if labelmap.labels.shape != image.shape:
        raise ValueError(f"labels {labelmap.labels.shape} for an image of {image.shape}")
    nifti = suffix_of(path) in NIFTI
    texts = _label_table(labelmap.names) if nifti else _slicer_keys(labelmap.names)
    write_voxels(labelmap.labels, image.affine_lps, image.slice_origins_mm, path, texts=texts)


def _label_table(names: Mapping[int, str]) -> dict[str, str]:
    labels = "".join(
        f"<Label Key={quoteattr(str(value))}>{escape(name)}</Label>"
        for value, name in sorted(names.items())
    )
    table = f"<VolumeInformation><LabelTable>{labels}</LabelTable></VolumeInformation>"
    return {"table": f"<CaretExtension>{table}</CaretExtension>"}


def _slicer_keys(names: Mapping[int, str]) -> dict[str, str]:
    keys: dict[str, str] = {}
    for number, (value, name) in enumerate(sorted(names.items())):
        keys |= {f"Segment{number}_LabelValue": str(value), f"Segment{number}_Name": name}
    return keys
