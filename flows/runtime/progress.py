"""Progress and messages on stderr: a bar for each stage, with throughput and time left."""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import dataclass
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

from flows.runtime.run_log import log_facts
from flows.runtime.run_progress import RunProgress

#: LDCT_LOG=json: a JSON object on each line, for a hospital's log, in place of text.
JSON_LINES = os.environ.get("LDCT_LOG") == "json"
#: Everything but results goes to stderr: `--json` owns stdout.
console = Console(stderr=True, quiet=JSON_LINES)
#: Events that --quiet leaves: what went wrong.
FAULTS = frozenset(
    [
        "failed",
        "reason",
        "contained",
        "gate",
        "damaged",
        "background",
        "refused",
        "closed",
        "request",
        "alert_failed",
    ]
)


@dataclass
class Verbosity:
    """How much goes to a terminal; of JSON all lines are written in any case. quiet: nothing but
    faults. verbose: a traceback too."""

    quiet: bool = False
    verbose: bool = False


verbosity = Verbosity()


def log(event: str, message: str, facts: dict[str, Any], *, style: str | None = None) -> None:
    """Report an event: `message` to a terminal, or `facts` as a line of JSON; in a Prefect run the
    facts to its log, too.

    Facts must not identify a patient. The message may hold a path, and so never goes to the log.
    """
    log_facts(event, facts)
    if JSON_LINES:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        print(json.dumps({"time": at, "event": event, **facts}), file=sys.stderr, flush=True)
    elif not verbosity.quiet or event in FAULTS:
        console.print(message, style=style, highlight=False, markup=False, soft_wrap=True)


class Throughput(ProgressColumn):
    """The column of a bar with units a second, once known."""

    def render(self, task: Task) -> Text:
        """The text for a task (rich calls this)."""
        if not task.speed:
            return Text("")
        return Text(f"{task.speed:.1f} {task.fields.get('unit', '')}/s", style="cyan")


class StageProgress:
    """The bar of a stage on a terminal; elsewhere one line with its time once it has ended. Of
    stages side by side, in threads, each has such a line: a terminal has one bar at a time.

    unit: what is counted; "" shows no count. total: None where it is not known yet.
    """

    def __init__(self, name: str, *, unit: str = "", total: int | None = None) -> None:
        self.name = name
        in_turn = threading.current_thread() is threading.main_thread()
        self.has_bar = console.is_terminal and in_turn
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
            disable=verbosity.quiet or not self.has_bar,
        )
        self.task = self.progress.add_task(name, total=total, unit=unit, note="")
        self.in_run = RunProgress(name)

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
            self.in_run.end()
        self.progress.stop()
        outcome, seconds = "done" if kind is None else "failed", task.elapsed or 0
        facts = {"stage": self.name, "outcome": outcome, "seconds": round(seconds, 3)}
        if self.has_bar:
            log_facts("stage", facts)
        else:
            log("stage", f"{self.name}: {outcome} in {seconds:.1f} s", facts)

    def advance(self, units: int) -> None:
        """So many more units are done."""
        self.progress.advance(self.task, units)
        self._to_run()

    def at(self, done: int, note: str = "") -> None:
        """`done` units are done in all; note: shown behind the bar."""
        self._update(completed=done, note=note)

    def count(self, done: int, total: int) -> None:
        """`done` of `total` units are done."""
        self._update(completed=done, total=total)

    def show(self, note: str, done: int, total: int) -> None:
        """`done` of `total` units are done, 0 for a total not known yet; note: behind the bar."""
        self._update(completed=done, total=total or None, note=note)

    def _update(self, **changes: Any) -> None:
        self.progress.update(self.task, **changes)
        self._to_run()

    def _to_run(self) -> None:
        """The note stays here: it may be a file's name."""
        task = self.progress.tasks[0]
        self.in_run.at(task.completed, task.total)
