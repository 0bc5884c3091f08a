"""What commands do does not grow with what is kept: files and queries are counted, not seconds."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy
from helpers.dicom import write_series

import flows.hospital.ledger_status as ledger_status
from flows.hospital.ledger_status import SHOWN_OF_A_STATE, status
from flows.hospital.status import HospitalStatus, page
from flows.tracking.all_pages import all_pages
from flows.tracking.registry import Registry
from pipeline.core.errors import ConfigError
from pipeline.ingest.ingest import ingest
from pipeline.pacs.settings.hospital import load_pacs
from pipeline.pacs.work.item import State
from pipeline.pacs.work.ledger import Ledger
from pipeline.store.store import Store

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import growth_kept  # noqa: E402  (the folder is no package)

sys.path.remove(str(BENCHMARKS))

_opened: Counter[str] | None = None


def _count(event: str, arguments: tuple) -> None:
    if _opened is not None and event in ("open", "os.listdir", "os.scandir", "glob.glob"):
        _opened[event] += 1


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Files that are opened and folders that are listed meanwhile."""
    global _opened
    _opened = Counter()
    try:
        yield _opened
    finally:
        _opened = None


sys.addaudithook(_count)  # for good, but without effect outside of `counted`


# The store


def test_a_run_reads_each_record_of_its_store_once(tmp_path: Path) -> None:
    others = []
    for count in (10, 10, 300):  # the first imports modules, which are files too
        place = tmp_path / f"{len(others)}"
        growth_kept.make_store(place, count)
        with counted() as found:
            assert growth_kept.ask_as_a_run_does(place) == count
        found["open"] -= count
        others.append(found)
    assert others[2] == others[1]
    with counted() as again:
        growth_kept.ask_as_a_run_does(place)
    assert again["open"] <= others[2]["open"]


def test_one_more_series_is_ingested_without_a_look_at_the_others(tmp_path: Path) -> None:
    write_series(tmp_path / "new")
    opened = []
    for count in (10, 10, 300):  # the first imports modules, which are files too
        place = tmp_path / f"{len(opened)}"
        growth_kept.make_store(place, count)
        with counted() as found:
            report = ingest(tmp_path / "new", Store(place), key=b"k" * 32)
        assert [row.new for row in report.series] == [True]
        opened.append(found)
    assert opened[2] == opened[1]


def test_what_another_process_writes_is_read_again(tmp_path: Path) -> None:
    growth_kept.make_store(tmp_path, 2)
    store = Store(tmp_path)
    assert store.record("s-000001").patient == "p-000001"
    path = tmp_path / "volumes" / "s-000001.json"
    path.write_text(path.read_text().replace("p-000001", "p-another"))
    assert store.record("s-000001").patient == "p-another"
    assert store.records()["s-000001"].patient == "p-another"
    path.write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        store.record("s-000001")
    path.unlink()
    with pytest.raises(FileNotFoundError):
        store.record("s-000001")
    assert list(store.records()) == ["s-000000"]


def test_who_changes_a_volume_s_provenance_changes_no_record(tmp_path: Path) -> None:
    growth_kept.make_store(tmp_path, 1)
    store = Store(tmp_path)
    store.load("s-000000").provenance["warnings"].append("of the caller")
    assert "of the caller" not in store.record("s-000000").provenance["warnings"]


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    growth_kept.make_store(tmp_path, 1)
    store = Store(tmp_path)
    record = store.record("s-000000")
    written = json.loads((tmp_path / "volumes" / "s-000000.json").read_text())
    assert record.to_dict() == written
    assert record.slice_origins_mm[3] == written["slice_origins_mm"][3]
    np.testing.assert_array_equal(np.array(record.slice_origins_mm), written["slice_origins_mm"])
    np.testing.assert_array_equal(
        store.load("s-000000").slice_origins_mm, written["slice_origins_mm"]
    )


# The ledger


class Traced(Ledger):
    """Counts its statements."""

    statements: list[str]

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        Traced.statements = []
        self._db.set_trace_callback(Traced.statements.append)


