"""The sections of a run's YAML that every task has. Unknown keys are errors."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.core.device import FORM as DEVICE_FORM
from pipeline.dicom.read.ingest_options import IngestOptions

TissueName = Literal["lung", "fat", "soft_tissue", "bone"]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Strict(BaseModel):
    """A section whose unknown keys are errors, and which cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Component(Strict):
    """A class by its dotted path, and its arguments."""

    #: Its dotted path, of those that a YAML may name.
    target: str
    #: By name.
    args: dict[str, Any] = {}


class Split(Strict):
    """Who is held back: a fraction of the patients, or their keys (`p-...`, see `ldct ingest`).

    Or, by a published split's name (pipeline.store.published_splits), its lists of cases, which
    leave nothing to choose; `complete` then asks for every case of theirs.
    """

    #: Patients at random, by a key of this installation, or a published split's lists of cases.
    by: Literal["patient", "eulig2024"] = "patient"
    #: The fraction of the patients that the report is about, or their keys.
    test: Annotated[float, Field(gt=0, lt=1)] | list[str] | None = None
    #: The fraction that is looked at while training, or their keys.
    validation: Fraction | list[str] | None = None
    #: Vendors whose patients are all held back for the test, beside those of `test`: the beginnings
    #: of Manufacturer, in any case. They show what the model does on a scanner it never saw.
    test_vendors: list[Annotated[str, Field(min_length=2)]] = []
    #: Whether every case of the published lists must be there.
    complete: bool = True

    @model_validator(mode="before")
    @classmethod
    def _chosen_or_published(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if given.get("by", "patient") == "patient":
            chosen = {name: value for name, value in given.items() if value is not None}
            return {"test": 0.2, "validation": 0.1, **chosen}
        for side in ("test", "validation", "test_vendors"):
            if given.get(side):
                raise ValueError(f"by {given['by']}: its lists say who is on the {side} side")
        return given

    @model_validator(mode="after")
    def _sides_apart(self) -> Split:
        if isinstance(self.test, list):
            if not self.test:
                raise ValueError("test: name at least one patient, or give a fraction")
            if isinstance(self.validation, list) and set(self.test) & set(self.validation):
                raise ValueError("a patient cannot be in both test and validation")
        elif (
            isinstance(self.test, float)
            and isinstance(self.validation, float)
            and self.test + self.validation >= 1
        ):
            raise ValueError("test and validation together leave no patient to train on")
        return self


Word = Annotated[str, Field(min_length=1)]


class Pairs(Strict):
    """Real low-dose series as the inputs of full-dose ones, matched by the places of their slices.

    Which dose a series has, these words say, in its SeriesDescription or else in the folders it
    lies in below the source, in any case. The defaults are the public Mayo set's. Several doses of
    one scan are inputs of one target each: `input: [25 %, 50 %, 75 %]`.
    """

    #: What says that a series is an input, or several of them, each another dose.
    input: Word | Annotated[list[Word], Field(min_length=1)] = "low dose"
    #: What says that a series is a target.
    target: Word | Annotated[list[Word], Field(min_length=1)] = "full dose"


DoseFraction = Annotated[float, Field(gt=0, le=1)]


class Nested(Strict):
    """Training pairs of one image at two doses, in fractions of the stored image's own dose.

    The input holds the target's noise, and as much more as makes it the lower dose. Both are made
    of two noise draws of the run's degradation, scaled (pipeline.data.nested).
    """

    #: The lowest dose of an input, and the highest of a target.
    dose: tuple[DoseFraction, DoseFraction] = (0.05, 1.0)
    #: By how much a target's dose is above its input's, at most.
    max_dose_ratio: Annotated[float, Field(gt=1)] = 20.0
    #: In which part of the items image and noise go through a reconstruction kernel drawn at random
    #: together, and in which part the noise alone: more kernels than the scanners' own.
    both_filtered: Annotated[float, Field(ge=0, le=1)] = 0.5
    #: In which part the noise alone goes through one.
    noise_filtered: Annotated[float, Field(ge=0, le=1)] = 0.5
    #: In which part the noise gets the spectrum and the level of a sharper kernel drawn at random.
    noise_sharpened: Annotated[float, Field(ge=0, le=1)] = 0.0
    #: Discs of low contrast that are put into each item's image.
    lesions: Annotated[int, Field(ge=0)] = 8

    @model_validator(mode="after")
    def _in_order(self) -> Nested:
        if not self.dose[0] < self.dose[1]:
            raise ValueError(f"dose: expected lowest < highest, got {self.dose}")
        if self.both_filtered + self.noise_filtered + self.noise_sharpened > 1:
            raise ValueError(
                "both_filtered, noise_filtered and noise_sharpened are parts of one whole"
            )
        return self


class Data(Strict):
    """Which series are used, and how patches are cut from them."""

    #: Who is held back.
    split: Split = Split()
    #: How files are read at ingest.
    intake: IngestOptions = IngestOptions()
    #: In place of a degradation.
    pairs: Pairs | None = None
    #: Rows and columns of what the network sees at a time in training.
    patch: tuple[Annotated[int, Field(ge=16)], Annotated[int, Field(ge=16)]] = (64, 64)
    #: Where patches are cut: within the body's bounding box, or anywhere in the slice.
    region: Literal["body", "slice"] = "body"
    #: What is drawn with the same chance: any slice, or any patient and then a slice of theirs.
    sampling: Literal["slices", "patients"] = "slices"
    #: Patches are turned and flipped at random.
    augment: bool = True
    #: Independent noise draws kept for each slice.
    realisations: Annotated[int, Field(ge=1, le=16)] = 1
    #: The inserted noise is scaled at random within this range, per patch.
    noise_scale: tuple[float, float] = (1.0, 1.0)
    #: A second noisy image in each item, for steps without a clean target: another draw of the
    #: same slice, or the slice beside it.
    partner: Literal["none", "draw", "neighbour"] = "none"
    #: Pairs of two doses of one image, in place of the image and its degraded copy.
    nested: Nested | None = None

    @model_validator(mode="after")
    def _draws_for_nested_pairs(self) -> Data:
        if self.nested and (self.realisations < 2 or self.partner != "none" or self.pairs):
            raise ValueError("nested: needs realisations of at least 2, no partner and no pairs")
        if self.nested and self.noise_scale != (1.0, 1.0):
            raise ValueError("nested: the doses scale the noise: leave noise_scale out")
        return self

    @model_validator(mode="after")
    def _draws_for_partners(self) -> Data:
        if self.partner == "draw" and self.realisations < 2:
            raise ValueError("partner: draw needs realisations of at least 2")
        return self

    @model_validator(mode="after")
    def _range_in_order(self) -> Data:
        if not 0 <= self.noise_scale[0] <= self.noise_scale[1]:
            raise ValueError(f"noise_scale: expected 0 <= low <= high, got {self.noise_scale}")
        return self


class Normalize(Strict):
    """network value = (HU - centre) / scale"""

    #: In HU.
    centre: float = 0.0
    #: In HU.
    scale: Annotated[float, Field(gt=0)] = 1000.0


class Imported(Strict):
    """Where a model is from that was not trained here; `train` then says nothing of it."""

    #: What its files were.
    kind: Literal["state_dict", "monai_bundle", "nnunet"]
    #: Who made it, and where it is published.
    source: Word
    #: Of the weights; an SPDX identifier where there is one.
    licence: Word
    #: Of the file of weights that was imported.
    weights_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Train(Strict):
    """How long, how precisely and where to train."""

    #: Updates of the weights.
    iterations: Annotated[int, Field(ge=1)]
    #: Patches in a pass, of all processes together.
    batch: Annotated[int, Field(ge=1)] = 16
    #: The highest learning rate of Adam; a cosine lowers it to the end.
    lr: Annotated[float, Field(gt=0)] = 1e-3
    #: Iterations in which the learning rate rises to `lr`.
    warmup: Annotated[int, Field(ge=0)] = 0
    #: `auto` is whichever trains this network faster here, measured at the start, and fp32 where
    #: bf16 is wrong or fails (pipeline.training.precision).
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    #: auto, cpu, cuda or cuda:N, the GPU of that number. `auto` is CUDA where there is one. A
    #: command's --device goes before it.
    device: Annotated[str, Field(pattern=f"^({DEVICE_FORM})$")] = "auto"
    #: The order of images in memory; the same results.
    channels_last: bool = True
    #: torch.compile.
    compile: bool = False
    #: Batches whose gradients make one update.
    accumulate: Annotated[int, Field(ge=1)] = 1
    #: Gradients of a larger norm are scaled down to it.
    clip_gradient_norm: Annotated[float, Field(gt=0)] | None = None
    #: Iterations between checkpoints, from which a training that was stopped goes on.
    checkpoint_every: Annotated[int, Field(ge=1)] = 500
    #: Iterations between looks at the validation patients; the weights that did best there are
    #: the result. None: the last ones are (pipeline.training.best_weights).
    validate_every: Annotated[int, Field(ge=1)] | None = None
    #: Iterations between points of the training curve.
    log_every: Annotated[int, Field(ge=1)] = 20
    #: Processes that cut patches beside the training; 0: the training does.
    workers: Annotated[int, Field(ge=0)] = 0
    #: Of the first weights, the patches and the noise.
    seed: int = 0
    #: A folder with the weights.safetensors of the same network, from which the training starts.
    start_from: str | None = None


Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


#: A hospital, or a protocol of it: a word that a registry can hold.
SITE = r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}"
Site = Annotated[str, Field(pattern=f"^{SITE}$")]


