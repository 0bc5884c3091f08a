"""deploy/: Prometheus' rules and Grafana's board name figures that a part gives, and no other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.pacs import settings
from prometheus_client import Metric

from flows.hospital.alerts import alerting
from flows.hospital.auditing import auditing
from flows.hospital.local_server import Api
from flows.hospital.prometheus import WorkerMetrics
from flows.hospital.receiver_watch import ReceiverWatch
from flows.hospital.schedule_watch import ScheduleWatch
from flows.hospital.watched import serve_part
from pipeline.pacs.work.ledger import Ledger

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "ldct.rules.yml"
BOARD = DEPLOY / "grafana" / "ldct.json"
NAME = re.compile(r"\bldct_[a-z_]+")
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}


@pytest.fixture
def figures(tmp_path: Path) -> list[Metric]:
    """Every figure that a part gives."""
    chosen = settings(tmp_path / "work", atna={"host": "127.0.0.1", "port": 1, "tls": None})
    Ledger(chosen.work)
    nowhere = ScheduleWatch(chosen, Api("http://127.0.0.1:1/api"), {})
    found: list[Metric] = []
    for part in (WorkerMetrics(chosen), ReceiverWatch(chosen), nowhere):
        with (
            serve_part(part, "0"),
            alerting(chosen, part.registry),
            auditing(chosen, part.registry),
        ):
            found += part.registry.collect()
    return found


@pytest.fixture
def exported(figures: list[Metric]) -> set[str]:
    return {figure.name + suffix for figure in figures for suffix in SUFFIXES[figure.type]}


def expressions(part: Any) -> list[str]:
    """Every `expr` and every variable's query of a document."""
    if isinstance(part, list):
        return [found for each in part for found in expressions(each)]
    if not isinstance(part, dict):
        return []
    own = [part[key] for key in ("expr", "query") if isinstance(part.get(key), str)]
    return own + expressions(list(part.values()))


@pytest.mark.parametrize("path", [RULES, BOARD], ids=lambda path: path.name)
def test_every_figure_that_is_named_is_exported(path: Path, exported: set[str]) -> None:
    text = path.read_text(encoding="utf-8")
    found = expressions(json.loads(text) if path.suffix == ".json" else yaml.safe_load(text))
    named = {name for each in found for name in NAME.findall(each)}
    assert len(named) >= 10
    assert named - exported == set()


def test_the_documents_list_every_figure_and_no_other(exported: set[str]) -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = text.partition("## Metrics")[2].partition("\n## ")[0]
    named = set(NAME.findall(table))
    whole = {re.sub("_(bucket|count|sum)$", "", name) for name in exported}
    assert named == whole


def test_states_and_labels_that_rules_ask_for_are_given(figures: list[Metric]) -> None:
    series = next(figure for figure in figures if figure.name == "ldct_series")
    states = {sample.labels["state"] for sample in series.samples}
    text = RULES.read_text(encoding="utf-8")
    assert set(re.findall(r'state="(\w+)"', text)) <= states
    assert set(re.findall(r'name="(\w+)"', text)) == {"nightly"}


def test_every_rule_says_what_to_do() -> None:
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    names = [rule["alert"] for rule in group["rules"]]
    assert len(names) == len(set(names)) > 10
    for rule in group["rules"]:
        assert set(rule["annotations"]) == {"summary", "action"}, rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_prometheus_takes_them() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    command = [promtool, "check", "config", "prometheus.yml"]
    done = subprocess.run(command, cwd=RULES.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_board_s_panels_have_one_source_and_places_of_their_own() -> None:
    board = json.loads(BOARD.read_text(encoding="utf-8"))
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(places) == len(set(places)) >= 12
    assert len({panel["id"] for panel in board["panels"]}) == len(places)
    for panel in board["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["targets"], panel["title"]


def test_prometheus_asks_where_the_units_answer() -> None:
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    (scraped,) = yaml.safe_load(text)["scrape_configs"]
    assert scraped["job_name"] == "ldct"  # as the rules name it
    (targets,) = scraped["static_configs"]
    services = [
        path for path in (DEPLOY / "systemd").glob("*.service") if "review" not in path.stem
    ]
    answered = {re.findall(r"--metrics (\d+)", path.read_text("utf-8"))[0] for path in services}
    assert {target.rpartition(":")[2] for target in targets["targets"]} == answered