def test_a_status_page_reads_the_oldest_of_each_state(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(ledger_status, "Ledger", Traced)
    asked = []
    for count in (10, 1_000):
        growth_kept.make_ledger(tmp_path / str(count), count)
        settings = load_pacs(tmp_path / str(count) / "hospital.yaml")
        found = status(settings)
        asked.append(len(Traced.statements))
        assert found.counts["found"] == count / 2
        assert len(found.open) == min(count // 2, SHOWN_OF_A_STATE)
        assert found.not_shown == count / 2 - len(found.open)
        assert [work.changed for work in found.open] == sorted(w.changed for w in found.open)
        assert found.open[0].id == "w-1"  # the oldest of what waits
    assert asked[1] == asked[0]
    shown = page(HospitalStatus([], found))
    assert "450 more are not shown" in shown
    assert "`ldct status HOSPITAL --all`" in shown
    assert found.to_dict()["not_shown"] == 450
    every = status(settings, everything=True)
    assert (len(every.open), every.not_shown) == (500, 0)
    assert "not shown" not in page(HospitalStatus([], every))


def test_the_oldest_of_a_state_are_found_by_an_index(tmp_path: Path) -> None:
    growth_kept.make_ledger(tmp_path, 10)
    with sqlite3.connect(tmp_path / "work" / "ledger.db") as database:
        for query in (
            "SELECT * FROM work WHERE state = 'found' ORDER BY changed, id LIMIT 50",
            "SELECT state, count(*) FROM work GROUP BY state",
        ):
            plan = " ".join(row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {query}"))
            assert "INDEX work_changed" in plan
            assert "TEMP B-TREE" not in plan


def test_deliveries_of_many_are_those_of_each(tmp_path: Path) -> None:
    growth_kept.make_ledger(tmp_path, 1_200)
    ledger = Ledger(tmp_path / "work")
    works = ledger.all(State.FOUND)
    for work in works[::100]:
        ledger.deliveries.of(work, ["north", "south"])
    found = ledger.deliveries.known_of([work.id for work in works])
    assert found == {work.id: ledger.deliveries.known(work.id) for work in works}
    assert sum(map(len, found.values())) == 12


# The registry


@pytest.fixture(scope="module")
def registries(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Registry]:
    few = tmp_path_factory.mktemp("registries") / "few"
    growth_kept.make_registry(few, 10)
    many = shutil.copytree(few, few.parent / "many")
    with closing(sqlite3.connect(many / "mlflow.db")) as database:
        (run_id,) = database.execute(
            "SELECT run_id FROM model_versions WHERE version = 1"
        ).fetchone()
        for number in range(11, 251):
            growth_kept.again(database, run_id, number)
        database.commit()
    return {
        count: Registry(f"sqlite:///{folder / 'mlflow.db'}", folder.as_uri())
        for count, folder in ((10, few), (250, many))
    }


@contextmanager
def queries() -> Iterator[list[str]]:
    asked: list[str] = []

    def note(connection, cursor, statement, parameters, context, many) -> None:
        asked.append(statement)

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", note)


def test_a_list_of_versions_asks_as_little_of_many_as_of_few(registries) -> None:
    ways: dict[str, tuple[str, ...] | None] = {"no": (), "one": (growth_kept.METRIC,), "all": None}
    asked: dict[str, list[int]] = {name: [] for name in ways}
    for count, registry in registries.items():
        registry.list(metrics=())  # MLflow looks at its tables the first time
        for name, metrics in ways.items():
            with queries() as statements:
                rows = registry.list(metrics=metrics)
            asked[name].append(len(statements))
            assert len(rows) == count
    assert asked["no"][1] == asked["no"][0]
    # Of 250 runs there are two queries.
    assert asked["one"][1] <= asked["one"][0] + 1
    assert asked["all"][1] < asked["all"][0] + 20


def test_a_metric_is_read_without_the_runs_that_have_it(registries) -> None:
    registry, names = registries[250], (growth_kept.METRIC, "test.figure_3", "nothing")
    with queries() as statements:
        rows = registry.list(metrics=names)
    assert not any(" params" in one or " tags" in one for one in statements)
    whole = registry.list()
    kept = [{n: v for n, v in row.metrics.items() if n in names} for row in whole]
    assert [row.metrics for row in rows] == kept
    assert len(kept[0]) == 2


def test_of_a_metric_logged_again_the_last_counts_in_either_way(tmp_path) -> None:
    found = Registry(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path.as_uri())
    client = found.client
    experiment = client.create_experiment("e", artifact_location=tmp_path.as_uri())
    client.create_registered_model("m")
    for values in ([3.0, 1.0], [2.0, float("nan")], [float("inf"), 4.0]):
        run = client.create_run(experiment)
        for step, value in enumerate(values):
            client.log_metric(run.info.run_id, "figure", value, step=step)
        client.create_model_version("m", "runs:/x", run.info.run_id)
    one, whole = found.list(metrics=("figure",)), found.list()
    np.testing.assert_array_equal(
        [row.metrics["figure"] for row in one], [row.metrics["figure"] for row in whole]
    )
    assert {row.version: row.metrics["figure"] for row in one}[1] == 1.0


def test_each_row_of_the_list_is_the_version_s_own(registries) -> None:
    registry = registries[10]
    rows = registry.list()
    assert {row.version for row in rows} == set(range(1, 11))
    for row in rows:
        assert row == registry._row(registry.client.get_model_version(row.name, str(row.version)))
    by_number = {row.version: row for row in rows}
    assert by_number[1].aliases == ["champion"]
    assert by_number[2].aliases == []
    assert len(by_number[2].metrics) == growth_kept.METRICS
    assert not any(row.metrics for row in registry.list(metrics=()))


def test_what_comes_in_pages_is_read_to_its_end(registries) -> None:
    client = registries[10].client
    search = partial(client.search_model_versions, max_results=3)
    assert len(search()) == 3
    assert {int(version.version) for version in all_pages(search)} == set(range(1, 11))


def test_an_unknown_model_is_refused_with_the_names_there_are(registries) -> None:
    with pytest.raises(ConfigError, match="there is no model other; registered are: denoiser"):
        registries[10].require("other")
    registries[10].require("denoiser")
