"""What scripts and dashboards read of a site is named as version 0.1.0 named it."""

from __future__ import annotations

from helpers.upgrade import unpack

from flows.hospital.ledger_status import status
from flows.hospital.prometheus import WorkerMetrics
from flows.hospital.status import HospitalStatus, ScheduledRun, page
from pipeline.pacs.settings.hospital import load_pacs

#: Of `ldct status --json`.
RUN_KEYS = {"job", "due", "outcome", "seconds", "told"}
WORK_KEYS = {
    "state", "id", "model", "origin", "rule", "instances", "failures", "note", "due", "changed",
}  # fmt: skip
METRICS = {
    "ldct_series": "gauge",
    "ldct_queue": "gauge",
    "ldct_queue_wait_seconds": "gauge",
    "ldct_failing": "gauge",
    "ldct_series_per_hour": "gauge",
    "ldct_step_seconds": "histogram",
    "ldct_failures": "counter",
}


def test_the_status_of_its_ledger_has_the_same_keys(tmp_path):
    settings = load_pacs(unpack(tmp_path) / "hospital.yaml")
    run = ScheduledRun("nightly", "2026-11-28 01:00 CET", "skipped", 0, "missed")
    report = HospitalStatus([run], status(settings))
    found = report.to_dict()
    assert found.keys() >= {"runs", "counts", "open"}
    assert found["runs"][0].keys() >= RUN_KEYS
    assert found["runs"][0]["told"] == "missed"
    assert found["counts"] == {
        "found": 2, "here": 1, "derived": 2, "held": 1, "rejected": 0, "sent": 1, "superseded": 1,
        "dead": 2,
    }  # fmt: skip
    assert len(found["open"]) == 8
    assert all(work.keys() == WORK_KEYS for work in found["open"])
    assert "kernel BONE; training saw STANDARD" in page(report)


def test_the_metrics_of_its_ledger_have_the_same_names(tmp_path):
    settings = load_pacs(unpack(tmp_path) / "hospital.yaml")
    families = {family.name: family for family in WorkerMetrics(settings).registry.collect()}
    assert {name: family.type for name, family in families.items()}.items() >= METRICS.items()
    series = {s.labels["state"]: s.value for s in families["ldct_series"].samples}
    assert (series["found"], series["held"], series["dead"]) == (2, 1, 2)
    assert families["ldct_queue"].samples[0].value == 5
    assert families["ldct_failing"].samples[0].value == 2
