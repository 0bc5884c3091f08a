"""The classes that a run asks for, made of a label map's structures by name or number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

import numpy as np

from pipeline.core.errors import ConfigError
from pipeline.core.label_map import LabelMap, compact

#: Group -> structures, each by its name (in any case of letters) or number.
Groups = Mapping[str, Sequence[str | int]]


def values_of_groups(
    labelmap: LabelMap, groups: Groups, *, order: Sequence[str] = ()
) -> dict[str, list[int]]:
    """The label map's values that make up each group; empty where the image has none of it.

    order: groups of which the first one gets what several claim. Raises ConfigError where two
    groups claim voxels and `order` does not name both.
    """
    claims = {name: _claimed(labelmap, members) for name, members in groups.items()}
    found: dict[str, list[int]] = {name: [] for name in groups}
    for value in sorted({*labelmap.names, *labelmap.overlaps}):
        claimants = [name for name in groups if value in claims[name]]
        if len(claimants) > 1:
            claimants = [_first_in_order(claimants, order, _structure_names(labelmap, value))]
        for name in claimants:
            found[name].append(value)
    return found


def grouped(labelmap: LabelMap, groups: Groups, *, order: Sequence[str] = ()) -> LabelMap:
    """The label map with one value for each group, from 1 in the order of `groups`.

    What belongs to no group becomes 0. Raises as values_of_groups does.
    """
    table = np.zeros(max([0, *labelmap.names, *labelmap.overlaps]) + 1, np.uint16)
    found = values_of_groups(labelmap, groups, order=order)
    for number, values in enumerate(found.values(), start=1):
        table[values] = number
    names = dict(enumerate(groups, start=1))
    return LabelMap(compact(table)[labelmap.labels], names, {**labelmap.source, "grouped": True})


def require_known(groups: Groups, label_maps: Iterable[Mapping[int, str]]) -> None:
    """Raises ConfigError for a structure that no label map has: names by value, of each map."""
    structures = [pair for names in label_maps for pair in names.items()]
    known = {value for value, _ in structures}
    by_name = {name.casefold() for _, name in structures}
    for group, members in groups.items():
        for member in members:
            there = member in known if isinstance(member, int) else member.casefold() in by_name
            if not there:
                near = get_close_matches(str(member).casefold(), by_name, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ConfigError(f"group {group!r}: no label map has {member!r}{hint}")


def _claimed(labelmap: LabelMap, members: Sequence[str | int]) -> set[int]:
    by_name = {str(member).casefold() for member in members if not isinstance(member, int)}
    numbers = {member for member in members if isinstance(member, int)}
    return {
        with_others
        for value, name in labelmap.names.items()
        if value in numbers or name.casefold() in by_name
        for with_others in labelmap.values_with(value)
    }


def _structure_names(labelmap: LabelMap, value: int) -> str:
    members = labelmap.overlaps.get(value, (value,))
    return " and ".join(repr(labelmap.names[member]) for member in members)


def _first_in_order(claimants: list[str], order: Sequence[str], what: str) -> str:
    if not set(claimants) <= set(order):
        both = ", ".join(claimants)
        raise ConfigError(
            f"the groups {both} all claim voxels of {what}: leave it to one, or give their order"
        )
    return min(claimants, key=list(order).index)
