"""What a person sees while a stage runs: a bar with throughput and time left, on stderr."""

from __future__ import annotations

from types import TracebackType

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

#: Everything but results goes to stderr: `--json` owns stdout.
console = Console(stderr=True)


class Throughput(ProgressColumn):
    """Units a second, once known."""

    def render(self, task: Task) -> Text:
        if not task.speed:
            return Text("")
        return Text(f"{task.speed:.1f} {task.fields.get('unit', '')}/s", style="cyan")


class Stage:
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

    def __enter__(self) -> Stage:
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
            end = "done" if kind is None else "failed"
            console.print(f"{self.name}: {end} in {task.elapsed or 0:.1f} s", highlight=False)

    def advance(self, units: int) -> None:
        self.progress.advance(self.task, units)

    def at(self, done: int, note: str = "") -> None:
        self.progress.update(self.task, completed=done, note=note)

    def count(self, done: int, total: int) -> None:
        self.progress.update(self.task, completed=done, total=total)

    def show(self, what: str, done: int, total: int) -> None:
        """A count whose end is not known yet when total is 0."""
        self.progress.update(self.task, completed=done, total=total or None, note=what)
