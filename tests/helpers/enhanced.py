"""Enhanced CT objects made of synthetic frames."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
)

from helpers.dicom import (
    ROOT_UID,
    ct_slice,
)

UID = f"{ROOT_UID}.5"


#: Attributes of a single-frame slice, by the functional group that holds them (PS3.3 A.38.1.4).
GROUPS = {
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth"),
    "CTReconstructionSequence": ("ConvolutionKernel", "ReconstructionDiameter"),
    "CTXRayDetailsSequence": ("KVP", "FilterType"),
    "CTTableDynamicsSequence": ("SpiralPitchFactor",),
    "FrameContentSequence": ("StackID", "InStackPositionNumber", "TemporalPositionIndex"),
}


def frame_source(index: int, **attributes: Any) -> Dataset:
    """A single-frame slice that has something in every group."""
    values: dict[str, Any] = {
        "RescaleType": "HU",
        "WindowCenter": "40",
        "WindowWidth": "400",
        "ReconstructionDiameter": "360",
        "FilterType": "BODY",
        "SpiralPitchFactor": 0.984,
        "StackID": "1",
        "InStackPositionNumber": index + 1,
        "TemporalPositionIndex": 1,
    }
    source = ct_slice(index, **(values | attributes))
    source.file_meta = FileMetaDataset()
    source.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return source


def item(source: Dataset, names: tuple[str, ...]) -> Dataset:
    group = Dataset()
    for name in names:
        group[name] = source[name]
    return group


def enhanced_ct(sources: list[Dataset], per_frame: tuple[str, ...] = (), **top: Any) -> Dataset:
    """An Enhanced CT as a scanner writes it; groups not in `per_frame` are the first frame's."""
    places = ("PlanePositionSequence", "FrameContentSequence")
    whole = ct_slice(0, SOPClassUID=EnhancedCTImageStorage, SOPInstanceUID=UID)
    for name in [name for names in GROUPS.values() for name in names]:
        if name in whole:
            delattr(whole, name)
    shared, frames = Dataset(), [Dataset() for _ in sources]
    for group, names in GROUPS.items():
        if group in (*per_frame, *places):
            for frame, source in zip(frames, sources, strict=True):
                setattr(frame, group, [item(source, names)])
        else:
            setattr(shared, group, [item(sources[0], names)])
    whole.SharedFunctionalGroupsSequence = [shared]
    whole.PerFrameFunctionalGroupsSequence = frames
    whole.NumberOfFrames = len(sources)
    whole.InstanceNumber = 1
    pixels = b"".join(source.PixelData for source in sources)
    whole.add_new("PixelData", "OW", pixels + b"\0" * (len(pixels) % 2))
    for name, value in top.items():
        setattr(whole, name, value)
    return whole
