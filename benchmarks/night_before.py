"""A quiet night by an earlier version of this software and by this one, in turn.

    python benchmarks/night_before.py --series 60 --rounds 2    # as root on Linux, with Orthanc

As `night.py --undisturbed`: each night has its own PACS, work folder and processes. The earlier
version is a commit, by default the last one before series were worked on depth first, checked out
beside this one and run with this one's packages.
Adds to results/night_before.json, and writes night_before.md of it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
from night import RESULTS, ROOT, SLICES, WORKERS, Night, disk_of_its_own

#: Breadth first: every series was retrieved, then every one derived, then every one sent.
BEFORE = "fbeeb160"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--series", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--commit", default=BEFORE)
    parser.add_argument("--minutes", type=float, default=30, help="after which one is given up")
    arguments = parser.parse_args()
    path = RESULTS / "night_before.json"
    nights: dict[str, list[dict[str, Any]]] = {arguments.commit: [], "now": []}
    if path.exists():
        nights |= json.loads(path.read_text())["nights"]
    with checked_out(arguments.commit) as before:
        for _ in range(arguments.rounds):
            for name, code in ((arguments.commit, before), ("now", ROOT)):
                nights[name].append(one_night(code, arguments.series, arguments.minutes))
                print(name, nights[name][-1], flush=True)
    found = {"nights": nights, "machine": machine.facts()}
    path.write_text(json.dumps(found, indent=2) + "\n")
    path.with_suffix(".md").write_text(markdown(found))
    print(markdown(found))


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """The files of a commit in a folder of their own."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "code"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", str(folder), commit], check=True)
        try:
            yield folder
        finally:
            subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def one_night(code: Path, series: int, minutes: float) -> dict[str, Any]:
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        disk = stack.enter_context(disk_of_its_own(scratch / "disk"))
        night = NightOf(scratch, disk, series, disturbed=False, code=code)
        stack.enter_context(contextlib.chdir(code))  # Python looks for modules there first
        return night.run(stack, 60 * minutes)


@dataclass
class NightOf(Night):
    """A night by the software in a folder."""

    code: Path = ROOT

    def _ldct(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "flows.cli", *words, str(self.hospital)]

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), "PYTHONPATH": str(self.code)}


def markdown(found: dict[str, Any]) -> str:
    lines = [
        f"Series of {SLICES} slices of 64 x 64 in Orthanc, {WORKERS} workers,"
        " undisturbed, the two versions in turn; a row for each night; first result and minutes"
        f" from the workers' start. {machine.described(found['machine'])}",
        "",
        "| version | series | lost | doubled | first result, s | minutes | series a minute |"
        " processor s a series |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, rows in found["nights"].items():
        lines += [
            f"| {name} | {row['series']} | {row['lost']} | {row['doubled']} |"
            f" {row['first_result_s']:.0f} | {row['minutes']:.1f} | {row['series_a_minute']:.1f} |"
            f" {row['processor_s_a_series']:.1f} |"
            for row in rows
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
