"""What a file's meta information (PS3.10 7.1) and its data set say, where only one is right."""

from __future__ import annotations

from typing import Any

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from pipeline.dicom.read.raw_elements import set_value
from pipeline.dicom.read.slice_requirements import is_empty

#: What both hold, and must say alike (PS3.10 table 7.1-1): the name in the data set, and in meta.
STATED_TWICE = {
    "SOPClassUID": "MediaStorageSOPClassUID",
    "SOPInstanceUID": "MediaStorageSOPInstanceUID",
}


def lacks_what_meta_has(dataset: Dataset) -> bool:
    """Whether a data set lacks what the file meta information must state too."""
    return any(is_empty(dataset, name) for name in STATED_TWICE)


def complete(dataset: Dataset) -> tuple[str, ...]:
    """Set what a CT image's data set lacks and its file meta information states; remarks on that,
    and on a data set in another encoding than its TransferSyntaxUID says.

    An image without a stated class is taken as a CT Image.
    """
    meta = getattr(dataset, "file_meta", None) or Dataset()
    remarks = []
    for name, in_meta in STATED_TWICE.items():
        stated = str(meta.get(in_meta) or "")
        origin = "from the file meta information (PS3.10 7.1)"
        if name == "SOPClassUID" and not stated:
            stated, origin = CTImageStorage, "to be CT Image Storage, for want of another"
        if is_empty(dataset, name) and stated:
            set_value(dataset, name, stated)
            remarks.append(f"{name} is missing in the data set and was taken {origin}")
    found, said = is_implicit(dataset), _said_implicit(meta.get("TransferSyntaxUID"))
    if None not in (found, said) and found != said:
        kinds = {True: "implicit", False: "explicit"}
        remarks.append(
            f"TransferSyntaxUID says {kinds[bool(said)]} VR, the data set is in "
            f"{kinds[bool(found)]} VR and was read so (PS3.5 7.1)"
        )
    return tuple(remarks)


def is_implicit(dataset: Dataset) -> bool | None:
    """Whether the data set was read in implicit VR; None where nothing says it."""
    elements = (dataset.get_item(tag) for tag in list(dataset.keys()))
    return next((e.is_implicit_VR for e in elements if isinstance(e, RawDataElement)), None)


def _said_implicit(syntax: Any) -> bool | None:
    """Whether a transfer syntax is in implicit VR; None for a private one, and for none."""
    known = syntax is not None and not syntax.is_private and syntax.is_transfer_syntax
    return syntax.is_implicit_VR if known else None
