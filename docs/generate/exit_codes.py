"""The reference of exit codes, from the errors and endings that have them."""

from __future__ import annotations

import re

from generate.sources import ROOT

HEAD = """# Exit codes

The same for every command, so that scripts can rely on them. With `--json` the object's `error`
holds the same code beside one line that says what, where and what to do
([the schema](report.md#error)).

| code | |
|---|---|
| 0 | Done. |
"""
#: Above a constant of flows/cli: `#: Exit code: what it stands for`, over one line or more.
CONSTANT = re.compile(r"^#: Exit code: ((?:.*\n#: ?)*.*)\n\w+ = (\d+)$", re.M)


def exit_code_page() -> str:
    """The page, as Markdown."""
    codes = _of_errors() | _of_endings()
    rows = (f"| {code} | {said} |\n" for code, said in sorted(codes.items()))
    return HEAD + "".join(rows)


def _of_errors() -> dict[int, str]:
    from pipeline.core.errors import ConfigError, LdctError, NothingUsableError

    wrong, unusable = (_said(kind) for kind in (ConfigError, NothingUsableError))
    return {
        LdctError.exit_code: "Anything else, Ctrl+C too: one line says what, and names "
        "the file with the traceback where there is one.",
        ConfigError.exit_code: wrong,
        NothingUsableError.exit_code: unusable,
    }


def _of_endings() -> dict[int, str]:
    """Those of commands that did their work, and have something to say of it."""
    found = {}
    for path in sorted((ROOT / "flows").rglob("*.py")):
        for text, code in CONSTANT.findall(path.read_text(encoding="utf-8")):
            said = re.sub(r"\n#: ?", " ", text).strip()
            found[int(code)] = said[0].upper() + said[1:]
    return found


def _said(kind: type[BaseException]) -> str:
    return (kind.__doc__ or "").splitlines()[0]
