"""What a generative run learns from and is held to: plain settings that its YAML holds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.config.restoration import PackageName
from pipeline.config.sections import Positive, Strict
from pipeline.core.units import Window

Side = Annotated[int, Field(ge=1)]
Size = tuple[Side, Side]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]

#: What labels conditional networks and attribute vectors: nothing, what came with the pictures,
#: or whether a CT slice shows lungs, by its HU.
LabelName = Literal["none", "given", "lungs"]


class Jitter(Strict):
    """Random turns, zooms by 1 +- zoom, shifts and, if asked for, mirrored columns."""

    #: The largest turn, either way.
    turn_degrees: NotNegative = 0.0
    #: Factors from 1 - zoom to 1 + zoom.
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0.0
    #: The largest shift, either way.
    shift_pixels: NotNegative = 0.0
    #: Whether columns are mirrored, in half of the images.
    mirror: bool = False


class Limits(Strict):
    """What a version must reach to get an alias; what is left out is not judged."""

    #: Of reconstructions of held-back images, in the first window.
    min_psnr_db: float | None = None
    #: The same, less that of PCA with as many components, fitted to the training images.
    min_psnr_above_pca_db: float | None = None
    #: Of samples' MS-SSIM diversity, as a share of the held-back images'.
    min_diversity: Share | None = None
    #: Of samples' precision: as good as real ones (Kynkaanniemi et al. 2019).
    min_precision: Share | None = None
    #: Of the samples, which are nearer to a training image than any held-back one is.
    max_copies: Share | None = 0.01
    #: A coder's bits a pixel, of whole files.
    max_bits_per_pixel: Positive | None = None


class Generation(Strict):
    """What the images are, how they are shown to the network, and the limits."""

    #: `series`: CT from `--data`; `idx`: the IDX files of MNIST and its kin in the folder `--data`
    #: (pipeline.ingest.idx_pictures); or pictures that libraries bring along
    #: (pipeline.ingest.bundled_pictures).
    source: Literal["series", "idx", "digits", "faces", "photographs"] = "series"
    #: Debian packages of photographs that a run of the source `photographs` also learns from, where
    #: they are installed (`bash .ci/install-pictures`). The report lists those that are not.
    installed: list[PackageName] = Field(default_factory=list)
    #: Whole images, resampled to this; None: pieces of data.patch, at the images' own size.
    image_size: Size | None = None
    #: Values are cut off at this window's ends, so that nothing is spent on what lies outside.
    clip: Window | None = None
    #: What labels conditional networks and attribute vectors: nothing, what came with the pictures,
    #: or whether a CT slice shows lungs, by its HU.
    label: LabelName = "none"
    #: How training images are changed at random.
    jitter: Jitter = Jitter()
    #: Drawn at evaluation, where the network can draw.
    samples: Annotated[int, Field(ge=20)] = 500
    #: What a version must reach to get an alias.
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _installed_photographs(self) -> Generation:
        if self.installed and self.source != "photographs":
            raise ValueError(f"installed: beside the source photographs, not {self.source}")
        return self
