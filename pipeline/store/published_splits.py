"""Published splits by name: which cases of a public data set are trained, tuned and tested on.

The cases are known by PatientID, which public sets publish. Nothing of it is stored: patients
are recognised by their pseudonyms.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.core.errors import ConfigError
from pipeline.core.pseudonyms import patient_pseudonym

if TYPE_CHECKING:  # which takes a second to import
    from pipeline.config.sections import Split

TRAIN, VALIDATION, TEST = "train", "validation", "test"


@dataclass(frozen=True)
class Published:
    """A split's source, and the PatientIDs of each side in one text."""

    source: str
    cases: dict[str, str]

    @property
    def sides(self) -> dict[str, str]:
        """Side by PatientID."""
        return {case: side for side, cases in self.cases.items() for case in cases.split()}


#: eulig2024: the 150 cases of LDCT-and-Projection-data scanned by Siemens, which alone have
#: low-dose images: of each anatomy (C chest, L abdomen, N neuro) 35, 10 and 5.
PUBLISHED: dict[str, Published] = {
    "eulig2024": Published(
        "Eulig et al., Medical Physics 2024, and info.yml of its code, ldct-benchmark",
        {
            TRAIN: """
                C095 C261 C296 C218 C224 C267 C099 C030 C241 C162 C268 C128 C252 C234 C130 C246
                C124 C077 C002 C021 C203 C111 C179 C012 C081 C004 C120 C193 C166 C257 C160 C016
                C027 C050 C158
                L081 L248 L203 L219 L210 L277 L057 L229 L131 L114 L004 L237 L148 L145 L116 L150
                L110 L232 L134 L056 L075 L209 L019 L064 L299 L160 L049 L072 L071 L273 L175 L178
                L125 L266 L170
                N190 N082 N072 N175 N236 N181 N204 N270 N156 N140 N293 N132 N141 N105 N180 N264
                N160 N202 N085 N051 N177 N209 N216 N298 N187 N100 N113 N265 N005 N076 N169 N053
                N127 N012 N030
                """,
            VALIDATION: """
                C202 C219 C227 C258 C067 C295 C190 C232 C052 C107
                L033 L187 L123 L058 L212 L077 L179 L014 L186 L193
                N056 N024 N079 N139 N300 N198 N279 N047 N188 N252
                """,
            TEST: """
                C121 C249 C170 C135 C280
                L241 L107 L006 L221 L220
                N176 N138 N153 N284 N090
                """,
        },
    )
}


def listed_sides(patients: list[str], settings: Split, *, key: bytes) -> dict[str, str]:
    """Side by patient, of those whom the split named `settings.by` lists; of none, maybe."""
    listed = PUBLISHED[settings.by].sides
    sides = {patient_pseudonym(key, case): side for case, side in listed.items()}
    return {patient: sides[patient] for patient in patients if patient in sides}


def published_sides(patients: list[str], settings: Split, *, key: bytes) -> dict[str, str]:
    """Side by patient, of those whom the split named `settings.by` lists.

    Raises ConfigError where a listed case is not among them, unless `settings.complete` is
    off, or where no patient is left to train on or to test.
    """
    listed = PUBLISHED[settings.by].sides
    missing = [case for case in listed if patient_pseudonym(key, case) not in patients]
    if missing and settings.complete:
        raise ConfigError(
            f"data.split: {len(missing)} of the {len(listed)} cases of {settings.by} are not "
            f"usable in the data, such as {', '.join(missing[:3])}; fetch them, or set "
            "data.split.complete=false: the figures are then not those of the publication"
        )
    present = listed_sides(patients, settings, key=key)
    for side in (TRAIN, TEST):
        if side not in present.values():
            raise ConfigError(f"data.split: no {side} case of {settings.by} is in the data")
    return present


@dataclass(frozen=True)
class Coverage:
    """How much of a published split a run had.

    cases: by side, how many the split lists and how many were present. summary: one line.
    """

    name: str
    source: str
    cases: dict[str, dict[str, int]]
    complete: bool
    summary: str


def coverage(settings: Split, sides: dict[str, str]) -> Coverage | None:
    """Of the split that the run names; None for a split of its own."""
    if settings.by == "patient":
        return None
    published, present = PUBLISHED[settings.by], Counter(sides.values())
    listed = Counter(published.sides.values())
    complete = present == listed
    summary = f"split {settings.by}: {present.total()} of its {listed.total()} cases"
    return Coverage(
        name=settings.by,
        source=published.source,
        cases={side: {"listed": n, "present": present[side]} for side, n in listed.items()},
        complete=complete,
        summary=summary if complete else f"{summary}; the figures are not those of the publication",
    )
