"""Every `ldct` command that a page, a model card or a configuration shows is one that there is,
with options that it has. (Those of README, guides and tutorials are run: test_readme_commands.)"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from flows.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "pretrained/*/*.md", "configs/*.yaml", ".github/**/*.*")
    for path in ROOT.glob(pattern)
)
LDCT = typer.main.get_command(app)


def shown(text: str) -> Iterator[str]:
    """Commands in blocks, one a line, and in backticks."""
    blocks = re.compile(r"^```\w*\n(.*?)^```", re.M | re.S)
    for block in blocks.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&", line.split(" #")[0]):
                if part.strip().startswith("ldct "):
                    yield part.strip()
    for command in re.findall(r"`(ldct [^`]+)`", blocks.sub("", text)):
        yield " ".join(command.split())


def fault(shown_command: str) -> str:
    """What is wrong with a command; "" for nothing. `a|b` in it are two of them."""
    words = re.sub(r"[\[\]]", "", shown_command.replace("\\|", "|")).split()[1:]
    command: Any = LDCT
    while words and getattr(command, "commands", None):
        names = words[0].split("|")
        if not all(name in command.commands for name in names):
            break
        command, words = command.commands[names[0]], words[1:]
    if command is LDCT:
        words_of_its_own = words and words[0] in options(LDCT)
        return "" if words_of_its_own else f"no such command: {shown_command}"
    command = getattr(command, "commands", {}).get("open", command)  # `ldct review DIR`
    given = [option for word in words for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", word)]
    unknown = [option for option in given if option not in options(command)]
    return f"no such option {', '.join(unknown)}: {shown_command}" if unknown else ""


def options(command: Any) -> set[str]:
    own = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    return own | {"--help"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_shown_commands_are_there(path: Path) -> None:
    commands = list(shown(path.read_text("utf-8")))
    assert [found for found in map(fault, commands) if found] == []


def test_commands_are_found_and_mistakes_in_them() -> None:
    block = "```bash\nldct run x --data D && ldct apply M \\\n  SRC --outt O  # done\n```\n"
    commands = list(shown(block + "`ldct runn y`"))
    assert commands == ["ldct run x --data D", "ldct apply M    SRC --outt O", "ldct runn y"]
    assert fault(commands[0]) == ""
    assert "--outt" in fault(commands[1])
    assert "no such command" in fault(commands[2])
    assert fault("ldct review DIR [--source SRC]") == ""
    assert fault("ldct pacs pull\\|work HOSPITAL --forevr") != ""
    assert sum(len(list(shown(path.read_text("utf-8")))) for path in PAGES) > 300
