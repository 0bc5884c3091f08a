"""What a person sees while a stage runs: a bar with throughput and time left, on stderr."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

#: LDCT_LOG=json: instead of what is meant for people, a JSON object a line, for a hospital's log.
JSON_LINES = os.environ.get("LDCT_LOG") == "json"
#: Everything but results goes to stderr: `--json` owns stdout.
console = Console(stderr=True, quiet=JSON_LINES)


def log(event: str, told: str, facts: dict[str, Any], *, style: str | None = None) -> None:
    """Something happened: `told` to people, `facts` to a log.

    Facts must not identify anybody, which is why words that may hold a path go to people only.
    """
    if JSON_LINES:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        print(json.dumps({"time": at, "event": event, **facts}), file=sys.stderr, flush=True)
    else:
        console.print(told, style=style, highlight=False, markup=False, soft_wrap=True)


class Throughput(ProgressColumn):
    """Units a second, once known."""

    def render(self, task: Task) -> Text:
        if not task.speed:
            return Text("")
        return Text(f"{task.speed:.1f} {task.fields.get('unit', '')}/s", style="cyan")


class StageProgress:
    """A stage's bar. On a terminal it moves; in a log one line tells the stage and its time."""

    def __init__(self, name: str, *, unit: str = "", total: int | None = None) -> None:
        self.name = name
        self.progress = Progress(
            SpinnerColumn(finished_text="[green]done[/]"),
            TextColumn("{task.description:<24}"),
            BarColumn(),
            MofNCompleteColumn() if unit else TextColumn(""),
            Throughput(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.progress.add_task(name, total=total, unit=unit, note="")

    def __enter__(self) -> StageProgress:
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        task = self.progress.tasks[0]
        if kind is None:
            total = task.total or task.completed or 1
            self.progress.update(self.task, total=total, completed=total)
        self.progress.stop()
        if not console.is_terminal:
            end, seconds = "done" if kind is None else "failed", task.elapsed or 0
            told = f"{self.name}: {end} in {seconds:.1f} s"
            log("stage", told, {"stage": self.name, "outcome": end, "seconds": round(seconds, 3)})

    def advance(self, units: int) -> None:
        self.progress.advance(self.task, units)

    def at(self, done: int, note: str = "") -> None:
        self.progress.update(self.task, completed=done, note=note)

    def count(self, done: int, total: int) -> None:
        self.progress.update(self.task, completed=done, total=total)

    def show(self, what: str, done: int, total: int) -> None:
        """A count whose end is not known yet when total is 0."""
        self.progress.update(self.task, completed=done, total=total or None, note=what)
