"""The site of `make docs`: every page is in its navigation and every link leads somewhere, by its
own files alone; `make docs` builds it with the real tools."""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from generate.build import generated_pages, written_pages
from generate.reports import OTHERS
from generate.results import RESULTS, TITLES
from generate.schemas import field_comments, schema_of, tables
from generate.sources import (
    FENCED,
    LINK,
    for_python_markdown,
    pages_by_source,
    with_links_of_the_site,
)
from generate.yaml_files import run_schemas

from pipeline.config.sections import Data, Train
from pipeline.pacs.settings.hospital import Pacs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """The text of every page of the site, and of every schema, by its place."""
    return written_pages() | generated_pages()


def in_navigation(part: Any) -> list[str]:
    if isinstance(part, str):
        return [part]
    parts = part.values() if isinstance(part, dict) else part
    return [page for one in parts for page in in_navigation(one)]


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as Python-Markdown names them."""
    heads = re.findall(r"^#+ (.*?)\s*$", FENCED.sub("", text), re.M)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", head).replace("`", "") for head in heads)
    kept = (re.sub(r"[^\w\s-]", "", head).strip().lower() for head in plain)
    return {re.sub(r"[-\s]+", "-", head) for head in kept}


def test_every_page_is_in_the_navigation_once(pages: dict[str, str]) -> None:
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
    named = in_navigation(navigation)
    listed_by_index = {page for page in pages if page.startswith("results/")} - {"results/index.md"}
    wanted = {page for page in pages if page.endswith(".md")} - listed_by_index
    assert sorted(named) == sorted(wanted)


def test_every_link_leads_to_a_page_and_a_heading(pages: dict[str, str]) -> None:
    files = {*pages, *pages_by_source().values()}
    dead, links = [], 0
    for place, text in pages.items():
        for _, _, target, anchor in LINK.findall(FENCED.sub("", text)):
            if target.startswith(("http:", "https:", "mailto:")):
                continue
            links += 1
            folder = posixpath.dirname(place)
            wanted = posixpath.normpath(posixpath.join(folder, target)) if target else place
            if wanted not in files or (anchor and anchor[1:] not in anchors(pages[wanted])):
                dead.append((place, target + anchor))
    assert dead == []
    assert links > 200


def test_a_link_follows_a_page_to_its_place_and_one_to_code_becomes_its_text() -> None:
    places = {"docs/a.md": "a.md", "benchmarks/results/b.md": "results/b.md"}
    text = "[b](../benchmarks/results/b.md#c) [t](../tests/t.py) [h](https://h.org)\n"
    there = with_links_of_the_site(text, "docs/a.md", places)
    assert there == "[b](results/b.md#c) t [h](https://h.org)\n"
    back = with_links_of_the_site("[a](../../docs/a.md)", "benchmarks/results/b.md", places)
    assert back == "[a](../a.md)"
    code = "```\n[t](../tests/t.py)\n```\n"
    assert with_links_of_the_site(code, "docs/a.md", places) == code


def test_lists_are_spaced_for_the_renderer() -> None:
    text = "Two:\n- one\n  more\n- two\n\nend\n"
    assert for_python_markdown(text) == "Two:\n\n- one\n    more\n- two\n\nend\n"


def test_the_page_of_results_lists_every_table(pages: dict[str, str]) -> None:
    listed = set(re.findall(r"\]\((\w+\.md)\)", pages["results/index.md"]))
    assert {path.name for path in RESULTS.glob("*.md")} <= listed
    assert set(TITLES) <= {path.stem for path in RESULTS.glob("*.md")}


def test_the_reference_has_every_command_and_every_key(pages: dict[str, str]) -> None:
    commands = pages["reference/commands.md"]
    for command in ("ldct run", "ldct models promote", "ldct pacs work", "ldct latent fill"):
        assert f"## `{command}`" in commands
    run = pages["reference/run-yaml.md"]
    missing = [
        key for kind in (Data, Train) for key in kind.model_fields if f"| `{key}` |" not in run
    ]
    assert missing == []
    assert "measured at the start" in field_comments(Train)["precision"]
    assert field_comments(Train)["precision"] in run


def test_schemas_are_json_and_refuse_an_unknown_key(pages: dict[str, str]) -> None:
    schemas = {place: json.loads(text) for place, text in pages.items() if place.endswith(".json")}
    assert len(schemas) == 6
    for place, schema in schemas.items():
        assert schema["additionalProperties"] is False, place


def test_a_key_is_shown_with_its_bounds_and_what_it_refers_to() -> None:
    schema = {
        "properties": {
            "share": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 0.5},
            "part": {"$ref": "#/$defs/Part"},
        },
        "required": ["part"],
        "$defs": {"Part": {"description": "A part."}},
    }
    shown = tables(schema, title="Whole")
    assert "| `share` | number, above 0, at most 1 | `0.5` |" in shown
    assert "| `part` | [Part](#part) | must be given |" in shown
    assert "## Part\n\nA part." in shown


def test_the_page_of_json_has_commands_that_have_json(pages: dict[str, str]) -> None:
    text = pages["reference/json-of-commands.md"]
    with_json = pages["reference/commands.md"].split("\n## ")
    have = {part.split("`")[1] for part in with_json[1:] if "| `--json` |" in part}
    assert {f"ldct {command}" for command in OTHERS} <= have
    assert "[VersionRow](#versionrow)" in text
    assert "[Refusal](report.md#refusal)" in text
    assert "| `weights_sha256` | text | yes |" in text


def test_exit_codes_are_those_of_the_errors(pages: dict[str, str]) -> None:
    codes = re.findall(r"^\| (\d) \| (.+) \|$", pages["reference/exit-codes.md"], re.M)
    assert [int(code) for code, _ in codes[:5]] == [0, 1, 2, 3, 4]
    assert dict(codes)["3"] == "Nothing in the input could be used."


def test_every_key_of_a_yaml_says_what_it_does() -> None:
    schemas = {**run_schemas(), "hospital": schema_of(Pacs)}
    silent = [
        f"{file}: {section}.{key}"
        for file, schema in schemas.items()
        for section, part in {file: schema, **schema["$defs"]}.items()
        for key, value in part.get("properties", {}).items()
        if not value.get("description")
    ]
    assert silent == []
