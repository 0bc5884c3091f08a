"""What a restoring run learns from and is held to: plain settings that its YAML holds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.config.sections import Component, Strict

#: How pictures are seen: one channel of luma, three of grey levels, or CIE L*, a*, b*.
Colour = Literal["grey", "rgb", "lab"]
CHANNELS: dict[Colour, int] = {"grey": 1, "rgb": 3, "lab": 3}

#: What a model is measured against (pipeline.evaluation.classical_restorers).
ReferenceName = Literal[
    "gaussian",
    "bilateral",
    "non_local_means",
    "total_variation",
    "wiener",
    "richardson_lucy",
    "biharmonic",
]


#: Packages of photographs under open licences (pipeline.ingest.installed_pictures).
PackageName = Literal["lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04", "mate-backgrounds"]


#: Side of the frames of sequences that are made of photographs, and the longer side of a photograph
#: whose style is taken where the training had pictures of any size, in pixels.
MOVING_SIDE, STYLE_SIDE = 128, 512

#: Longer sides of training pictures, in pixels.
SeveralSides = Annotated[list[Annotated[int, Field(ge=64)]], Field(min_length=1)]


class RestorationLimits(Strict):
    """What a version must reach to get an alias, in the first window, mean over pictures."""

    #: Over what is there without restoring: the input, bicubic pixels, the grey copy. null: not
    #: judged, as where texture is drawn, which no pixel can be held to.
    min_psnr_gain_db: float | None = 0.0
    #: Over the best of the references; not judged where a run names none, or null.
    min_psnr_above_references_db: float | None = 0.0
    #: The same of SSIM.
    min_ssim_above_references: float | None = 0.0
    #: The output's Frechet distance at most this share of the least that the input and the
    #: references have; needs `frechet_side`. Not judged unless given.
    max_frechet_share: Annotated[float, Field(gt=0)] | None = None


class Restoration(Strict):
    """Where the pictures come from, how they are seen, and the limits."""

    #: `series`: CT from `--data`; `shipped`: photographs that scikit-image and scikit-learn
    #: bring along; `pictures`: PNG, JPEG, TIFF and NIfTI files from `--data`; `pairs`: the folders
    #: `input` and `target` of such files there, a pair by the name that both have; `frames`:
    #: folders of such files, each a sequence in the order of their names; `moving`: sequences
    #: built from shipped photographs; `stereo`: pairs of the disparity, which is the inverse of
    #: depth, and the picture of scikit-image's motorcycle, in strips.
    source: Literal["series", "shipped", "pictures", "pairs", "frames", "moving", "stereo"] = (
        "series"
    )
    #: How pictures are seen: one channel of luma, three of grey levels, or CIE L*, a*, b*.
    colour: Colour = "grey"
    #: Of sequences and slices: how many on each side the model sees beside the middle one (2.5-D).
    #: Items of the training then are two places in a row, for
    #: pipeline.training.steps.temporal_consistency and adversarial_frames.
    neighbours: Annotated[int, Field(ge=0, le=4)] | None = None
    #: What the model is to make of a picture, where that is not the picture: a label map of it.
    #: A degradation, such as pipeline.degradations.labels.ImageToLabels.
    target: Component | None = None
    #: Debian packages of photographs that a run of the sources `shipped` and `moving` also learns
    #: from, where they are installed (`bash .ci/install-pictures`). The report lists those that
    #: are not.
    installed: list[PackageName] = Field(default_factory=list)
    #: Training pictures with a longer side are made smaller, to it, before pieces are cut: those
    #: of a large photograph are smoother than photographs are as a whole. In pixels; of several
    #: sides, each picture is there once for each.
    training_side: Annotated[int, Field(ge=64)] | SeveralSides | None = None
    #: What degrades the test pictures, where that is not `degradation`: a model of any noise is
    #: measured at one.
    test_degradation: Component | None = None
    #: What a model is measured against (pipeline.evaluation.classical_restorers).
    references: tuple[ReferenceName, ...] = ()
    #: Side in pixels of the pieces of test pictures whose texture is measured by a Frechet distance
    #: (pipeline.metrics.texture); of a run that fills holes, of pieces within them. null: not
    #: measured.
    frechet_side: Annotated[int, Field(ge=16)] | None = None
    #: A picture's four quarter turns and their mirror images are each restored, and the mean of the
    #: eight, turned back, is the result: a little better for eight times the work (geometric
    #: self-ensemble; Lim et al., CVPR workshops 2017). Not for a degradation with a direction.
    self_ensemble: bool = False
    #: What a version must reach to get an alias.
    limits: RestorationLimits = RestorationLimits()

    @property
    def training_sides(self) -> list[int]:
        """`training_side`, one or several; none where pictures stay as large as they are."""
        given = self.training_side
        return [given] if isinstance(given, int) else given or []

    @property
    def style_side(self) -> int:
        """Longer side of a photograph whose style is taken: as large as training pictures were."""
        usual = MOVING_SIDE if self.source == "moving" else STYLE_SIDE
        return max(self.training_sides, default=usual)

    @property
    def is_stack(self) -> bool:
        """Whether a series is a sequence of images, not the channels of one."""
        return self.source in ("series", "frames", "moving")

    @property
    def is_paired(self) -> bool:
        """Whether a series is a target and its input."""
        return self.source in ("pairs", "stereo")

    @property
    def seen(self) -> str:
        """As what a stored series was put there, for the runs that can use it."""
        if self.source == "series":
            return "series"
        return f"{self.colour} pair" if self.is_paired else self.colour

    @model_validator(mode="after")
    def _stacks_are_grey(self) -> Restoration:
        if self.is_stack and self.colour != "grey":
            raise ValueError(f"colour: sequences and slices are grey, got {self.colour}")
        if self.neighbours is not None and not self.is_stack:
            raise ValueError(f"neighbours: pictures of the source {self.source} have none")
        if self.training_side and (self.is_stack or self.is_paired):
            raise ValueError(f"training_side: of pictures, not of the source {self.source}")
        if self.limits.max_frechet_share is not None and self.frechet_side is None:
            raise ValueError("limits.max_frechet_share: needs frechet_side, or none is measured")
        if self.frechet_side is not None and self.source == "series":
            raise ValueError("frechet_side: of pictures in grey levels, not of CT")
        if self.self_ensemble and self.source == "series":
            raise ValueError("self_ensemble: of pictures, not of CT")
        if self.installed and self.source not in ("shipped", "moving"):
            raise ValueError(f"installed: beside the sources shipped and moving, not {self.source}")
        return self
