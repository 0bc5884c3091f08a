"""Whether a report is what the reference of reports says."""

from __future__ import annotations

from typing import Any

from generate.reports import report_schema
from jsonschema import Draft202012Validator


def assert_as_documented(report: dict[str, Any]) -> None:
    """Every key of a report is in docs/generate/report.schema.yaml, with a value of its kind."""
    faults = Draft202012Validator(report_schema()).iter_errors(report)
    assert [f"{fault.json_path}: {fault.message}" for fault in faults] == []
