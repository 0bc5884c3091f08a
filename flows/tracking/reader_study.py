"""A reader study's result, written to the model version it is about."""

from __future__ import annotations

import json
from pathlib import Path

from flows.tracking.registry import Registry
from flows.tracking.versions import READERS
from flows.tracking.waiting_gate import settle_gate
from pipeline.core.types import Json
from pipeline.review.decisions import audit_of
from pipeline.review.reader_study import Reading, open_study, unblinded
from pipeline.review.statistics import study_statistics

#: The whole result, in the version's run.
ARTIFACT = "reader-study.json"


def study_result(root: Path, *, margin: float) -> tuple[Json, list[Reading]]:
    """The statistics of a folder's reader study, and the readings they are of."""
    readings = unblinded(root, open_study(root, []))
    result = study_statistics(readings, margin=margin).to_dict()
    audit_of(root).append({"act": "statistics", "readings": len(readings), "margin": margin})
    return result, readings


def record_study(registry: Registry, reference: str, result: Json) -> Json:
    """Write the result to a model version: whole to its run, in short as a tag.

    Where the version's gate waits for nothing but its readers, and they found it not inferior in
    every criterion, it passes now and gets its alias.
    """
    version, client = registry.find(reference), registry.client
    passed = all(row["non_inferior"] is True for row in result["criteria"].values())
    client.log_text(version.run_id, json.dumps(result, indent=2), ARTIFACT)
    verdict = "passed" if passed else "failed"
    client.set_model_version_tag(version.name, version.version, READERS, verdict)
    settle_gate(registry, f"{version.name}/{version.version}")
    return {"name": version.name, "version": int(version.version), "reader_study": verdict}
