"""request.json of a run: what it asks for, with no absolute path."""

from __future__ import annotations

import json
from pathlib import Path

from flows.run import Request
from pipeline.export.output_record import recorded_sources


def test_a_request_has_no_absolute_path_and_is_found_where_it_was_moved(tmp_path: Path) -> None:
    site, out = tmp_path / "site", tmp_path / "site" / "out"
    (site / "Mueller^Eva").mkdir(parents=True)
    asked = Request({}, str(site / "Mueller^Eva"), str(out), ["bm3d"])
    path = asked.save()
    assert str(tmp_path) not in path.read_text()
    assert Request.read(path) == asked
    site.rename(tmp_path / "moved")
    moved = tmp_path / "moved" / "out"
    again = Request.read(moved / "request.json")
    assert (again.data, again.out) == (str(tmp_path / "moved" / "Mueller^Eva"), str(moved))
    assert recorded_sources(moved) == [tmp_path / "moved" / "Mueller^Eva"]
    path = Request({}, None, str(out)).save()
    assert (Request.read(path).data, recorded_sources(out)) == (None, [])
    old = {"config": {}, "data": "in", "out": "results"}  # as they were given
    path.write_text(json.dumps(old))
    assert (Request.read(path).data, Request.read(path).out) == ("in", "results")
