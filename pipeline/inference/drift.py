"""Is a series like those that a model learned from? By scanner, kernel, dose and noise.

What training saw is kept with the registered version. An incoming series outside of it gets a
warning, not a verdict: the model may do well on it, but this was not measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.component import build
from pipeline.config.run import RunConfig
from pipeline.core.volume import Volume
from pipeline.degradations.digest import degradation_digest
from pipeline.physics.image_noise import FlatTissue, evenly_spread
from pipeline.physics.lowdose import LowDoseCT
from pipeline.store.store import Store

NOT_STATED = "not stated"
#: How far beyond what training saw a number may lie: the noise of one protocol differs by about
#: this much between patients of different size.
MARGIN = 1.5
#: What a series is compared by: words, and numbers with their units.
WORDS = ("scanner", "kernel", "tube voltage")
NUMBERS = {"exposure": "mAs", "slice thickness": "mm", "noise": "HU"}


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
        """What to_dict gave; numbers may be missing."""
        words = {name: seen[name] for name in WORDS}
        return cls(
            seen["series"], words, {name: tuple(seen[name]) for name in NUMBERS if name in seen}
        )


def traits(
    volume: Volume, input_hu: NDArray[np.float32] | None = None, *, dose_fraction: float = 1.0
) -> Traits:
    """What a volume is compared by; a number that is not known is left out.

    input_hu: the model's input in place of the volume [slices, rows, columns], at
    `dose_fraction` of its dose.
    """
    provenance = volume.provenance
    makers = (str(provenance.get(name) or "") for name in ("Manufacturer", "ManufacturerModelName"))
    words = {
        "scanner": " ".join(word for word in makers if word) or NOT_STATED,
        "kernel": _word(provenance.get("ConvolutionKernel")),
        "tube voltage": _word(provenance.get("KVP")),
    }
    exposure = _number(provenance.get("Exposure"))
    numbers = {
        "exposure": None if exposure is None else exposure * dose_fraction,
        "slice thickness": _number(provenance.get("SliceThickness")),
        "noise": noise_hu(volume, volume.image_hu if input_hu is None else input_hu),
    }
    return Traits(words, {name: n for name, n in numbers.items() if n is not None})


def measured_slices(count: int) -> NDArray[np.int64]:
    """Numbers of the slices, of `count`, that traits measures: evenly spread."""
    return np.array(evenly_spread(count))


def noise_hu(volume: Volume, image_hu: NDArray[np.float32]) -> float | None:
    """Median standard deviation in flat tissue, finer than 0.1 per mm; None without such tissue."""
    tissue = FlatTissue.of(replace(volume, image_hu=image_hu))
    found = tissue.noise([image_hu[number] for number in tissue.slices])
    return found.noise_hu if found else None


def seen_by(store: Store, keys: list[str], config: RunConfig) -> TrainingTraits:
    """What training sees in the series of these keys.

    Of the degraded images where there is a degradation, since they are the model's input.
    """
    physics = _physics(config)
    fraction = physics.dose_fraction if physics else 1.0
    rows = []
    for key in keys:
        path = store.degraded_path(key, degradation_digest(config, 0))
        input_hu = np.load(path, mmap_mode="r") if path.exists() else None
        rows.append(traits(store.load(key), input_hu, dose_fraction=fraction))
    return summary(rows)


def summary(rows: list[Traits]) -> TrainingTraits:
    """Several series' traits together."""
    words = {name: Counter(sorted(row.words[name] for row in rows)) for name in WORDS}
    numbers = {name: [row.numbers[name] for row in rows if name in row.numbers] for name in NUMBERS}
    limits = {name: (min(all_), max(all_)) for name, all_ in numbers.items() if all_}
    return TrainingTraits(len(rows), {name: dict(count) for name, count in words.items()}, limits)


def drift(found: Traits, seen: TrainingTraits) -> list[str]:
    """A line for each trait of a series that is outside of what training saw."""
    return [*_unseen_words(found, seen), *_unseen_numbers(found, seen)]


def _unseen_words(found: Traits, seen: TrainingTraits) -> Iterable[str]:
    for name in WORDS:
        if found.words[name] not in seen.words[name]:
            yield f"{name} {found.words[name]}; training saw {', '.join(seen.words[name])}"


def _unseen_numbers(found: Traits, seen: TrainingTraits) -> Iterable[str]:
    for name, unit in NUMBERS.items():
        if name not in found.numbers or name not in seen.numbers:
            continue
        number, (low, high) = found.numbers[name], seen.numbers[name]
        if not low / MARGIN <= number <= high * MARGIN:
            yield f"{name} {number:.3g} {unit}; training saw {low:.3g} to {high:.3g} {unit}"


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
