"""Label maps as NIfTI, NRRD and MetaImage files, in and out, by the image's geometry.

Names of values come with the file where it has them: as a table in a NIfTI extension, which
TotalSegmentator and Connectome Workbench write, or in the keys of 3D Slicer's NRRD segmentations.
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
from pipeline.io.itk_reader import ITK, opened, suffix_of
from pipeline.io.volume_files import NIFTI, format_of, read_stored, write_voxels
from pipeline.labels.grid import LabelGrid, place
from pipeline.labels.safe_xml import parsed

#: More different values than this are no structures but an image of grey values.
MOST_STRUCTURES = 240
MASK = "mask file"


def read_mask(
    path: Path, image: LabelGrid, *, names: Mapping[int, str] | None = None, resample: bool = False
) -> LabelMap:
    """A file's labels on the image's grid.

    names: of values, where the file has none; a value without a name is `label N`. Raises
    Unreadable for a file that holds no labels, or, in mm, none of this image's.
    """
    values, affine, warnings = read_stored(path)
    labels = labels_of(values)
    slices, rows, columns = labels.shape
    placed = place(
        labels, LabelGrid.even((slices, rows, columns), affine), image, resample=resample
    )
    given = dict(names or {}) | names_in(path)
    telling = _telling(given, image)
    safe = {value: name for value, name in given.items() if value not in telling}
    named = {value: f"label {value}" for value in sorted({*values_in(labels), *telling} - {0})}
    told = [*warnings, placed.done]
    told += [f"the name of value {value} says who the patient is: left out" for value in telling]
    source = {"kind": MASK, "format": format_of(path)}
    warned = {"warnings": list(filter(None, told))} if any(told) else {}
    return LabelMap(np.ascontiguousarray(placed.values), named | safe, source | warned)


def _telling(names: Mapping[int, str], image: LabelGrid) -> list[int]:
    """The values whose names say who the patient is, as far as the image itself knows that."""
    if image.series is None:
        return []
    header = image.series.instances[0].load()
    return [value for value, name in names.items() if identity_in(name, header)]


def labels_of(values: NDArray[np.float32]) -> NDArray[np.unsignedinteger]:
    """Values as labels; raises Unreadable where they are none."""
    lowest, highest = values.min(initial=0), values.max(initial=0)
    if not (lowest >= 0 and highest <= MAX_VALUE):  # so that NaN is refused
        raise Unreadable("labels are whole numbers from 0 to 65535", "values", f"{lowest:g}")
    labels = compact(values)
    if not np.array_equal(labels, values):
        raise Unreadable("labels are whole numbers, and these values are not", "values")
    present = values_in(labels)
    if len(present) > MOST_STRUCTURES:
        raise Unreadable("grey values rather than labels: too many different ones", "values")
    if not any(present):
        raise Unreadable("no voxel is labelled", "values", 0)
    return labels


def names_in(path: Path) -> dict[int, str]:
    """The names of values that a file tells itself."""
    if suffix_of(path) in NIFTI:
        return _names_in_nifti(path)
    return _names_in_nrrd(path) if ITK[suffix_of(path)] == "NRRD" else {}


def _names_in_nifti(path: Path) -> dict[int, str]:
    for extension in nibabel.load(path).header.extensions:
        content = extension.get_content()
        text = content if isinstance(content, bytes) else str(content).encode()
        if b"<LabelTable" in text:
            table = parsed(text.strip(b"\0 \n"))
            labels = {int(item.get("Key", 0)): item.text or "" for item in table.iter("Label")}
            return {value: name for value, name in labels.items() if value and name}
    return {}


def _names_in_nrrd(path: Path) -> dict[int, str]:
    reader, _ = opened(path)
    names = {}
    for key in reader.GetMetaDataKeys():
        found = re.fullmatch(r"(Segment\d+_)LabelValue", key)
        if found and reader.HasMetaDataKey(f"{found[1]}Name"):
            names[int(reader.GetMetaData(key))] = reader.GetMetaData(f"{found[1]}Name")
    return names


def write_labels(labelmap: LabelMap, image: LabelGrid, path: Path) -> None:
    """Write a label map in the place of its image, with the names of its values.

    Raises as write_image does, and ValueError for structures that overlap: one value a voxel
    is all that these formats have.
    """
    if labelmap.overlaps:
        raise ValueError("structures overlap: group them, or write DICOM SEG")
    if labelmap.labels.shape != image.shape:
        raise ValueError(f"labels {labelmap.labels.shape} for an image of {image.shape}")
    nifti = suffix_of(path) in NIFTI
    told = _label_table(labelmap.names) if nifti else _slicer_keys(labelmap.names)
    write_voxels(labelmap.labels, image.affine_lps, image.slice_origins_mm, path, told=told)


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
