"""A user's choices for series with gaps, tilt, missing identifiers or labels on other grids."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class IngestOptions(BaseModel):
    """The `intake` section of a run: by default what is faulty is refused. Each choice that was
    applied to a series is named in its warnings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Series whose positions and instance numbers show missing slices: refuse them, use them
    #: slice by slice, or fill the gaps by interpolation and mask them as not measured.
    gaps: Literal["refuse", "slices", "fill"] = "refuse"
    #: Unevenly spaced series: use them slice by slice, or resample them onto an even grid.
    uneven: Literal["slices", "resample"] = "slices"
    #: Series of a tilted gantry: keep the slices and a sheared affine, or resample upright.
    tilt: Literal["keep", "unshear"] = "keep"
    #: Slices without PatientID or UIDs: refuse them, or take all those of one folder as one
    #: series of one patient, for training and never for export.
    unidentified: Literal["refuse", "folder"] = "refuse"
    #: Slices whose RescaleType does not say HU, such as US (unspecified): refuse them, or take
    #: their values as HU, which the derived series then says. Other quantities are always refused.
    rescale_type: Literal["refuse", "hu"] = "refuse"
    #: Volumes whose values are no HU by their air and tissue (pipeline.core.hu_scale): refuse image
    #: files, and keep DICOM series out of the training; or take their values as they are.
    air: Literal["require", "accept"] = "require"
    #: Image files name no patient: each is one of its own, or all files of one folder below the
    #: source are one's (those right in it one each), or as a CSV file with file,patient says.
    patients: str = "file"
    #: Labels on another grid than their image's: refuse them, or take the nearest voxel's.
    labels: Literal["refuse", "nearest"] = "refuse"
    #: Segmentations that hold fractions: refuse them, or take what is half and more.
    fractions: Literal["refuse", "half"] = "refuse"
    #: Folders with this in their name, in any case, are not entered; "" enters all.
    skip_folders: str = ""
