"""A wheel holds all that the commands need and nothing else, and is not built without the page.

What it does once installed, .ci/check-wheel asks.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers.clean_copy import clean_copy

from pipeline.review.assets import FILES

PACKAGES = ("ldct/", "pipeline/", "flows/", "configs/", "pretrained/")
BUILT = "pipeline/review/built"


@pytest.fixture
def clone(tmp_path: Path) -> tuple[Path, set[str]]:
    """A folder as a clean clone is, and its files."""
    return tmp_path / "clone", clean_copy(tmp_path / "clone")


def build(clone: Path, kind: str) -> subprocess.CompletedProcess:
    """By the backend's hook that pip calls: wheel or editable."""
    (clone.parent / "out").mkdir(exist_ok=True)
    script = (
        f"from setuptools import build_meta; build_meta.build_{kind}({str(clone.parent / 'out')!r})"
    )
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)


def put_page(clone: Path) -> None:
    (clone / BUILT).mkdir()
    for name in FILES:
        (clone / BUILT / name).write_text("built")


def test_a_wheel_holds_the_packages_their_data_and_nothing_else(clone) -> None:
    folder, names = clone
    put_page(folder)
    done = build(folder, "wheel")
    assert done.returncode == 0, done.stderr
    (wheel,) = (folder.parent / "out").glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    packed = {name for name in names if name.startswith(PACKAGES)}
    sources_of_the_page = {name for name in packed if name.startswith("pipeline/review/page/")}
    assert {name for name in held if ".dist-info/" not in name} == (
        packed - sources_of_the_page | {f"{BUILT}/{name}" for name in FILES}
    )


@pytest.mark.parametrize("lost", sorted(FILES))
def test_no_wheel_is_built_without_the_whole_page(clone, lost: str) -> None:
    folder, _ = clone
    put_page(folder)
    (folder / BUILT / lost).unlink()
    done = build(folder, "wheel")
    assert done.returncode != 0
    assert (
        f"the review page is not built: {BUILT}/{lost} is missing; run `make page`" in done.stderr
    )
    assert list((folder.parent / "out").glob("*.whl")) == []


def test_an_editable_installation_says_so_and_goes_on(clone) -> None:
    folder, _ = clone
    done = build(folder, "editable")
    assert done.returncode == 0, done.stderr
    assert "the review page is not built" in done.stdout + done.stderr
    assert len(list((folder.parent / "out").glob("*.whl"))) == 1
