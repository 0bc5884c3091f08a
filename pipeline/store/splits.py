"""The split by patient: which side of training, validation and test each one is on."""

from __future__ import annotations

from collections.abc import Iterable, Set

from pipeline.config.sections import Split
from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.core.pseudonyms import unit_interval
from pipeline.store.published_splits import TEST, TRAIN, VALIDATION, published_sides
from pipeline.store.series_record import SeriesRecord


def split_patients(
    patients: list[str],
    settings: Split,
    *,
    key: bytes,
    recorded: dict[str, str],
    of_test_vendors: Set[str] = frozenset(),
) -> dict[str, str]:
    """Side by patient: explicit lists first, then what was recorded, then the keyed hash.

    of_test_vendors: patients who are held back for their scanner's vendor (patients_of_vendors),
    which a split with test_vendors needs.
    A published split is its lists alone; patients that they do not name are on no side.
    Where training or test would be empty, it gets the next
    patient in hash order. Raises ConfigError for a listed patient who is not there, and
    NothingUsableError where training and test cannot both have one.
    """
    if settings.by != "patient":
        return published_sides(patients, settings, key=key)
    lists = {TEST: settings.test, VALIDATION: settings.validation}
    listed = {p: side for side, names in lists.items() if isinstance(names, list) for p in names}
    if settings.test_vendors and not of_test_vendors:
        raise ValueError(
            "data.split.test_vendors: whose patients are they? See patients_of_vendors"
        )
    for patient in of_test_vendors & listed.keys():
        if listed[patient] == VALIDATION:
            raise ConfigError(
                f"data.split.validation lists {patient}, whom data.split.test_vendors holds back "
                "for the test: leave out one of the two"
            )
    listed |= {p: TEST for p in patients if p in of_test_vendors}
    for patient in listed:
        if patient not in patients:
            raise ConfigError(
                f"data.split names {patient}, who is not in the data; there are: "
                + ", ".join(sorted(patients))
            )
    if len(patients) < 2:
        raise NothingUsableError(
            f"{len(patients)} usable patient: training needs at least 2, "
            "one of them held back for the test"
        )
    sides = {}
    for patient in sorted(patients, key=lambda p: unit_interval(key, p)):
        by_hash = _side_by_hash(unit_interval(key, patient), settings)
        default = recorded.get(patient, by_hash)
        # A list is complete: a patient that it does not name is not on that side.
        if patient not in listed and isinstance(lists.get(default), list):
            default = TRAIN
        sides[patient] = listed.get(patient, default)
    settled = listed.keys() | recorded.keys()
    _fill(sides, TEST, settled=settled)
    _fill(sides, TRAIN, settled=settled)
    return sides


def patients_of_vendors(records: Iterable[SeriesRecord], vendors: list[str]) -> set[str]:
    """Patients of whom any series' Manufacturer begins with one of `vendors`, in any case.

    Raises ConfigError for a vendor that no series is of.
    """
    found: set[str] = set()
    patient_and_maker = [
        (record.patient, str(record.provenance.get("Manufacturer") or "")) for record in records
    ]
    for vendor in vendors:
        theirs = {
            patient
            for patient, maker in patient_and_maker
            if maker.casefold().startswith(vendor.casefold())
        }
        if not theirs:
            makers = sorted({maker for _, maker in patient_and_maker if maker})
            raise ConfigError(
                f"data.split.test_vendors names {vendor}, and no series is of that Manufacturer; "
                f"there are: {', '.join(makers) or 'none that say it'}; name one of these, or hold "
                "no vendor back: --set data.split.test_vendors=[]"
            )
        found |= theirs
    return found


def _side_by_hash(place: float, settings: Split) -> str:
    test = settings.test if isinstance(settings.test, float) else 0.0
    validation = settings.validation if isinstance(settings.validation, float) else 0.0
    if place < test:
        return TEST
    return VALIDATION if place < test + validation else TRAIN


def _fill(sides: dict[str, str], empty: str, *, settled: Set[str]) -> None:
    """Give an empty side the first patient, in hash order, of a side that can spare one."""
    if empty in sides.values():
        return
    for patient, side in sides.items():
        others = list(sides.values()).count(side) - 1
        if patient not in settled and (side == VALIDATION or others >= 1):
            sides[patient] = empty
            return
    raise NothingUsableError(
        f"no patient is free for the {empty} side of the split: each is settled on another, by "
        "an earlier run or by data.split; name patients in data.split.test or add some"
    )
