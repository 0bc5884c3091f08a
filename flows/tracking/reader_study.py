"""A reader study's result, written to the model version it is about."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from flows.tracking.registry import Registry
from flows.tracking.versions import READERS
from flows.tracking.waiting_gate import settle_gate
from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.core.types import Json
from pipeline.review.decisions import audit_of
from pipeline.review.reader_study import CRITERIA, Reading, open_study, unblinded
from pipeline.review.statistics import common_cases, common_scores, study_statistics
from pipeline.review.study_power import StudyPlan, deviations_of_pilot, read_plan, set_plan

#: The whole result, in the version's run.
ARTIFACT = "reader-study.json"


def study_result(root: Path) -> tuple[Json, list[Reading]]:
    """The statistics of a folder's reader study, and the readings they are of."""
    plan, readings = read_plan(root), unblinded(root, open_study(root, []))
    result = study_statistics(readings, plan).to_dict()
    audit_of(root).append({"act": "statistics", "readings": len(readings), "margin": plan.margin})
    return result, readings


def planned(root: Path, chosen: dict[str, float], pilot: Path | None) -> StudyPlan:
    """The plan of a folder's reader study; with any of `chosen`, or a pilot, it is set first.

    chosen: fields of StudyPlan. pilot: a folder with the readings of another study. Raises
    ConfigError for values that make no plan and once there are readings.
    """
    plan = read_plan(root)
    if not chosen and pilot is None:
        return plan
    deviations = {}
    if pilot is not None:
        first = [each for each in unblinded(pilot, open_study(pilot, [])) if not each.repeat]
        common = common_cases(first)
        deviations = deviations_of_pilot([common_scores(first, common, name) for name in CRITERIA])
    try:
        plan = StudyPlan(**{**plan.model_dump(), **deviations, **chosen})
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(f"{problem['loc'][0]}: {problem['msg']}") from None
    set_plan(root, plan)
    return plan


def record_study(registry: Registry, reference: str, result: Json) -> Json:
    """Write the result to a model version: whole to its run, in short as a tag.

    Where the version's gate waits for nothing but its readers, and they found it not inferior in
    every criterion, it passes now and gets its alias. Raises NothingUsableError, and writes
    nothing, where the study is smaller than its plan: it is no verdict either way.
    """
    if result["no_verdict"]:
        raise NothingUsableError(f"{result['no_verdict']}; nothing is written to {reference}")
    version, client = registry.find(reference), registry.client
    passed = all(row["non_inferior"] is True for row in result["criteria"].values())
    client.log_text(version.run_id, json.dumps(result, indent=2), ARTIFACT)
    verdict = "passed" if passed else "failed"
    client.set_model_version_tag(version.name, version.version, READERS, verdict)
    settle_gate(registry, f"{version.name}/{version.version}")
    return {"name": version.name, "version": int(version.version), "reader_study": verdict}
