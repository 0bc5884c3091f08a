"""The README and its pages: every command in a block is one that .ci/full runs, every link leads
somewhere, and the README stays short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
#: Whose commands need no PACS, no server and no model from elsewhere: for those of docs/pacs.md see
#: test_pacs_first_day, of docs/servers.md and docs/operations.md the tests of servers and units, of
#: docs/other-software.md the tests of bundles and imports.
PAGES = [
    "README.md",
    *(
        f"docs/{page}.md"
        for page in (
            *("commands", "promises", "quality", "segmentation", "generative"),
            *("restoration", "review", "configuration", "tracking", "scale"),
        )
    ),
]
#: What a newcomer reads to its end.
README_WORDS = 700


def shown() -> list[tuple[str, ...]]:
    """The first words of each `ldct` line: the command, and the configuration or model."""
    texts = [(ROOT / page).read_text("utf-8") for page in PAGES]
    blocks = re.findall(r"^```\n(.*?)^```", "\n".join(texts), re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("ldct ")]
    return [tuple(re.sub(r"configs/(\w+)\.yaml", r"\1", line).split()[1:3]) for line in lines]


def test_ci_runs_what_the_readme_shows() -> None:
    script = (ROOT / ".ci" / "readme-commands").read_text("utf-8")
    script = re.sub(r"/1\b", "", script)  # a version, since short trainings make no champion
    each = re.search(r"for command in ([\w ]+); do", script)
    assert each is not None
    script = "\n".join(
        script.replace('"$command" vae_ct', f"{command} vae_ct") for command in each[1].split()
    )
    lines = (line.strip() for line in script.splitlines())
    run = {tuple(line.split()[1:3]) for line in lines if line.startswith("ldct ")}
    commands = shown()
    assert len(commands) >= 8
    assert set(commands) <= run


def test_ci_runs_every_tutorial_and_every_block_of_it() -> None:
    """The quick ones in .ci/run, all in .ci/full; a block of another kind would not be run."""
    runner = (ROOT / ".ci" / "tutorials").read_text("utf-8")
    order = re.search(r"^ORDER = \((.*)\)$", runner, re.M)
    assert order is not None
    pages = {path.stem: path.read_text("utf-8") for path in (DOCS / "tutorials").glob("*.md")}
    assert set(re.findall(r'"([\w-]+)"', order[1])) == set(pages)
    for name, text in pages.items():
        assert set(re.findall(r"^```(.*)$", text, re.M)) <= {"", "bash", "yaml"}, name
        for before in re.findall(r"(.*)\n\n```yaml$", text, re.M):
            assert re.search(r"`[\w.-]+\.yaml`:$", before), f"{name}: under which name? {before}"
    assert re.search(r"\S+ \.ci/tutorials \w", (ROOT / ".ci" / "run").read_text("utf-8"), re.M)
    assert re.search(r"\S+ \.ci/tutorials$", (ROOT / ".ci" / "full").read_text("utf-8"), re.M)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= README_WORDS


@pytest.mark.parametrize(
    "page", [str(p.relative_to(ROOT)) for p in (*ROOT.glob("*.md"), *DOCS.rglob("*.md"))]
)
def test_links_lead_to_files_that_are_there(page: str) -> None:
    path = ROOT / page
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text("utf-8"))
    local = [link for link in links if not link.startswith(("http", "mailto:"))]
    assert [link for link in local if not (path.parent / link).exists()] == []
