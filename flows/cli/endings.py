"""How a command ends: its one JSON object on stdout, or the line that says what went wrong."""

from __future__ import annotations

import contextlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import typer

from flows.runtime.progress import JSON_LINES, log
from pipeline.core.crash_file import private_file
from pipeline.core.refusals import shown_name
from pipeline.core.types import Json
from pipeline.core.verdicts import Verdict

#: Exit code: done, but some input was quarantined or not exported.
PARTIAL = 4
#: Exit code: done, but the model did not pass its gate, which the last line says with each figure
#: and the limit that it missed; this goes before 4, and the report lists both. What was exported is
#: marked, or with `--hold-on-failed-gate` nothing was exported.
GATE_FAILED = 5
#: The options that print a command's help and end it.
HELP = ("-h", "--help")
#: Reasons of refusal that the end of a failed command lists, at most.
MAX_REASONS = 40


class JsonOutput:
    """stdout of a command with --json: exactly one object, whatever way the command ends."""

    def __init__(self) -> None:
        self._stream = sys.stdout
        self.is_due = False

    @contextlib.contextmanager
    def only(self, arguments: list[str]) -> Iterator[None]:
        """While a command runs: with --json among its arguments, whatever else is printed goes to
        stderr, so that a library cannot add to the object."""
        options = arguments[: arguments.index("--")] if "--" in arguments else arguments
        self._stream = sys.stdout
        self.is_due = "--json" in options and not {*HELP} & {*options}
        kept = contextlib.redirect_stdout(sys.stderr) if self.is_due else contextlib.nullcontext()
        with kept:
            yield

    def print(self, report: Json) -> None:
        """Print the command's object; a command prints one."""
        print(json.dumps(report), file=self._stream if self.is_due else sys.stdout, flush=True)
        self.is_due = False


json_output = JsonOutput()


def show(report: Json, as_json: bool, table: Callable[[], None]) -> None:
    """The result of a command: its JSON object, or the table for people."""
    if as_json:
        json_output.print(report)
    else:
        table()


def end(report: Json, gate: Json | None = None) -> None:
    """End the command: exit code GATE_FAILED where the model did not pass its gate, with a line of
    the limits that it missed; else PARTIAL where some input was quarantined or not exported.

    gate: the verdict (Verdict.to_dict); by default that of the report, if it has one.
    """
    verdict = gate or report.get("gate")
    if verdict and not verdict["passed"]:
        missed = [check.outcome for check in Verdict.from_dict(verdict).failed]
        log("gate", f"ldct: gate failed: {'; '.join(missed)}", {"missed": missed}, style="red")
        raise typer.Exit(GATE_FAILED)
    if report.get("quarantined") or report.get("failed"):
        raise typer.Exit(PARTIAL)


def fail(line: str, code: int, *, details: Path | None = None, report: Json) -> NoReturn:
    """End the command with an error: one line, the reasons of the files that it concerns, and the
    exit code; with --json the same as an object.

    details: the file with the traceback. report: what had been done until then.
    """
    line = " ".join(line.split())
    if JSON_LINES and details is None:
        # The line may hold a path, and a path a name: it stays off the log.
        details = private_file(line)
    named = f" (details: {details})" if details else ""
    log("failed", f"ldct: {line}{named}", {"code": code, "details": str(details)}, style="red")
    for reason in reason_lines(report)[:MAX_REASONS]:
        if not JSON_LINES:
            log("reason", f"  {reason}", {})
    if json_output.is_due:
        error = {"code": code, "message": line, "details": str(details) if details else None}
        json_output.print({**report, "error": error})
    sys.exit(code)


def end_as_typer_did(end: SystemExit) -> NoReturn:
    """A wrong use of the command line, which typer has named on stderr: with --json an object too.

    The exit that typer makes of an error has that error as its context (PEP 3134).
    """
    if json_output.is_due and end.code:
        line = getattr(end.__context__, "format_message", lambda: "the command ended early")()
        error = {"code": end.code, "message": " ".join(line.split()), "details": None}
        json_output.print({"error": error})
    raise end


def reason_lines(report: Json) -> list[str]:
    """A line for each reason why series were not exported and files not used: how many, one of
    them as an example, why, and by which attribute's value."""
    failed = {row["reason"] for row in report.get("failed", ())}
    lines = [_not_exported(reason, report) for reason in sorted(failed)]
    for disposition in ("quarantined", "excluded"):
        rows = [row for row in report.get(disposition, ()) if row["reason"] not in failed]
        counts = Counter(_kind(row) for row in rows)
        examples = {_kind(row): row for row in reversed(rows)}
        for kind, count in counts.most_common():
            file, found = examples[kind]["file"], _found(examples[kind])
            lines.append(f"{disposition}: {count} file(s), such as {file}: {kind[0]}{found}")
    return lines


def _not_exported(reason: str, report: Json) -> str:
    names = [shown_name(row) for row in report["failed"] if row["reason"] == reason]
    files = [row["file"] for row in report.get("quarantined", ()) if row["reason"] == reason]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    such = f", {len(files)} file(s), such as {files[0]}" if files else ""
    return f"not exported: {names[0]}{more}{such}: {reason}"


def _kind(row: Json) -> tuple[str, str]:
    return row["reason"], row.get("attribute", "")


def _found(row: Json) -> str:
    """The attribute and its value, unless the reason says them."""
    attribute, value = row.get("attribute", ""), row.get("value", "")
    if attribute in row["reason"]:
        attribute = ""
    parts = [attribute, repr(value) if value and value not in row["reason"] else ""]
    found = " ".join(filter(None, parts))
    return f" ({found})" if found else ""
