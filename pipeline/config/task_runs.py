"""The runs of the tasks that come with the software: a type each, chosen by `task:`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from pipeline.config.generation import Generation
from pipeline.config.restoration import Restoration
from pipeline.config.run import RunConfig
from pipeline.config.sections import (
    Component,
    DenoiseGate,
    NoGate,
    Normalize,
    Register,
    SegmentGate,
)
from pipeline.config.segmentation import Planned, Segmentation, planned_or_complete
from pipeline.config.transforms import SPATIAL, Transforms
from pipeline.core.errors import ConfigError

LOSS = "say what to minimise"


class DenoiseRun(RunConfig):
    """A target image gets noise, or comes with a real noisy one; a network takes it off."""

    adapter: ClassVar[str] = "pipeline.models.adapters.denoiser.denoiser"

    #: Noise is taken off CT.
    task: Literal["denoise"]
    loss: Component = Field(description=LOSS)
    #: MONAI's transforms, beside those of `data`.
    transforms: Transforms | None = None
    #: What the network sees of HU.
    normalize_hu: Normalize = Normalize()
    #: The share of the network's correction that the trained model applies; the rest of the noise
    #: stays, and with it the texture that readers know. Training and its loss know only the whole.
    strength: Annotated[float, Field(gt=0, le=1)] = 1.0
    #: The first four are reported at every evaluation, the others where they are named.
    metrics: tuple[Literal["psnr", "ssim", "rmse", "hu_bias", "vif", "gmsd", "ms_ssim"], ...] = (
        "psnr",
        "ssim",
        "rmse",
        "hu_bias",
    )
    #: How the held-back patients are measured (pipeline.metrics.conventions); some have own
    #: windows.
    convention: Literal["ldct", "ldct_body", "eulig2024", "redcnn", "range4096"] = "ldct"
    #: Noise texture and sharpness on phantoms in the report.
    phantoms: bool = True
    #: By which name versions are registered, and what they must reach.
    register_: Register[DenoiseGate] = Field(alias="register")

    @model_validator(mode="after")
    def _one_way_to_inputs(self) -> DenoiseRun:
        data = self.data
        if (self.degradation is None) == (data.pairs is None):
            raise ValueError("name a degradation, or data.pairs: one of them makes the inputs")
        if data.pairs and (data.realisations > 1 or data.partner == "draw"):
            raise ValueError("data.pairs: a real series is one draw: no realisations, no partner")
        if data.nested and self.transforms:
            raise ValueError("transforms: not with data.nested, whose noise must stay as measured")
        return self


class _WithoutPairs(RunConfig):
    """A run whose inputs are no real low-dose series."""

    @model_validator(mode="after")
    def _no_pairs(self) -> _WithoutPairs:
        if self.data.pairs:
            raise ValueError(f"data.pairs: not for the task {self.task}")
        return self


class SegmentRun(_WithoutPairs):
    """Structures of label maps are learned. Where there is a degradation, the network learns with
    it too, and is tested on what it makes."""

    adapter: ClassVar[str] = "pipeline.models.adapters.segmenter.segmenter"

    #: Structures are found in CT.
    task: Literal["segment"]
    segmentation: Annotated[
        Annotated[Segmentation, Tag("complete")] | Annotated[Planned, Tag("planned")],
        Discriminator(planned_or_complete),
    ] = Field(description="say which classes, and on what grid")
    loss: Component = Field(description=LOSS)
    #: MONAI's transforms of the training patches (`training` alone), beside those of
    #: `segmentation.augment`.
    transforms: Transforms | None = None
    #: By which name versions are registered, and what they must reach.
    register_: Register[SegmentGate] = Field(alias="register")

    @model_validator(mode="after")
    def _transforms_of_patches(self) -> SegmentRun:
        given = self.transforms
        if given is None:
            return self
        if given.cache or given.slices or given.validation or given.inference:
            raise ValueError("transforms: of a segmenter, training alone")
        for number, entry in enumerate(given.training):
            name, where = entry["_target_"], f"transforms.training.{number}"
            if name == "Rand2DElasticd":
                raise ValueError(f"{where}: {name}: a segmenter has augment.elastic_voxels")
            if name not in SPATIAL and entry["keys"] != ["input"]:
                raise ValueError(f"{where}: {name} would change labels")
        return self

    @property
    def is_complete(self) -> bool:
        """Whether the grid is known, and with it the network's levels."""
        return isinstance(self.segmentation, Segmentation)

    @property
    def grid(self) -> Segmentation:
        """The segmentation with its grid; ConfigError where it has not been planned yet."""
        if not isinstance(self.segmentation, Segmentation):
            raise ConfigError(
                "segmentation: its spacing_mm and patch are not known before planning"
            )
        return self.segmentation


class GenerateRun(_WithoutPairs):
    """Images to codes and back, and new images from random codes."""

    adapter: ClassVar[str] = "pipeline.models.adapters.generative.generative"

    #: Images are coded, decoded and drawn.
    task: Literal["generate"]
    generation: Generation = Field(description="say which images, and of what size")
    #: What the network sees of HU, or of grey levels.
    normalize_hu: Normalize = Normalize()
    #: By which name versions are registered, and what they must reach.
    register_: Register[NoGate] = Field(alias="register")


class RestoreRun(_WithoutPairs):
    """A picture or slice is degraded, and a network brings it back."""

    adapter: ClassVar[str] = "pipeline.models.adapters.restorer.restorer"

    #: Pictures or slices are restored.
    task: Literal["restore"]
    restoration: Restoration = Field(description="say which pictures")
    degradation: Component = Field(description="say what degrades them")
    loss: Component = Field(description=LOSS)
    #: What the network sees of HU, or of grey levels.
    normalize_hu: Normalize = Normalize()
    #: By which name versions are registered, and what they must reach.
    register_: Register[NoGate] = Field(alias="register")

    def as_tested(self) -> RestoreRun:
        """The run with what degrades its test pictures as its degradation."""
        tested = self.restoration.test_degradation
        return self if tested is None else self.model_copy(update={"degradation": tested})
