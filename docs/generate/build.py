"""`make docs`: the pages of the site, in out/docs/pages, from docs/, the code and the figures.

mkdocs then makes the site of them, strictly: see mkdocs.yml. Pages that are made from the code are
made here, at each build, and are kept nowhere.
"""

from __future__ import annotations

import shutil

from generate.commands import command_page
from generate.exit_codes import exit_code_page
from generate.python_api import python_pages
from generate.reports import report_pages
from generate.results import result_pages
from generate.sources import ROOT, for_python_markdown, pages_by_source, with_links_of_the_site
from generate.yaml_files import yaml_pages

PAGES = ROOT / "out" / "docs" / "pages"


def generated_pages() -> dict[str, str]:
    """The text of each page that is made from the code or the figures, by its place."""
    return {
        "reference/commands.md": command_page(),
        "reference/exit-codes.md": exit_code_page(),
        **result_pages(),
        **yaml_pages(),
        **report_pages(),
        **python_pages(),
    }


def written_pages() -> dict[str, str]:
    """The text of each page that somebody wrote, by its place, with the site's links."""
    places = pages_by_source()
    texts = {source: place for source, place in places.items() if source.endswith(".md")}
    return {
        place: for_python_markdown(
            with_links_of_the_site((ROOT / source).read_text(encoding="utf-8"), source, places)
        )
        for source, place in texts.items()
    }


def main() -> None:
    shutil.rmtree(PAGES, ignore_errors=True)
    for source, place in pages_by_source().items():
        (PAGES / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / source, PAGES / place)
    for place, text in (written_pages() | generated_pages()).items():
        (PAGES / place).parent.mkdir(parents=True, exist_ok=True)
        (PAGES / place).write_text(text, encoding="utf-8")
    print(f"docs: {len(list(PAGES.rglob('*.md')))} pages in {PAGES.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
