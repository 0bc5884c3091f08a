"""What people look for in a repository is there, and is so: citation, badges, changelog, forms."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_citation_is_of_this_version_and_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert citation["authors"]
    assert all(work["title"] and work["year"] for work in citation["references"])


def test_badges_say_what_the_project_says() -> None:
    said = {path.stem: path.read_text("utf-8") for path in (ROOT / "docs" / "badges").iterdir()}
    assert set(said) == {"licence", "python"}
    assert PROJECT["license"] in said["licence"]
    low, below = re.findall(r"3\.\d+", PROJECT["requires-python"])
    assert f"Python: {low}<" in said["python"]
    assert int(below[2:]) == int(low[2:]) + 1  # one version, as the badge says
    shown = re.findall(r"\[!\[\w+\]\(([^)]+)\)\]", (ROOT / "README.md").read_text("utf-8"))
    assert set(shown) == {f"docs/badges/{name}.svg" for name in said}


def test_the_changelog_is_kept_as_keep_a_changelog_has_it() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    versions = re.findall(r"^## (.*)$", text, re.M)
    assert versions[0] == "[Unreleased]"
    released = re.compile(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d")
    assert [version for version in versions[1:] if not released.fullmatch(version)] == []
    assert set(re.findall(r"^### (.*)$", text, re.M)) <= KINDS


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_issue_forms_are_well_formed_and_ask_for_no_patient_data(name: str) -> None:
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text("utf-8"))
    assert form["name"]
    assert form["description"]
    kinds = {"markdown", "textarea", "checkboxes"}
    assert {part["type"] for part in form["body"]} <= kinds
    asked = [part["id"] for part in form["body"] if part["type"] != "markdown"]
    assert len(set(asked)) == len(asked)
    if name == "bug":
        assert "patient data" in str(form["body"])


@pytest.mark.parametrize(
    "name", ["SECURITY.md", "CODE_OF_CONDUCT.md", "ROADMAP.md", ".github/PULL_REQUEST_TEMPLATE.md"]
)
def test_files_that_others_link_to_are_there(name: str) -> None:
    assert len((ROOT / name).read_text("utf-8").split()) > 60
