"""What an output folder says of itself: report.json, what became of each series or picture, and
source.json, where they were read from.

Runs into one folder, also at the same time, add to both. A series is known by its folder, a
picture by its file: what a later run says of the same one takes the place of what was said
before; what is no longer there is no longer listed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pipeline.core.atomic_files import locked, write_json
from pipeline.core.errors import ConfigError
from pipeline.core.refusals import Disposition
from pipeline.core.types import Json

#: Files that record a run: its request (`ldct run`), its sources, its results.
REQUEST, SOURCE, REPORT = "request.json", "source.json", "report.json"
#: As REQUEST names its own folder, where its source is relative to it; older ones say another.
HERE = "."
#: Ends the name of the folder of an SR, beside that of the derived series which it is about.
STRUCTURED_REPORT = "-report"
#: A report's lists of results, each row of which has a name: what was written, what could not be,
#: and what an interrupted run did not come to.
RESULTS = ("exported", "skipped", "failed", "not_done")


class OutputRecord:
    """The record of `out`, for a run that reads `source`; None where REQUEST names it.

    Raises ConfigError where `out` has a report.json that is not ours: it is never overwritten.
    """

    def __init__(self, out: Path, source: Path | None) -> None:
        self._out = out
        # Names that this run has reported: one that was refused is on no list in the end.
        self._reported: set[str] = set()
        out.mkdir(parents=True, exist_ok=True)
        with locked(out):
            known = self._read()
            self._number = 0
            if source is not None:
                self._number = _number_of(out, source, has_report=bool(known))

    def add(self, report: Json) -> None:
        """Merge what this run has to report so far into report.json; may be called again and again.

        report: RESULTS, and the refusals by disposition.
        """
        with locked(self._out):
            before = self._read()
            kept = {key: value for key, value in before.items() if key not in RESULTS}
            write_json(self._out / REPORT, {**kept, **report, **self._merged(before, report)})

    def replace(self, report: Json) -> None:
        """As `add`, of a run whose report has more to say; of other runs the lists alone stay."""
        with locked(self._out):
            before = self._read()
            write_json(self._out / REPORT, {**report, **self._merged(before, report)})

    def _read(self) -> Json:
        path = self._out / REPORT
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError:
            found = None
        if not isinstance(found, dict) or str(Disposition.QUARANTINED) not in found:
            raise ConfigError(f"{path} is no report of ldct: move it, or choose another --out")
        return found

    def _merged(self, before: Json, report: Json) -> Json:
        """The lists of both; of pictures also how many there were."""
        self._reported |= {_name(row) for kind in RESULTS for row in report.get(kind, ())}
        lists: dict[str, list[Any]] = {}
        for kind in RESULTS:
            rows = report.get(kind, [])
            # What was exported once and could not be again is still there.
            replaced = self._reported if kind != "exported" else {_name(row) for row in rows}
            kept = [row for row in before.get(kind, ()) if _name(row) not in replaced]
            if kind == "exported":
                kept = [row for row in kept if (self._out / _name(row)).exists()]
            lists[kind] = [*kept, *rows]
        for kind in map(str, Disposition):
            others = [row for row in before.get(kind, ()) if row.get("source", 0) != self._number]
            lists[kind] = [*others, *map(self._marked, report.get(kind, ()))]
        for kind in ("skipped", "not_done"):
            if not lists[kind]:
                del lists[kind]
        if "pictures" not in report:
            return lists
        written = [row for row in lists["exported"] if "file" in row]
        return {**lists, "pictures": len(written) + len(lists[Disposition.QUARANTINED])}

    def _marked(self, row: Json) -> Json:
        """Of a file of the first source, which most folders have alone, the row as it is."""
        return {**row, "source": self._number} if self._number else row


def derived_folder(folder: Path) -> Path:
    """The folder of the derived series that an SR's is about; any other folder itself."""
    about = folder.with_name(folder.name.removesuffix(STRUCTURED_REPORT))
    return about if about.is_dir() else folder


def record_of(out: Path) -> Json:
    """report.json of an output folder; {} where there is none that can be read."""
    return _read_object(out / REPORT)


def recorded_sources(out: Path) -> list[Path]:
    """The existing folders and files that a folder's results were read from, each once."""
    request = _read_object(out / REQUEST)
    asked = request.get("data")
    found = []
    if asked and isinstance(asked, str):
        found = [place_of(out, asked) if request.get("out") == HERE else Path(asked)]
    found += [place_of(out, source) for source in _sources(out) if source]
    return list(dict.fromkeys(source for source in found if source.exists()))


def _sources(out: Path) -> list[str]:
    """As SOURCE has them, relative to `out`; one of an older version has the last one only, or
    absolute paths."""
    recorded = _read_object(out / SOURCE)
    return list(recorded.get("sources") or ([recorded["data"]] if "data" in recorded else []))


def _read_object(path: Path) -> Json:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _number_of(out: Path, source: Path, *, has_report: bool) -> int:
    """The source's place in SOURCE, where it is added; 0 is the source of rows that name none."""
    sources = _sources(out)
    if has_report and not sources:
        sources = [""]  # a report of another command, or of an older version
    # Relative: a folder that is passed on does not reveal where its patients' images lie, and one
    # that is moved with them still finds them.
    relative = [name and relative_to_folder(out, place_of(out, name)) for name in sources]
    name = relative_to_folder(out, source)
    if name not in relative:
        relative.append(name)
    write_json(out / SOURCE, {"data": name, "sources": relative})
    return relative.index(name)


def place_of(out: Path, name: str) -> Path:
    """The folder or file that SOURCE or REQUEST of `out` names."""
    return Path(os.path.normpath(out.resolve() / name))


def relative_to_folder(out: Path, source: Path) -> str:
    """The name of a source in `out`: both may be moved together, and nothing else is said."""
    return os.path.relpath(source.resolve(), out.resolve())


def _name(row: Json) -> str:
    return str(row.get("folder") or row.get("file") or row.get("series"))
