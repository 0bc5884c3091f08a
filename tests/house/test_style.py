"""Words that docs/style.md rules out come back on no page, in no message and in no comment."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHEET = ROOT / "docs" / "style.md"
PAGES = ["*.md", "docs/**/*.md", "pretrained/*/MODEL_CARD.md", "configs/*.yaml"]
SOURCES = [
    f"{folder}/**/*.py" for folder in ("ldct", "pipeline", "flows", "docs/generate", "benchmarks")
]
TEMPLATES = ["pipeline/report/*.html"]
#: Keys, and a name in a DICOM header, which stay as they are.
KEYS = {"told", "told_apart", "SYNTHETIC^Nobody"}


def words() -> list[str]:
    """The first column of the sheet's table."""
    rows = re.findall(r"^\| (`.+?`) \| ", SHEET.read_text("utf-8"), re.M)
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row)]


RULED_OUT = re.compile(rf"\b({'|'.join(map(re.escape, words()))})\b", re.I)


def files(patterns: list[str]) -> list[Path]:
    found = [path for pattern in patterns for path in sorted(ROOT.glob(pattern)) if path != SHEET]
    return [path for path in found if "node_modules" not in path.parts]


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a page without what stands in backticks; the texts and comments of a source."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        for number, line in enumerate(text.splitlines(), start=1):
            yield number, re.sub(r"`[^`]*`", "", line)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        said = token.type in (tokenize.STRING, tokenize.COMMENT)
        if said and token.string.strip("\"'") not in KEYS:
            yield token.start[0], re.sub(r"`[^`]*`", "", token.string)


def faults(path: Path) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {found[0]}"
        for number, text in texts(path)
        for found in RULED_OUT.finditer(text)
    ]


@pytest.mark.parametrize("patterns", [PAGES, SOURCES, TEMPLATES], ids=["pages", "code", "html"])
def test_no_word_of_the_sheet_comes_back(patterns: list[str]) -> None:
    found = files(patterns)
    assert len(found) >= 8
    assert [fault for path in found for fault in faults(path)] == []


def test_the_sheet_finds_words_and_leaves_keys_and_names_alone(tmp_path: Path) -> None:
    assert {"told", "nobody", "spoilt", "handed over"} <= set(words())
    page = tmp_path / "a.md"
    page.write_text("It is told.\nThe key `told` stays.\nRetold.\n")
    assert [n for n, text in texts(page) if RULED_OUT.search(text)] == [1]
    source = tmp_path / "a.py"
    source.write_text('told = stream.tell()\nx = {"told": 1}\ny = "Nobody came"  # tells more\n')
    assert [n for n, text in texts(source) if RULED_OUT.search(text)] == [3, 3]
