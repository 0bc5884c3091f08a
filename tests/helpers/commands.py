"""Command lines for every command."""

from __future__ import annotations

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
