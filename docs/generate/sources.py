"""Which files of the repository are pages of the site, where they stand there, and their links.

Pages link to each other as files of the repository, so that they can be read there too. On the site
some stand elsewhere: links follow them, and a link to what is no page (a test, a module) becomes
its text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Pages of the top folder, by their place on the site.
TOP = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "ROADMAP.md": "project/roadmap.md",
    "SECURITY.md": "project/security-policy.md",
    "CODE_OF_CONDUCT.md": "project/code-of-conduct.md",
    "LICENSE": "project/LICENSE.txt",
}
#: Folders whose pages and pictures go to another folder of the site.
FOLDERS = {"docs": "", "benchmarks/results": "results"}
COPIED = (".md", ".png", ".jpg", ".svg", ".json", ".yaml")
FENCED = re.compile(r"^(```.*?^```\s*$)", re.M | re.S)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)#\s]*)(#[^)\s]*)?\)")


def pages_by_source(root: Path = ROOT) -> dict[str, str]:
    """The place on the site of every page and picture, by its path below the repository."""
    places = {name: place for name, place in TOP.items() if (root / name).exists()}
    for folder, place in FOLDERS.items():
        for path in sorted((root / folder).rglob("*")):
            below = path.relative_to(root / folder)
            if path.suffix in COPIED and below.parts[0] != "generate":
                places[f"{folder}/{below}"] = posixpath.join(place, str(below))
    for card in sorted((root / "pretrained").glob("*/MODEL_CARD.md")):
        places[str(card.relative_to(root))] = f"models/{card.parent.name}.md"
    return places


def with_links_of_the_site(text: str, source: str, places: dict[str, str]) -> str:
    """A page's text, with its links as the site has them. source: its path in the repository."""

    def linked(match: re.Match[str]) -> str:
        picture, label, target, anchor = match.groups()
        if target.startswith(("http:", "https:", "mailto:")) or not target:
            return match[0]
        label = LINK.sub(linked, label)
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        place = places.get(wanted) or places.get(f"{wanted}/README.md")
        if wanted == "benchmarks/results":
            place = "results/index.md"
        if place is None:
            return label
        start = posixpath.dirname(places[source])
        return f"{picture}[{label}]({posixpath.relpath(place, start or '.')}{anchor or ''})"

    parts = FENCED.split(text)
    return "".join(part if FENCED.match(part) else LINK.sub(linked, part) for part in parts)


def for_python_markdown(text: str) -> str:
    """The same text for the site's renderer, which wants an empty line before a list, and what
    belongs to an item of a list indented by four."""
    return "".join(
        part if FENCED.match(part) else _with_spaced_lists(part) for part in FENCED.split(text)
    )


def _with_spaced_lists(text: str) -> str:
    lines: list[str] = []
    in_list = False
    for line in text.split("\n"):
        indent = len(line) - len(line.lstrip(" "))
        is_item = re.match(r"( *)([-*]|\d+\.) ", line) is not None
        if line.strip() and indent == 0:
            if is_item and not in_list and lines and lines[-1].strip():
                lines.append("")
            in_list = is_item
        elif in_list and 2 <= indent <= 3:
            line = "    " + line.lstrip(" ")
        lines.append(line)
    return "\n".join(lines)
