"""The built page: what `make install` bundles from page/ into built/, which git ignores."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.core.errors import ConfigError

BUILT = Path(__file__).parent / "built"
FILES = {
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "app.css": "text/css; charset=utf-8",
    "licences.txt": "text/plain; charset=utf-8",
}


def load_assets(folder: Path | None = None) -> dict[str, tuple[bytes, str]]:
    """(content, media type) by name; raises ConfigError where the page was not built."""
    folder = folder or BUILT
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise ConfigError(
            f"the review page is not built ({folder}/{missing[0]} is missing): run `make page`, "
            "which needs node and npm"
        )
    return {name: ((folder / name).read_bytes(), kind) for name, kind in FILES.items()}


REPORT = "report.html"
REPORT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_BUTTON = re.compile("<!-- review -->.*?<!-- /review -->", re.DOTALL)


def report_page(root: Path) -> bytes | None:
    """The run's report with a link to the review page in its button's place; None without one."""
    try:
        text = (root / REPORT).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    return _BUTTON.sub('<a class="review" href="/">Open the review page</a>', text).encode()
