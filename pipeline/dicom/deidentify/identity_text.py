"""Find a patient's identity in a text. Only certain matches count: a common word that is also
somebody's name must not stop an export.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from pydicom.dataset import Dataset

#: Shorter identifiers cannot be distinguished from an ordinary number or word.
MIN_IDENTIFIER_LENGTH = 4
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
        if len(str(value).strip()) >= MIN_IDENTIFIER_LENGTH:
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
        distinctive = len(family) >= MIN_IDENTIFIER_LENGTH and family.casefold() not in OWN_WORDS
        if distinctive and _occurs(family, text):
            return True
    return False


@functools.lru_cache(maxsize=256)
def _occurs(value: str, text: str) -> bool:
    """Whether `value` occurs in `text` as a whole word, in any case of letters. Cached, since all
    slices of a series have the same values and texts."""
    return bool(
        re.search(rf"(?<![^\W_]){re.escape(value)}(?![^\W_])", text, re.IGNORECASE | re.UNICODE)
    )
