"""Every command that the README shows in a block is one that .ci/full runs."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def shown() -> list[tuple[str, ...]]:
    """The first words of each `ldct` line: the command, and the configuration or model."""
    blocks = re.findall(r"^```\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("ldct ")]
    return [tuple(re.sub(r"configs/(\w+)\.yaml", r"\1", line).split()[1:3]) for line in lines]


def test_ci_runs_what_the_readme_shows() -> None:
    script = (ROOT / ".ci" / "readme-commands").read_text("utf-8")
    script = re.sub(r"/1\b", "", script)  # a version, since short trainings make no champion
    run = {tuple(line.split()[1:3]) for line in script.splitlines() if line.startswith("ldct ")}
    commands = shown()
    assert len(commands) >= 8
    assert set(commands) <= run
