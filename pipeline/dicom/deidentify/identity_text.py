"""Does a text say whose images these are? Certain answers only: a word that is also a name
somewhere must not stop an export.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from pydicom.dataset import Dataset

#: Shorter ones cannot be told from a number or a word of the text.
SHORTEST_IDENTIFIER = 4
IDENTIFIERS = ("PatientID", "AccessionNumber", "OtherPatientIDs")
#: Words of our own series descriptions, which are surnames as well.
OWN_WORDS = frozenset({"denoised", "simulated", "difference", "dose"})


def identity_in(text: str, dataset: Dataset, *, surname_alone: bool = True) -> str:
    """The attribute whose value occurs in `text` as a word, "" for none.

    A name is found by all its parts together, in any order; by its first part, the family
    name, only where `surname_alone`, since prose has words that are surnames too.
    """
    for keyword in IDENTIFIERS:
        if any(_occurs(value, text) for value in _values(dataset, keyword)):
            return keyword
    if any(_occurs(date, text) for date in _dates(str(dataset.get("PatientBirthDate") or ""))):
        return "PatientBirthDate"
    if _names(str(dataset.get("PatientName") or ""), text, surname_alone):
        return "PatientName"
    return ""


def _values(dataset: Dataset, keyword: str) -> Iterator[str]:
    held = dataset.get(keyword) or ""
    for value in [held] if isinstance(held, str) else held:
        if len(str(value).strip()) >= SHORTEST_IDENTIFIER:
            yield str(value).strip()


def _dates(date: str) -> Iterator[str]:
    """A DICOM date as people and programs write it."""
    if re.fullmatch(r"\d{8}", date.strip()):
        year, month, day = date[:4], date[4:6], date[6:8]
        yield from (year + month + day, f"{year}-{month}-{day}")
        yield from (f"{day}.{month}.{year}", f"{month}/{day}/{year}", f"{day}/{month}/{year}")


def _names(name: str, text: str, surname_alone: bool) -> bool:
    for written in name.split("="):  # alphabetic, ideographic, phonetic: PS3.5 6.2.1.1
        parts = [part for part in re.split(r"[\^,\s]+", written) if len(part) > 1]
        if len(parts) > 1 and all(_occurs(part, text) for part in parts):
            return True
        family = parts[0] if parts and (surname_alone or len(parts) == 1) else ""
        telling = len(family) >= SHORTEST_IDENTIFIER and family.casefold() not in OWN_WORDS
        if telling and _occurs(family, text):
            return True
    return False


@functools.lru_cache(maxsize=256)
def _occurs(value: str, text: str) -> bool:
    """As a word: neither letters nor digits go on before or after it. Remembered, as all the
    slices of a series ask the same."""
    return bool(
        re.search(rf"(?<![^\W_]){re.escape(value)}(?![^\W_])", text, re.IGNORECASE | re.UNICODE)
    )
