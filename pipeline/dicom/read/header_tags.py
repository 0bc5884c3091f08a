"""The attributes that are read from every CT header, by what they are for."""

from __future__ import annotations

from pydicom.datadict import tag_for_keyword

from pipeline.dicom.read.slice_requirements import REQUIRED_KEYWORDS

#: What later stages need to know of a series; none of it identifies a patient.
DESCRIPTIVE_KEYWORDS = (
    "ImageType",
    "ConvolutionKernel",
    "KVP",
    "SliceThickness",
    "XRayTubeCurrent",
    "Exposure",
    "BodyPartExamined",
    "Manufacturer",
    "ManufacturerModelName",
    "PatientPosition",
    "GantryDetectorTilt",
    "LossyImageCompression",
)

#: What may distinguish slices at one place: the first of these that does splits the series.
SPLITTING_KEYWORDS = (
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "NominalPercentageOfCardiacPhase",
    "TriggerTime",
    "StackID",
    "SliceThickness",
    "ReconstructionDiameter",
    "FilterType",
    "ContrastBolusAgent",
    "ImageType",
    "SeriesNumber",
    "AcquisitionTime",
)

#: What distinguishes virtual monoenergetic images, and where a CT image holds it (PS3.3 C.8.2.2).
ENERGY_KEYWORD = "MonoenergeticEnergyEquivalent"
ENERGY_SEQUENCES = (
    "MultienergyCTAcquisitionSequence",
    "MultienergyCTProcessingSequence",
    "MultienergyCTCharacteristicsSequence",
)

OTHER_KEYWORDS = (
    "SpecificCharacterSet",
    ENERGY_KEYWORD,
    *ENERGY_SEQUENCES,
    "ImageComments",  # may hold a photon energy; never stored or shown
    "SeriesDescription",  # distinguishes doses (ingest.dose_pairs); never stored or shown
    "SOPClassUID",
    "Modality",
    "IssuerOfPatientID",
    "FrameOfReferenceUID",
    "InstanceNumber",
    "SpacingBetweenSlices",
    "ImagesInAcquisition",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "HighBit",
    "RescaleType",
    "ModalityLUTSequence",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
)
#: The attributes that are read from every header: keywords by tag.
HEADER_TAGS = {
    tag: name
    for name in (
        "PatientID",
        *REQUIRED_KEYWORDS,
        *DESCRIPTIVE_KEYWORDS,
        *SPLITTING_KEYWORDS,
        *OTHER_KEYWORDS,
    )
    if (tag := tag_for_keyword(name)) is not None
}
#: (60xx,0102) of all sixteen overlays: which of a pixel's unused bits holds one (PS3.3 C.9.2).
HEADER_TAGS |= {0x60000102 + (n << 17): f"OverlayBitPosition{n}" for n in range(16)}

#: Codes (VR CS) that decide what is done with a slice.
CODES = ("ImageType", "Modality", "LossyImageCompression", "PhotometricInterpretation")
