"""What killed processes left: removed at the next start, and nothing that others are writing."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from pipeline.core.atomic_files import replacing, replacing_folder, write_text
from pipeline.core.leftovers import (
    partial_name,
    remove_leftovers,
    remove_leftovers_once,
    scratch_folder,
)

WRITES_AND_IS_KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.core.atomic_files import replacing, replacing_folder
place = Path(sys.argv[1])
with replacing(place / "weights.bin") as file, replacing_folder(place / "series") as folder:
    file.write_text("half")
    (folder / "0.dcm").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def age(path: Path, hours: float) -> None:
    at = time.time() - hours * 3600
    for each in [*path.rglob("*"), path] if path.is_dir() else [path]:
        os.utime(each, (at, at))


@pytest.fixture
def left(tmp_path: Path) -> list[Path]:
    """A partial file and a partial folder of a process that was killed."""
    ended = subprocess.run(
        [sys.executable, "-c", WRITES_AND_IS_KILLED, tmp_path], check=False, cwd=Path.cwd()
    )
    assert ended.returncode < 0
    found = sorted(tmp_path.glob(".partial-*"))
    assert len(found) == 2
    remove_leftovers_once.cache_clear()
    return found


def test_what_a_killed_process_left_is_removed_by_the_next_that_writes_there(left):
    for path in left:
        age(path, 2)
    write_text(left[0].parent / "next.txt", "whole")
    assert [path.name for path in left[0].parent.iterdir()] == ["next.txt"]


def test_what_changed_within_the_hour_stays(left):
    assert remove_leftovers(left[0].parent) == 0
    for path in left:
        age(path, 2)
    folder = next(path for path in left if path.is_dir())
    (folder / "1.dcm").write_text("somebody goes on")  # a file within says so too
    assert remove_leftovers(folder.parent) == 1
    assert folder.exists()


def test_what_a_living_process_writes_stays_however_long_it_takes(tmp_path):
    with replacing(tmp_path / "a") as file, replacing_folder(tmp_path / "b") as folder:
        file.write_text("half")
        age(file, 50)
        age(folder, 50)
        assert remove_leftovers(tmp_path) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_what_versions_of_before_left_stays_for_a_day(tmp_path):
    old = tmp_path / ".partial-abcdef01-series"
    old.mkdir()
    age(old, 20)
    assert remove_leftovers(tmp_path) == 0
    age(old, 30)
    assert remove_leftovers(tmp_path) == 1


def test_nothing_else_is_touched(tmp_path):
    names = ["report.json", ".lock", "partial-1-x", ".partially", "weights.partial-1-x"]
    for name in names:
        (tmp_path / name).write_text("")
        age(tmp_path / name, 1000)
    link = tmp_path / ".partial-999999999-abcdef01-link"
    link.symlink_to(tmp_path / "report.json")
    os.utime(link, (0, 0), follow_symlinks=False)
    assert remove_leftovers(tmp_path) == 1  # the link, and not where it leads
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_temporary_weights_are_removed_at_the_next_start(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = tmp_path / "ldct-scratch-999999999-abc"
    (dead / "ldct").mkdir(parents=True)
    (dead / "ldct" / "weights.safetensors").write_text("")
    age(dead, 2)
    with scratch_folder() as folder:
        assert not dead.exists()
        assert list(tmp_path.iterdir()) == [folder]
    assert list(tmp_path.iterdir()) == []


def test_what_goes_while_it_is_looked_at_is_no_error(tmp_path, monkeypatch):
    """Two sweeps at once, or the process that made it ends in good order."""
    gone = tmp_path / ".partial-999999999-abcdef01-a"
    gone.write_text("")
    age(gone, 2)
    listed = list(os.scandir(tmp_path))
    gone.unlink()
    monkeypatch.setattr(os, "scandir", lambda _: listed)
    assert remove_leftovers(tmp_path) == 0


def test_a_partial_name_keeps_its_suffixes():
    assert partial_name("a.nii.gz").endswith("-a.nii.gz")
