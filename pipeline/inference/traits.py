"""What a series is like: scanner, kernel, dose, noise, thickness and anatomy, in words and figures.

What training saw is kept with the registered version, and in the folder of a model that comes
with the software. Noise and anatomy are measured in a few slices; the rest is the header's.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.config.component import build
from pipeline.config.run import RunConfig
from pipeline.core.masks import LUNG_THRESHOLD_HU, body_mask
from pipeline.core.types import ImageHU
from pipeline.core.volume import Volume
from pipeline.degradations.digest import degradation_digest
from pipeline.physics.image_noise import FlatTissue, evenly_spread, usual_noise_hu
from pipeline.physics.lowdose import LowDoseCT
from pipeline.store.store import Store

NOT_STATED = "not stated"
#: What a series is compared by, in words: in the order of the report.
WORDS = ("kernel", "vendor", "scanner", "tube voltage")


class Number(NamedTuple):
    """A figure that series are compared by: it may lie `times` beyond the range that training saw,
    or `plus` beyond in its own unit."""

    unit: str
    times: float = 1.0
    plus: float = 0.0


NOISE, RELATIVE_NOISE, EXPOSURE = "noise", "noise over full dose's", "exposure"
#: In the order of the report. The noise of one protocol differs by about 1.5 between
#: patients of different size. Relative noise is over that of a full dose with noise as fine and
#: slices as thick (image_noise.usual_noise_hu): for a model of many doses it says more than HU.
#: Fineness (image_noise.ImageNoise) is what a kernel does to noise, whatever it is called. Body
#: width is the diameter of a circle of the body's area; lung and bone are shares of that area.
NUMBERS = {
    NOISE: Number("HU", times=1.5),
    RELATIVE_NOISE: Number("times", times=1.5),
    "fineness of noise": Number("", plus=0.5),
    "slice thickness": Number("mm", times=1.5),
    "body width": Number("cm", times=1.25),
    "lung": Number("% of the body", plus=15.0),
    "bone": Number("% of the body", plus=10.0),
    EXPOSURE: Number("mAs", times=1.5),
}
#: Smoothing before tissue is separated from noise, and what counts as bone.
_SMOOTHING_MM, _BONE_HU = 4.0, 200.0


@dataclass(frozen=True)
class Traits:
    """One series: words by the names of WORDS, numbers by those of NUMBERS that are known."""

    words: dict[str, str]
    numbers: dict[str, float]


@dataclass(frozen=True)
class TrainingTraits:
    """Several series: how many have each word, and each number's lowest and highest value."""

    series: int
    words: dict[str, dict[str, int]]
    numbers: dict[str, tuple[float, float]]

    def to_dict(self) -> dict[str, Any]:
        """As it is registered: {"series", WORDS: {word: series}, NUMBERS: [lowest, highest]}."""
        numbers = {name: list(limits) for name, limits in self.numbers.items()}
        return {"series": self.series, **self.words, **numbers}

    @classmethod
    def from_dict(cls, seen: Mapping[str, Any]) -> TrainingTraits:
        """What to_dict gave, of this version or an older one: words and numbers may be missing."""
        words = {name: seen[name] for name in WORDS if name in seen}
        numbers = {name: tuple(seen[name]) for name in NUMBERS if name in seen}
        return cls(seen["series"], words, numbers)


def traits(
    volume: Volume, input_hu: NDArray[np.float32] | None = None, *, dose_fraction: float = 1.0
) -> Traits:
    """What a volume is compared by; a number that is not known is left out.

    input_hu: the model's input in place of the volume [slices, rows, columns], at
    `dose_fraction` of its dose.
    """
    image_hu = volume.image_hu if input_hu is None else input_hu
    numbers = {**_stated(volume, dose_fraction), **_noise(volume, image_hu), **_anatomy(volume)}
    return Traits(words_of(volume), numbers)


def measured_slices(count: int) -> NDArray[np.int64]:
    """Numbers of the slices, of `count`, that traits measures: evenly spread."""
    return np.array(evenly_spread(count))


def noise_hu(volume: Volume, image_hu: NDArray[np.float32]) -> float | None:
    """Median standard deviation in flat tissue, finer than 0.1 per mm; None without such tissue."""
    return _noise(volume, image_hu).get(NOISE)


def summary(rows: list[Traits]) -> TrainingTraits:
    """Several series' traits together."""
    return _summary([[row] for row in rows])


def seen_by(store: Store, keys: list[str], config: RunConfig) -> TrainingTraits:
    """What training sees in the series of these keys.

    Of the degraded images where there is a degradation, since they are the model's input, with as
    much noise as data.noise_scale makes of it at least and at most. With data.nested, where an
    input may have any dose, noise is given as relative noise alone: from the stored images', at the
    highest dose, to what that is at the lowest, as noise of quanta grows with 1 / sqrt(dose).
    """
    return _summary([list(_inputs(store, key, config)) for key in keys])


