"""The lock: everything pinned, everything under a licence that somebody has looked at.

Runs offline. It knows no advisories: see docs/security.md for what that leaves.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PERMISSIVE = re.compile(
    r"\b(MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla|0BSD|Zlib)\b", re.IGNORECASE
)
#: Where a package's own data say nothing, or name a licence that is not permissive: looked at.
REVIEWED = {
    "huey": "MIT, by its LICENSE",
    "skops": "MIT, by its LICENSE",
    "text-unidecode": "Artistic License as the other choice beside the GPL",
}


#: The lock of the project, and those of extras that are not installed with it.
EXTRAS = ("fetch", "docs", "notebooks")
LOCKS = ("requirements.lock", *(f"requirements-{extra}.lock" for extra in EXTRAS))


def locked(lock: str = LOCKS[0]) -> dict[str, str]:
    """Version by name."""
    return {name: version for name, (version, _) in hashed(lock).items()}


def hashed(lock: str = LOCKS[0]) -> dict[str, tuple[str, list[str]]]:
    """Version, and the hashes of its files, by name."""
    text = (ROOT / lock).read_text(encoding="utf-8").replace("\\\n", "")
    rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    pins = [(row[0].partition("=="), row[1:]) for row in rows]
    return {name: (version, hashes) for (name, _, version), hashes in pins}


def licence_of(name: str) -> str:
    told = distribution(name).metadata
    classifiers = [each for each in told.get_all("Classifier") or [] if each.startswith("License")]
    said = told.get("License-Expression") or " ".join(classifiers)
    return said if PERMISSIVE.search(said) else f"{said} {(told.get('License') or '')[:80]}"


def test_every_line_of_the_lock_pins_one_version() -> None:
    found = locked()
    assert len(found) > 150
    assert not [name for name, version in found.items() if not re.fullmatch(r"[\w.]+", version)]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_the_hashes_of_its_files(lock: str) -> None:
    form = re.compile(r"--hash=sha256:[0-9a-f]{64}")
    assert hashed(lock)
    for name, (_, hashes) in hashed(lock).items():
        assert hashes, name
        assert all(form.fullmatch(each) for each in hashes), name
        assert len(set(hashes)) == len(hashes), name


@pytest.mark.parametrize("lock", LOCKS[1:])
def test_the_other_locks_agree_with_the_first(lock: str) -> None:
    """So that an extra can be installed beside the rest, too."""
    first, other = locked(), locked(lock)
    assert {name for name in other if first.get(name, other[name]) != other[name]} == set()
    assert not {"torch", "torchvision"} & set(other)


def test_torch_has_the_hashes_of_builds_for_cpus_alone() -> None:
    """One each for Linux, macOS and Windows (of two processors); CUDA's would be dozens."""
    assert 3 <= len(hashed()["torch"][1]) <= 4


@pytest.mark.parametrize("name", ["dicomweb-client", "pynetdicom", "retrying"])
def test_what_speaks_to_the_pacs_is_in_the_lock(name: str) -> None:
    assert name in locked()


def test_every_licence_is_permissive_or_was_looked_at() -> None:
    strange = {}
    for name in locked():
        try:
            said = licence_of(name)
        except PackageNotFoundError:  # of another platform, or for development alone
            continue
        if name not in REVIEWED and (not PERMISSIVE.search(said) or "GPL" in said.upper()):
            strange[name] = said
    assert strange == {}


def test_what_is_installed_is_what_is_locked() -> None:
    other = {}
    for name, version in locked().items():
        try:
            installed = distribution(name).version.partition("+")[0]
        except PackageNotFoundError:
            continue
        if installed != version:
            other[name] = (version, installed)
    assert other == {}
