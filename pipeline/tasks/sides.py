"""Which stored series a run uses, and on which side of its split: to train, validate or test."""

from __future__ import annotations

from pipeline.config.run import RunConfig
from pipeline.core.types import Json
from pipeline.store.published_splits import TEST, TRAIN, VALIDATION
from pipeline.store.series_record import SeriesRecord
from pipeline.store.store import Store
from pipeline.tasks.base import task_of

#: The side of a series that the task cannot use, or that a published split does not list.
UNUSED = "unused"


def keys_by_side(store: Store, config: RunConfig, sides: dict[str, str]) -> dict[str, list[str]]:
    """Series keys on each side, of those that the task can use; a patient without a side in
    this run is on none."""
    found: dict[str, list[str]] = {side: [] for side in (TRAIN, VALIDATION, TEST)}
    for key, record in sorted(store.records().items()):
        if record.patient in sides and is_usable(store, key, config):
            found[sides[record.patient]].append(key)
    return found


def is_usable(store: Store, key: str, config: RunConfig) -> bool:
    """Whether the run's task can use a stored series, and its values are HU as far as is known."""
    doubtful = may_be_no_hu(store.record(key), config)
    return not doubtful and task_of(config).usable(store, key, config)


def may_be_no_hu(record: SeriesRecord, config: RunConfig) -> bool:
    """Whether the values of a series may be no HU, and the run does not take them all the same."""
    return bool(record.scale_fault) and config.data.intake.air == "require"


def series_by_side(store: Store, config: RunConfig, sides: dict[str, str]) -> list[Json]:
    """What a run has of a store: each series with its side, UNUSED for what the task cannot use or
    has no side, and with the remarks that were made when it was stored."""
    side_of = {key: s for s, keys in keys_by_side(store, config, sides).items() for key in keys}
    return [
        {
            "series": key,
            "patient": record.patient,
            "side": side_of.get(key, UNUSED),
            "slices": record.shape[0],
            "warnings": [
                remark
                for kind in ("warnings", "geometry")
                for remark in record.provenance.get(kind, [])
            ],
        }
        for key, record in sorted(store.records().items())
    ]
