"""The repository's files as a clean clone has them, uncommitted changes included."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from conftest import missing

ROOT = Path(__file__).parents[2]


def clean_copy(folder: Path) -> set[str]:
    """Copy what git does not ignore below `folder`; the paths. Skips where this is no checkout."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        missing("this is no git checkout")
    names = {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return names
