"""The reference of commands, from the command line itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

HEAD = """# Every command and option

Made from the program itself; `ldct COMMAND --help` shows the same. What commands have in common,
such as sources, models and `--json`, is on [the page of commands](../commands.md); what a command
ends with, on [the page of exit codes](exit-codes.md).
"""


def command_page() -> str:
    """The page, as Markdown."""
    import typer

    from flows.cli.app import app

    root = typer.main.get_command(app)
    return HEAD + "".join(_section(names, command) for names, command in _leaves(root, "ldct"))


def _leaves(command: Any, names: str) -> Iterator[tuple[str, Any]]:
    """Every command that can be called, groups that do something by themselves included."""
    parts = getattr(command, "commands", {})
    if not parts or command.invoke_without_command:
        yield names, command
    for name, part in parts.items():
        if not part.hidden:
            yield from _leaves(part, f"{names} {name}")


def _section(names: str, command: Any) -> str:
    shown = [each for each in command.params if not getattr(each, "hidden", False)]
    arguments = [each for each in shown if each.param_type_name == "argument"]
    options = [each for each in shown if each.param_type_name == "option"]
    usage = " ".join(
        [names, *(_usage(each) for each in arguments), *(["[OPTIONS]"] * bool(options))]
    )
    lines = [f"\n## `{names}`\n", _plain(command.help or ""), "", "```text", usage, "```", ""]
    if arguments or options:
        lines += ["| | default | |", "|---|---|---|"]
        lines += [_row(f"`{_name(each)}`", each) for each in arguments]
        lines += [_row(", ".join(f"`{flag}`" for flag in _flags(each)), each) for each in options]
    return "\n".join(lines) + "\n"


def _usage(argument: Any) -> str:
    name = _name(argument) + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _name(argument: Any) -> str:
    return (argument.metavar or argument.name).strip("[]").upper()


def _flags(option: Any) -> list[str]:
    flags = [*option.opts, *option.secondary_opts]
    if option.is_flag:
        return flags
    value = option.metavar or option.name.strip("_").upper()
    return [f"{flag} {value}" for flag in flags]


def _row(name: str, parameter: Any) -> str:
    default = parameter.default
    if parameter.required:
        shown = "must be given"
    elif default is None or callable(default) or default in (False, ()):
        shown = ""
    else:
        shown = f"`{default}`"
    said = _plain(getattr(parameter, "help", "") or "").replace("\n", " ")
    return f"| {_cell(name)} | {shown} | {_cell(said)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _plain(text: str) -> str:
    """A help text without its marks for the terminal; angle brackets are no HTML."""
    text = re.sub(r"\[/?(?:bold|dim|italic|red|green|yellow|cyan)\]", "", text)
    return text.replace("\b", "").replace("<", "&lt;").strip()
