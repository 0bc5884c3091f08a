"""Is a series like those that a model learned from? Shown to people before anything else.

A series outside of what training saw gets a warning, not a verdict: the model may do well on it,
but this was not measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.core.sanitise import printable_line
from pipeline.core.types import Json
from pipeline.inference.traits import NUMBERS, WORDS, TrainingTraits, Traits

#: A list of what training saw says so many of its words.
_MAX_WORDS = 4
#: In a report's row.
UNLIKE, LINE = "drift", "drift_line"


@dataclass(frozen=True)
class Drift:
    """What of a series is outside of what training saw, a line each, and which traits are inside.

    unlike: None where it is not known what training saw. alike: names of WORDS and NUMBERS.
    """

    unlike: tuple[str, ...] | None
    alike: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The sentence that people are shown."""
        if self.unlike is None:
            return "Likeness to the model's training: not known, the model has no record of it."
        if not self.unlike:
            return f"Like the model's training in {', '.join(self.alike) or 'nothing known'}."
        return f"UNLIKE THE MODEL'S TRAINING: {'. '.join(self.unlike)}."

    def to_dict(self) -> Json:
        """In a report's row: UNLIKE, a list, where it is known, and LINE."""
        known = {} if self.unlike is None else {UNLIKE: list(self.unlike)}
        return {**known, LINE: self.line}


NOT_KNOWN = Drift(None)


def drift(found: Traits, seen: TrainingTraits) -> Drift:
    """A series against what training saw, noise first; of a trait that one of them does not know
    nothing is said."""
    both = [name for name in NUMBERS if name in found.numbers and name in seen.numbers]
    words = [name for name in WORDS if name in found.words and name in seen.words]
    lines = {name: _number_line(name, found.numbers[name], seen.numbers[name]) for name in both}
    lines |= {name: _word_line(name, found.words[name], seen.words[name]) for name in words}
    if lines.get("vendor"):
        lines.pop("scanner", None)  # another vendor's is another scanner
    return Drift(
        tuple(line for line in lines.values() if line),
        tuple(name for name, line in lines.items() if not line),
    )


def first_lines(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """What of a report's exported series is shown first: each LINE once, and of how many series it
    was said, where not of all."""
    lines = [str(row[LINE]) for row in rows if row.get(LINE)]
    counts = Counter(lines)
    if len(counts) == 1:
        return list(counts)
    return [f"{count} of {len(lines)} series: {line}" for line, count in counts.most_common()]


def _word_line(name: str, word: str, seen: Mapping[str, int]) -> str:
    if word in seen:
        return ""
    known = sorted(seen, key=lambda each: -seen[each])
    others = len(known) - _MAX_WORDS
    more = f" and {others} others" if others > 0 else ""
    return printable_line(f"{name} {word}; training saw {', '.join(known[:_MAX_WORDS])}{more}")


def _number_line(name: str, number: float, seen: tuple[float, float]) -> str:
    low, high = seen
    limits = NUMBERS[name]
    if low / limits.times - limits.plus <= number <= high * limits.times + limits.plus:
        return ""
    unit = f" {limits.unit}" if limits.unit else ""
    return f"{name} {number:.3g}{unit}; training saw {low:.3g} to {high:.3g}{unit}"
