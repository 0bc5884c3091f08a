"""Work on every series of a source: what is skipped is reported, and no failure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from helpers.dicom import write_series

from flows.runtime.batch import each_volume
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.export.series import Exported, ExportReport
from pipeline.io.discover import Source

WHY = "auto: nothing to make up for"


def test_a_batch_in_which_nothing_had_to_be_written_is_reported_and_no_failure(
    tmp_path: Path,
) -> None:
    write_series(tmp_path / "in")

    def skip(source: Source, key: str, folder: Path) -> Callable[[], Exported]:
        return lambda: Exported(None, [], skipped=WHY)

    def write(source: Source, key: str, folder: Path) -> Callable[[], Exported]:
        folder.mkdir(parents=True)
        return lambda: Exported(ExportReport(folder.name, 1, {}), [])

    out = tmp_path / "out"
    report = each_volume(tmp_path / "in", out, IngestOptions(), skip, suffix="m-v1")
    (row,) = report["skipped"]
    assert row["reason"] == WHY
    assert report["exported"] == []
    assert json.loads((out / "report.json").read_text())["skipped"] == [row]

    # Written by a later run, it is skipped no longer.
    each_volume(tmp_path / "in", out, IngestOptions(), write, suffix="m-v1")
    recorded = json.loads((out / "report.json").read_text())
    assert "skipped" not in recorded
    assert len(recorded["exported"]) == 1
