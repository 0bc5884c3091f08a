"""The review page as a folder that needs no server: the same page, its data as scripts beside it.

A page opened from a disk may not fetch files, but it may load scripts: each chunk of planes is
one, deflated. It can be viewed on any computer with a browser of 2023 or later. Decisions made
there are saved as a file, which `ldct review decisions` takes in; the reader study needs `ldct
review`.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from pathlib import Path

from pipeline.core.atomic_files import replacing_folder
from pipeline.core.types import Json
from pipeline.review.assets import load_assets
from pipeline.review.carried_decisions import FORMAT
from pipeline.review.decisions import audit_of, files_digest
from pipeline.review.planes import CHUNK
from pipeline.review.planes_geometry import DIRECTIONS
from pipeline.review.series_index import PAGE_ONLY_KEYWORDS
from pipeline.review.service import Review
from pipeline.review.worklist import Collection

INDEX = "index.html"
#: The browser itself then refuses any outside request.
POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    "script-src 'self' file:; style-src 'self' file:; img-src 'self' data: file:\">\n"
    '<script src="data/index.js"></script>'
)
#: The comment in the template that POLICY replaces.
PLACE = "<!-- disk -->"


def write_disk(
    collection: Collection,
    out: Path,
    *,
    assets: Path | None = None,
    progress: Callable[[int], None] = lambda files: None,
) -> str:
    """Write the page to `out`, whole or not at all; returns the name of the file to open.

    Raises LdctError where `out` holds something else, ConfigError where the page is not built.
    """
    files = load_assets(assets)
    review = Review(collection)
    with replacing_folder(out) as partial:
        for name, (content, _) in files.items():
            (partial / name).write_bytes(content)
        page = (partial / INDEX).read_text(encoding="utf-8")
        (partial / INDEX).write_text(page.replace(PLACE, POLICY), encoding="utf-8")
        for sid in _series_of(collection):
            _write_series(review, sid, partial / "data", progress)
        _script(partial / "data" / "index.js", "LDCT = ", _index(review))
    audit_of(collection.root).append({"act": "written for a disk", "cases": len(collection.cases)})
    return INDEX


def _series_of(collection: Collection) -> list[str]:
    return [f"{case.cid}.{role}" for case in collection.cases.values() for role in case.shown]


def _index(review: Review) -> Json:
    worklist = review.worklist()
    for case in worklist["cases"]:
        for series in case["series"].values():
            for name in PAGE_ONLY_KEYWORDS:
                series["facts"].pop(name, None)
        folder = review.collection.cases[case["case"]].folder
        case["files_sha256"] = files_digest(folder) if folder else ""
    changes = {cid: review.measured(cid).to_dict() for cid in review.collection.cases}
    return {
        "changes": changes,
        "decisions": FORMAT,
        "worklist": worklist,
        "geometry": {sid: review.geometry(sid) for sid in _series_of(review.collection)},
    }


def _write_series(review: Review, sid: str, folder: Path, progress: Callable[[int], None]) -> None:
    geometry = review.shown(sid).planes.geometry
    for direction in DIRECTIONS:
        for number in range(-(-geometry.count(direction) // CHUNK)):
            content, faults = review.chunk(sid, direction, number)
            deflated = base64.b64encode(zlib.compress(content, 1)).decode("ascii")
            chunk = {"deflated": deflated, "faults": json.loads(faults)}
            path = folder / sid / f"{direction}-{number}.js"
            name = json.dumps(f"{sid}/{direction}/{number}")
            _script(path, f"LDCT.put({name}, ", chunk, ")")
            progress(1)


def _script(path: Path, before: str, data: Json, after: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{before}{json.dumps(data)}{after};\n", encoding="utf-8")
