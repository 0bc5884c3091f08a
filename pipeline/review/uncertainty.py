"""How far each voxel of a derived series may be off, as planes to lay over it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread
from pydicom.uid import ExplicitVRLittleEndian

from pipeline.core.refusals import Unreadable
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import geometry_volume
from pipeline.review.planes import FRACTION_HU, PADDING, Plane, Planes, to_numbers
from pipeline.review.planes_geometry import Geometry

#: Tag, VR, two bytes of nothing and the length of (7FE0,0008) Float Pixel Data (PS3.5 7.1.2).
_HEADER_BYTES = 12
_FLOAT_PIXELS = b"\xe0\x7f\x08\x00OF"


def uncertainty_planes(path: Path, series: Series) -> Planes:
    """The planes of a Parametric Map that this software wrote of `series`, in steps of FRACTION_HU.

    Raises Unreadable where the file is another's, or has no frame for a slice.
    """
    values, frames = _frames(path)
    numbers = [frames.get(_place(instance.header)) for instance in series.instances]
    if None in numbers or values.shape[1:] != _size(series):
        raise Unreadable("the uncertainty's frames do not lie where the slices of its series do")

    def read(number: int) -> Plane:
        deviation_hu = np.asarray(values[numbers[number]])
        found = to_numbers(deviation_hu, deviation_hu >= 0, FRACTION_HU)
        return np.where(deviation_hu == 0, PADDING, found)

    return Planes(Geometry.of(geometry_volume(series)), read, hu_step=FRACTION_HU)


def _frames(path: Path) -> tuple[NDArray[np.float32], dict[tuple[float, ...], int]]:
    """The values [frames, rows, columns], read as they are asked for, and frames by their place."""
    try:
        with path.open("rb") as file:
            header = dcmread(file, stop_before_pixels=True)
            start = file.tell()
            is_ours = header.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
            if not is_ours or file.read(len(_FLOAT_PIXELS)) != _FLOAT_PIXELS:
                raise Unreadable("no Parametric Map as this software writes it")
        shape = (int(header.NumberOfFrames), int(header.Rows), int(header.Columns))
        values = np.memmap(path, "<f4", "r", offset=start + _HEADER_BYTES, shape=shape)
        groups = header.PerFrameFunctionalGroupsSequence
        places = [_place(frame.PlanePositionSequence[0]) for frame in groups]
    except Unreadable:
        raise
    except Exception as error:  # damaged files raise many kinds
        raise Unreadable(f"no Parametric Map that can be read ({type(error).__name__})") from error
    return values, {place: number for number, place in enumerate(places)}


def _place(header: Dataset) -> tuple[float, ...]:
    return tuple(float(number) for number in header.ImagePositionPatient)


def _size(series: Series) -> tuple[int, int]:
    return int(series.header.Rows), int(series.header.Columns)
