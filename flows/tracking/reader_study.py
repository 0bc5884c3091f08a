"""A reader study's result, written to the model version it is about."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from flows.tracking.registry import Registry
from flows.tracking.versions import READERS
from flows.tracking.waiting_gate import settle_gate
from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.core.pseudonyms import installation_key
from pipeline.core.types import Json
from pipeline.review.decisions import audit_of
from pipeline.review.study import localisation
from pipeline.review.study.lesion_truth import kept_truth, read_truth, save_truth
from pipeline.review.study.localisation_statistics import localisation_statistics, weighted_merit
from pipeline.review.study.power import (
    LESION_PLAN,
    StudyPlan,
    deviations_of_pilot,
    read_plan,
    require_no_readings,
    set_plan,
)
from pipeline.review.study.reader_comparison import pseudovalues
from pipeline.review.study.reader_study import CRITERIA, open_study, replace_study, unblinded
from pipeline.review.study.statistics import common_cases, common_scores, study_statistics
from pipeline.review.worklist import collect

#: The whole result, in the version's run.
ARTIFACT = "reader-study.json"


def study_result(root: Path) -> Json:
    """The statistics of a folder's reader study."""
    plan, study = read_plan(root), open_study(root, [])
    if plan.lesions:
        marks = localisation.unblinded(root, study)
        result = localisation_statistics(marks, kept_truth(root), plan).to_dict()
    else:
        result = study_statistics(unblinded(root, study), plan).to_dict()
    act = {"act": "statistics", "readings": result["readings"], "margin": plan.margin}
    audit_of(root).append(act)
    return result


def planned(root: Path, chosen: dict[str, float], pilot: Path | None) -> StudyPlan:
    """The plan of a folder's reader study; with any of `chosen`, or a pilot, it is set first.

    chosen: fields of StudyPlan. pilot: a folder with the readings of another study of the same
    kind. Raises ConfigError for values that make no plan and once there are readings.
    """
    plan = read_plan(root)
    if not chosen and pilot is None:
        return plan
    if chosen.get("lesions") and not plan.lesions:
        plan = LESION_PLAN
    deviations = {} if pilot is None else _deviations(pilot, lesions=plan.lesions)
    try:
        plan = StudyPlan(**{**plan.model_dump(), **deviations, **chosen})
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "the plan"
        raise ConfigError(f"{where}: {problem['msg']}") from None
    set_plan(root, plan)
    return plan


def plan_lesions(
    root: Path, file: Path, sources: list[Path], chosen: dict[str, float], pilot: Path | None
) -> StudyPlan:
    """Plan a study in which lesions are marked, whose places a YAML has; as `planned` otherwise.

    sources: where originals are, if not in the folder. Raises ConfigError for a file that
    read_truth refuses.
    """
    require_no_readings(root)
    truth = read_truth(file, collect(root, sources, key=installation_key()))
    plan = planned(root, {**chosen, "lesions": True}, pilot)
    save_truth(root, truth)
    replace_study(root, list(truth.cases))
    return plan


def _deviations(pilot: Path, *, lesions: bool) -> dict[str, float]:
    """How much the readings of a pilot vary."""
    study = open_study(pilot, [])
    if read_plan(pilot).lesions != lesions:
        raise ConfigError(
            f"{pilot}: lesions are marked in one of the two studies, not in the other"
        )
    if lesions:
        readings, truth = localisation.unblinded(pilot, study), kept_truth(pilot)
        merit = weighted_merit(readings, truth)
        return deviations_of_pilot([pseudovalues(merit.values, merit.left_out)])
    first = [each for each in unblinded(pilot, study) if not each.repeat]
    common = common_cases(first)
    return deviations_of_pilot([common_scores(first, common, name) for name in CRITERIA])


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
