"""What may be used although something is wrong with it: by default nothing is."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Intake(BaseModel):
    """Choices an owner of the data can make; each one used is told in the series' warnings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gaps: Literal["refuse", "slices", "fill"] = Field(
        "refuse",
        description="Series whose positions and instance numbers show missing slices: refuse "
        "them, use them slice by slice, or fill the gaps by interpolation, masked as unmeasured.",
    )
    uneven: Literal["slices", "resample"] = Field(
        "slices",
        description="Unevenly spaced series: use them slice by slice, or resample them onto an "
        "even grid.",
    )
    tilt: Literal["keep", "unshear"] = Field(
        "keep",
        description="Series of a tilted gantry: keep the slices and a sheared affine, or resample "
        "them onto upright axes.",
    )
    unidentified: Literal["refuse", "folder"] = Field(
        "refuse",
        description="Slices whose patient, study or series is not named: refuse them, or take "
        "all those of one folder as one series of one patient. They cannot be exported.",
    )
