"""What a restoring run learns from and is held to: plain settings that its YAML holds."""

from __future__ import annotations

from typing import Literal

from pipeline.settings import Component, Strict

#: How pictures are seen: one channel of luma, three of grey levels, or CIE L*, a*, b*.
Colour = Literal["grey", "rgb", "lab"]
CHANNELS: dict[Colour, int] = {"grey": 1, "rgb": 3, "lab": 3}

#: What a model is measured against (pipeline.restoration_references).
ReferenceName = Literal[
    "gaussian",
    "bilateral",
    "non_local_means",
    "total_variation",
    "wiener",
    "richardson_lucy",
    "biharmonic",
]


class RestorationLimits(Strict):
    """What a version must reach to get an alias, in the first window, mean over pictures."""

    #: Over what is there without restoring: the input, bicubic pixels, the grey copy.
    least_psnr_gain_db: float = 0.0
    #: Over the best of the references; not judged where a run names none.
    least_psnr_above_references_db: float = 0.0
    least_ssim_above_references: float = 0.0


class Restoration(Strict):
    """Where the pictures come from, how they are seen, and the limits."""

    #: `series`: CT from `--data`; `shipped`: photographs that scikit-image and scikit-learn
    #: bring along; `pictures`: PNG, JPEG, TIFF and NIfTI files from `--data`.
    source: Literal["series", "shipped", "pictures"] = "series"
    colour: Colour = "grey"
    #: What the model is to give of a picture, where that is not the picture: a label map of it.
    #: A component that spoils, such as pipeline.degradations.labels.LabelMap.
    wanted: Component | None = None
    references: tuple[ReferenceName, ...] = ()
    limits: RestorationLimits = RestorationLimits()
