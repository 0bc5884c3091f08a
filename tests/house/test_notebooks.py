"""Notebooks are committed without outputs, which could hold patients' images, and CI runs them."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list[dict]:
    return [
        cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == kind
    ]


def test_there_are_five_and_ci_runs_them() -> None:
    assert [path.stem[0] for path in NOTEBOOKS] == list("12345")
    quick = re.findall(
        r'^(?:timed )?make notebooks NAMES="(.+)"$', (ROOT / ".ci" / "run").read_text(), re.M
    )
    assert set(quick[0].split()) <= {path.stem for path in NOTEBOOKS}
    assert re.search(r"^make notebooks$", (ROOT / ".ci" / "full").read_text(), re.M)


@each_notebook
def test_nothing_of_a_run_is_kept(path: Path) -> None:
    code = cells(path, "code")
    assert code
    assert [cell["outputs"] for cell in code] == [[]] * len(code)
    assert [cell["execution_count"] for cell in code] == [None] * len(code)
    assert not [cell for cell in cells(path, "markdown") if cell.get("attachments")]


@each_notebook
def test_each_begins_with_a_title_and_its_code_is_python(path: Path) -> None:
    book = json.loads(path.read_text("utf-8"))
    assert (book["nbformat"], book["metadata"]["kernelspec"]["name"]) == (4, "python3")
    assert book["cells"][0]["source"][0].startswith("# ")
    for cell in cells(path, "code"):
        text = re.sub(r"^!(?:.*\\\n)*.*$", "", "".join(cell["source"]), flags=re.M)  # shell lines
        ast.parse(text)