class NoGate(Strict):
    """What a run's own `limits` do not ask, nothing asks: every version may get an alias."""


class DenoiseGate(Strict):
    """What a denoiser must reach to get an alias; the bias for every tissue, or by tissue."""

    #: The least gain over the undenoised input in every window.
    psnr_gain_db: float = 1.0
    #: The largest mean error of HU, in every tissue or by tissue.
    max_abs_hu_bias: Positive | dict[TissueName, Positive] = 2.0
    #: No alias before readers found its images not inferior (`ldct review stats`).
    reader_study: bool = False
    #: No alias before `ldct qualify --site` of this name passed on the hospital's own series.
    qualified: Site | None = None

    def max_abs_bias_hu(self, tissue: str) -> float | None:
        """The limit for a tissue; None where it is not judged."""
        limit = self.max_abs_hu_bias
        if not isinstance(limit, dict):
            return limit
        return next((bound for name, bound in limit.items() if name == tissue), None)


class SegmentGate(Strict):
    """What a segmenter must reach to get an alias: Dice over classes, or of each that is named."""

    #: The least mean Dice over classes, or of each class that is named.
    min_dice: Share | dict[str, Share] = 0.7


GateT = TypeVar("GateT", bound=Strict)


class Register(Strict, Generic[GateT]):
    """By which name a version is registered, and what it must reach to get an alias."""

    #: Of the model in the registry.
    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
    #: What a version must reach to get an alias.
    gate: GateT = Field(default_factory=dict, validate_default=True)