def _inputs(store: Store, key: str, config: RunConfig) -> Iterable[Traits]:
    """The extremes of what a model is given of one series."""
    volume = store.load(key)
    nested = getattr(config.data, "nested", None)
    if nested is not None:
        whole = traits(volume)
        for dose in nested.dose:
            yield _at_dose(whole, dose)
        return
    physics = _physics(config)
    fraction = physics.dose_fraction if physics else 1.0
    path = store.degraded_path(key, degradation_digest(config, 0))
    if not path.exists():
        yield traits(volume, dose_fraction=fraction)
        return
    chosen = measured_slices(len(volume.image_hu))
    low_hu = np.load(path, mmap_mode="r")[chosen]
    few = volume.slices(chosen)
    for scale in sorted(set(getattr(config.data, "noise_scale", (1.0, 1.0)))):
        input_hu = few.image_hu + np.float32(scale) * (low_hu - few.image_hu)
        yield traits(few, input_hu, dose_fraction=fraction)


def _at_dose(whole: Traits, dose: float) -> Traits:
    numbers = dict(whole.numbers)
    numbers.pop(NOISE, None)
    if RELATIVE_NOISE in numbers:
        numbers[RELATIVE_NOISE] /= math.sqrt(dose)
    if EXPOSURE in numbers:
        numbers[EXPOSURE] *= dose
    return Traits(whole.words, numbers)


def _summary(series: list[list[Traits]]) -> TrainingTraits:
    """Of each series the traits of several inputs, all with the same words; figures to four
    digits."""
    found = {name: Counter(sorted(rows[0].words[name] for rows in series)) for name in WORDS}
    every = [row.numbers for rows in series for row in rows]
    values = {name: [row[name] for row in every if name in row] for name in NUMBERS}
    limits = {
        name: (_rounded(min(all_)), _rounded(max(all_))) for name, all_ in values.items() if all_
    }
    return TrainingTraits(len(series), {name: dict(count) for name, count in found.items()}, limits)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def words_of(volume: Volume) -> dict[str, str]:
    """What the header says, by the names of WORDS; NOT_STATED where it does not."""
    provenance = volume.provenance
    maker = str(provenance.get("Manufacturer") or "")
    named = " ".join(filter(None, (maker, str(provenance.get("ManufacturerModelName") or ""))))
    return {
        "kernel": _word(provenance.get("ConvolutionKernel")),
        "vendor": maker.split()[0].upper() if maker.split() else NOT_STATED,
        "scanner": named or NOT_STATED,
        "tube voltage": _word(provenance.get("KVP")),
    }


def _stated(volume: Volume, dose_fraction: float) -> dict[str, float]:
    exposure = _number(volume.provenance.get("Exposure"))
    thickness_mm = _number(volume.provenance.get("SliceThickness"))
    found = {
        EXPOSURE: None if exposure is None else exposure * dose_fraction,
        "slice thickness": thickness_mm,
    }
    return {name: value for name, value in found.items() if value is not None}


def _noise(volume: Volume, image_hu: NDArray[np.float32]) -> dict[str, float]:
    """Level and fineness in flat tissue; nothing without such tissue."""
    tissue = FlatTissue.of(replace(volume, image_hu=image_hu))
    found = tissue.noise([image_hu[number] for number in tissue.slices])
    if found is None:
        return {}
    thickness_mm = _number(volume.provenance.get("SliceThickness")) or volume.spacing_mm[0]
    usual_hu = usual_noise_hu(found.fineness, thickness_mm)
    return {
        NOISE: found.noise_hu,
        RELATIVE_NOISE: found.noise_hu / usual_hu,
        "fineness of noise": found.fineness,
    }


def _anatomy(volume: Volume) -> dict[str, float]:
    """Size of the body and its shares of lung and bone, medians over slices; nothing without one.

    Of the volume itself, not of a degraded input: a dose changes noise, no anatomy.
    """
    rows_mm, columns_mm = volume.spacing_mm[1:]
    size = (_SMOOTHING_MM / rows_mm, _SMOOTHING_MM / columns_mm)
    chosen = measured_slices(len(volume.image_hu))
    slices = [_tissues(np.asarray(volume.image_hu[n], np.float32), size) for n in chosen]
    found = np.array([each for each in slices if each is not None])
    if not len(found):
        return {}
    pixels, lung, bone = np.median(found, axis=0)
    area_mm2 = float(pixels) * rows_mm * columns_mm
    width_cm = 2 * math.sqrt(area_mm2 / math.pi) / 10
    return {"body width": width_cm, "lung": 100 * float(lung), "bone": 100 * float(bone)}


def _tissues(image_hu: ImageHU, size: tuple[float, float]) -> tuple[float, float, float] | None:
    """Pixels of the body, and the shares of it that are lung and bone; None without a body."""
    smooth_hu = ndimage.uniform_filter(image_hu, [max(1, round(side)) for side in size])
    body = body_mask(smooth_hu)
    if not body.any():
        return None
    inside = smooth_hu[body]
    lung = float((inside < LUNG_THRESHOLD_HU).mean())
    return float(inside.size), lung, float((inside > _BONE_HU).mean())


def _physics(config: RunConfig) -> LowDoseCT | None:
    if config.degradation is None:
        return None
    made = build(config.degradation, key="degradation", base=object)
    return made if isinstance(made, LowDoseCT) else None


def _word(value: object) -> str:
    """As people write it: 120 for 120.0, a kernel of several values with spaces."""
    if value in (None, "", []):
        return NOT_STATED
    if isinstance(value, list | tuple):
        return " ".join(str(part) for part in value)
    number = _number(value)
    return f"{number:g}" if number is not None else str(value)


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) and number > 0 else None
