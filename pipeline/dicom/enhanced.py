"""Multi-frame CT (PS3.3 A.38, A.70) as the single slices that the rest of the house knows."""

from __future__ import annotations

from pydicom.dataset import Dataset

from pipeline.dicom.findings import Unreadable


def single_frame(dataset: Dataset, frame: int) -> Dataset:
    """Frame `frame`, counted from 0, of a multi-frame CT as a CT Image of its own."""
    raise Unreadable("multi-frame CT is not read yet", "NumberOfFrames", frame)
