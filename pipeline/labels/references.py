"""The references of DICOM labels, checked against a series; messages name attributes, not UIDs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydicom.dataset import Dataset

from pipeline.core.refusals import Unreadable
from pipeline.dicom.deidentify.identity_text import identity_in
from pipeline.dicom.derived.provenance import ImageKey, keys_of
from pipeline.dicom.derived.structure_objects import frames_of_reference
from pipeline.dicom.read.files import read_dataset
from pipeline.dicom.read.series import Series
from pipeline.labels.grid import LabelGrid


def read_object(path: Any, **options: Any) -> Dataset:
    """A DICOM object, read with `dcmread` options; raises Unreadable for a damaged one."""
    try:
        return read_dataset(path, **options)
    except Unreadable:
        raise
    except Exception as error:  # damaged streams raise many kinds
        raise Unreadable(f"damaged file ({type(error).__name__})") from error


def series_of(image: LabelGrid) -> Series:
    """The grid's series; raises Unreadable for an image file, which has no UIDs to refer to."""
    if image.series is None:
        raise Unreadable("the labels refer to DICOM images, and this image is a file without UIDs")
    return image.series


def require_same_study(dataset: Dataset, series: Series) -> None:
    """Raises Unreadable for another study or frame of reference than the series', if both have
    one."""
    study = str(series.header.get("StudyInstanceUID") or "")
    for name, known in (
        ("StudyInstanceUID", [study] if study else []),
        ("FrameOfReferenceUID", frames_of_reference(series)),
    ):
        own = str(dataset.get(name) or "")
        if own and known and own not in known:
            raise Unreadable("another one than the image's: labels of something else", name)


def count_missing_images(named: Iterable[ImageKey], series: Series, attribute: str) -> int:
    """How many of the referenced images the series lacks; another volume of the same DICOM series
    may have them. Raises Unreadable where it lacks all."""
    images = set(named)
    missing = len(images - keys_of(series).keys())
    if images and missing == len(images):
        raise Unreadable(f"none of {len(images)} images that it names is in the series", attribute)
    return missing


def distinct_names(names: list[str], dataset: Dataset) -> list[str]:
    """Names of structures, made distinct; names that identify the patient become `structure N`."""
    safe = [name if name and not identity_in(name, dataset) else "" for name in names]
    found: list[str] = []
    for number, name in enumerate(safe, start=1):
        name = name or f"structure {number}"
        found.append(f"{name} ({number})" if name in found else name)
    return found
