"""Command lines for every command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any


def arguments_of(command: Any, folder: Path) -> list[str]:
    """Words for what a command asks for: a folder, unless it must be a number."""
    numbers = {"version": "1", "dose": "0.5"}
    words: list[str] = []
    for parameter in command.params:
        if parameter.required:
            words += [parameter.opts[0]] if parameter.opts[0].startswith("--") else []
            words.append(numbers.get(parameter.name, str(folder)))
    return words


def with_json(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command that has --json, with the words it is called by."""
    if any("--json" in option.opts for option in command.params):
        yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from with_json(below, (*path, name))
