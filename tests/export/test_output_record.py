"""What an output folder says of itself: runs into one folder add to its record."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from pipeline.core.errors import ConfigError
from pipeline.core.types import Json
from pipeline.export.output_record import OutputRecord, record_of, recorded_sources


def exported(out: Path, *names: str, **facts: object) -> list[Json]:
    for name in names:
        (out / name).mkdir(parents=True, exist_ok=True)
    return [{"series": name, "folder": name, **facts} for name in names]


def refused(*files: str) -> list[Json]:
    return [{"file": file, "reason": "damaged"} for file in files]


def report(rows: list[Json], *quarantined: str, **more: object) -> Json:
    return {
        "exported": rows,
        "failed": [],
        **more,
        "excluded": [],
        "quarantined": refused(*quarantined),
        "used": [],
    }


def folders(found: Json, kind: str = "exported") -> list[str]:
    return [row["folder"] for row in found.get(kind, [])]


def test_a_second_run_adds_to_the_first(tmp_path: Path) -> None:
    out, one, two = tmp_path / "out", tmp_path / "one", tmp_path / "two"
    for source in (one, two):
        source.mkdir()
    OutputRecord(out, one).add(report(exported(out, "a"), "x.dcm"))
    assert record_of(out) == report(exported(out, "a"), "x.dcm")
    OutputRecord(out, two).add(report(exported(out, "b"), "x.dcm"))
    found = record_of(out)
    assert folders(found) == ["a", "b"]
    assert found["quarantined"] == [refused("x.dcm")[0], {**refused("x.dcm")[0], "source": 1}]
    assert recorded_sources(out) == [one, two]


def test_a_series_is_told_once_as_the_last_run_has_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    OutputRecord(out, tmp_path).add(report(exported(out, "a", "b", clipped=1), "x.dcm"))
    OutputRecord(out, tmp_path).add(report(exported(out, "a", clipped=2), "y.dcm"))
    found = record_of(out)
    assert {row["folder"]: row["clipped"] for row in found["exported"]} == {"a": 2, "b": 1}
    assert found["quarantined"] == refused("y.dcm")
    assert recorded_sources(out) == [tmp_path]


def test_what_failed_is_forgotten_once_it_is_exported(tmp_path: Path) -> None:
    out, failed = tmp_path / "out", [{"series": "a", "folder": "a", "reason": "none"}]
    record = OutputRecord(out, tmp_path)
    record.add({**report(exported(out, "b"), "a.dcm"), "failed": failed})
    assert record_of(out)["failed"] == failed
    record.add(report(exported(out, "a")))
    found = record_of(out)
    assert (found["failed"], found["quarantined"]) == ([], [])
    assert sorted(folders(found)) == ["a", "b"]
    # What is there stays told, though it could not be made again.
    record.add({**report([], "a.dcm"), "failed": failed})
    assert (sorted(folders(record_of(out))), record_of(out)["failed"]) == (["a", "b"], failed)


def test_an_interrupted_run_leaves_what_it_did_not_come_to(tmp_path: Path) -> None:
    out, rows = tmp_path / "out", [{"series": name, "folder": name} for name in "ab"]
    record = OutputRecord(out, tmp_path)
    record.add(report([], not_done=rows))
    record.add(report(exported(out, "a"), not_done=rows[1:]))
    assert (folders(record_of(out)), folders(record_of(out), "not_done")) == (["a"], ["b"])
    again = OutputRecord(out, tmp_path)
    again.add(report([], not_done=rows))
    again.add(report(exported(out, "a"), "b.dcm"))  # b is refused
    assert "not_done" not in record_of(out)


def test_a_folder_that_was_removed_is_told_no_more(tmp_path: Path) -> None:
    out = tmp_path / "out"
    OutputRecord(out, tmp_path).add(report(exported(out, "a", "b")))
    (out / "a").rmdir()
    OutputRecord(out, tmp_path).add(report([]))
    assert folders(record_of(out)) == ["b"]


@pytest.mark.parametrize("text", ["{}", "[1]", "no JSON", '{"name": "of another program"}'])
def test_a_report_that_is_not_ours_is_not_overwritten(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ConfigError, match=r"report\.json is no report of ldct"):
        OutputRecord(tmp_path, tmp_path)
    assert (tmp_path / "report.json").read_text() == text


def test_a_run_that_says_more_keeps_what_others_exported(tmp_path: Path) -> None:
    """`ldct run`, whose own facts take the place of those before, into a folder of `ldct apply`."""
    out = tmp_path / "out"
    OutputRecord(out, None).replace({**report(exported(out, "derived/a")), "error": "disk"})
    OutputRecord(out, tmp_path).add(report(exported(out, "b"), "x.dcm"))
    assert record_of(out)["error"] == "disk"
    OutputRecord(out, None).replace({**report(exported(out, "derived/a")), "name": "run"})
    found = record_of(out)
    assert (found["name"], "error" in found) == ("run", False)
    assert sorted(folders(found)) == ["b", "derived/a"]
    assert [row["source"] for row in found["quarantined"]] == [1]


def test_the_source_of_an_older_version_and_of_a_run_is_read(tmp_path: Path) -> None:
    for name in ("old", "run"):
        (tmp_path / name).mkdir()
    (tmp_path / "source.json").write_text(json.dumps({"data": str(tmp_path / "old")}))
    assert recorded_sources(tmp_path) == [tmp_path / "old"]
    (tmp_path / "request.json").write_text(json.dumps({"data": str(tmp_path / "run")}))
    assert recorded_sources(tmp_path) == [tmp_path / "run", tmp_path / "old"]
    (tmp_path / "old").rmdir()
    assert recorded_sources(tmp_path) == [tmp_path / "run"]


def test_no_absolute_path_is_kept_and_both_moved_together_still_find_each_other(
    tmp_path: Path,
) -> None:
    site, out = tmp_path / "site", tmp_path / "site" / "results" / "out"
    for name in ("Mueller^Eva", "old"):
        (site / "in" / name).mkdir(parents=True)
    out.mkdir(parents=True)
    old = str(site / "in" / "old")
    (out / "source.json").write_text(json.dumps({"data": old, "sources": [old]}))
    OutputRecord(out, site / "in" / "Mueller^Eva").add(report(exported(out, "a"), "x.dcm"))
    assert str(tmp_path) not in (out / "source.json").read_text()
    assert record_of(out)["quarantined"][0]["source"] == 1
    OutputRecord(out, site / "in" / "old").add(report(exported(out, "b"), "x.dcm"))
    site.rename(tmp_path / "moved")
    moved = tmp_path / "moved"
    assert recorded_sources(moved / "results" / "out") == [
        moved / "in" / "old",
        moved / "in" / "Mueller^Eva",
    ]


def add_one(out: Path, number: int) -> None:
    source = out.parent / f"source-{number}"
    source.mkdir()
    record = OutputRecord(out, source)
    for step in range(4):
        rows = exported(out, *(f"{number}-{done}" for done in range(step + 1)))
        record.add(report(rows, f"{number}.dcm"))


def test_runs_at_once_lose_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with ProcessPoolExecutor(4) as pool:
        for done in [pool.submit(add_one, out, number) for number in range(8)]:
            done.result()
    found = record_of(out)
    assert set(folders(found)) == {f"{number}-{step}" for number in range(8) for step in range(4)}
    assert {row["file"] for row in found["quarantined"]} == {f"{n}.dcm" for n in range(8)}
    assert len({row.get("source", 0) for row in found["quarantined"]}) == 8
    assert len(recorded_sources(out)) == 8
