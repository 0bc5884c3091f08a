"""Which version serves: promoted by its merits and with a reason, taken back in one command.

Every act is written to the registered model itself, as a tag that is never written again, so
that all who share the registry see one history; and to the version's run, as a file, since anyone
who may use the registry can change a tag in its UI.
"""

from __future__ import annotations

import getpass
import json
import time
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities.model_registry import ModelVersion

from flows.tracking.registry import CHALLENGER, CHAMPION, Registry
from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.types import Json
from pipeline.core.verdicts import Check, Verdict
from pipeline.tasks.base import task_of

AUDIT = "audit."
#: In the run of the version that an act is about: a file for each.
AUDIT_FOLDER = "audit"
#: On the version: passed or failed, and why; in its run all checks.
VERDICT, REASONS, ARTIFACT = "promotion", "promotion_reasons", "promotion.json"
#: MLflow takes 5,000 characters.
_LONGEST_TAG = 4500
PROMOTE, REFUSE, ROLLBACK = "promote", "refuse", "rollback"


@dataclass(frozen=True)
class PromotionRecord:
    """One act on a model, as it is kept with it for good.

    time: ISO 8601 in UTC. act: PROMOTE, REFUSE or ROLLBACK. by: the user of the computer. before:
    the version that was champion. forced: although checks failed.
    """

    time: str
    act: str
    by: str
    version: int
    reason: str
    before: int | None = None
    forced: bool = False


@dataclass(frozen=True)
class Promotion:
    """What came of a promotion: its record, and the checks against the champion of before."""

    record: PromotionRecord
    verdict: Verdict

    def to_dict(self) -> Json:
        """As `ldct models promote --json` prints it."""
        return {**asdict(self.record), "against": self.record.before, **self.verdict.to_dict()}


@dataclass(frozen=True)
class Wish:
    """Make a version the champion. force: although checks fail, for a reason that is kept."""

    name: str
    version: int
    reason: str = ""
    force: bool = False

    def __post_init__(self) -> None:
        if self.force and not self.reason.strip():
            raise ConfigError("--force needs a --reason: it is kept with the version")


def promote(registry: Registry, wish: Wish) -> Promotion:
    """The version becomes champion if every check passes, or is forced.

    Raises LdctError with what failed; the verdict and the refusal are on record all the same.
    """
    version = registry.find(f"{wish.name}/{wish.version}")
    champion = champion_of(registry, wish.name)
    if champion is not None and champion.version == version.version:
        raise ConfigError(f"{wish.name} version {wish.version} is the champion already")
    before = int(champion.version) if champion else None
    verdict = judge_promotion(registry, version, champion)
    facts = {"against": before, **verdict.to_dict()}
    _put_verdict(registry, version, verdict, facts)
    if not verdict.passed and not wish.force:
        reason = verdict.reasons
        _record(registry, wish.name, REFUSE, version=wish.version, reason=reason)
        raise LdctError(f"{wish.name} version {wish.version} is not promoted: {reason}")
    # First what was done, then doing it: a kill between leaves a record too many, not too few.
    record = _record(
        registry,
        wish.name,
        PROMOTE,
        version=wish.version,
        before=before,
        reason=wish.reason.strip(),
        forced=not verdict.passed,
    )
    registry.client.set_registered_model_alias(wish.name, CHAMPION, version.version)
    if CHALLENGER in version.aliases:
        registry.client.delete_registered_model_alias(wish.name, CHALLENGER)
    return Promotion(record, verdict)


def rollback(registry: Registry, name: str, reason: str) -> PromotionRecord:
    """The champion before the last promotion serves again; ConfigError where there was none."""
    champion = champion_of(registry, name)
    before = _history(audit(registry, name), int(champion.version) if champion else None)
    if before is None:
        raise ConfigError(
            f"{name} has no champion of before to go back to; see `ldct models audit`"
        )
    version = registry.find(f"{name}/{before}")
    now = int(champion.version) if champion else None
    record = _record(registry, name, ROLLBACK, version=before, before=now, reason=reason.strip())
    registry.client.set_registered_model_alias(name, CHAMPION, version.version)
    return record


def audit(registry: Registry, name: str) -> list[PromotionRecord]:
    """Every promotion, refusal and rollback of a model, oldest first."""
    return [PromotionRecord(**json.loads(text)) for _, text in sorted(_acts(registry, name)[0])]


def altered_acts(registry: Registry, name: str) -> list[PromotionRecord]:
    """Those acts, oldest first, whose tag has been changed or removed since."""
    acts, tags = _acts(registry, name)
    known = {(key, text) for key, text in acts if tags.get(key) != text}
    return [PromotionRecord(**json.loads(text)) for _, text in sorted(known)]


def _acts(registry: Registry, name: str) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Each act's key and text, by its file where it has one; and the tags as they are now."""
    registry.require(name)
    client = registry.client
    tags = client.get_registered_model(name).tags
    tags = {key: text for key, text in tags.items() if key.startswith(AUDIT)}
    files = {}
    for version in client.search_model_versions(f"name='{name}'"):
        for found in client.list_artifacts(version.run_id, AUDIT_FOLDER):
            place = f"runs:/{version.run_id}/{found.path}"
            files[f"{AUDIT}{Path(found.path).stem}"] = mlflow.artifacts.load_text(place)
    return list((tags | files).items()), tags


def judge_promotion(
    registry: Registry, version: ModelVersion, champion: ModelVersion | None
) -> Verdict:
    """Its own gate, synthetic images, phantoms, and the champion on the same patients."""
    name = f"{version.name}/{version.version}"
    loaded, recorded = registry.load(name), registry.recorded(version)
    if not recorded.figures:
        raise ConfigError(f"{name} was not measured on any patient: import it again with --store")
    checks = list(recorded.verdict_by(version.tags).checks)
    passed = version.tags.get("gate") == "passed"
    checks.append(Check("gate at registration", None, "passed", passed))
    task, rival = task_of(loaded.config), None
    if champion is not None:
        theirs = task.result.from_dict(registry.recorded(champion).figures)
        rival = registry.load(f"{version.name}/{champion.version}").model, theirs
    checks += task.acceptance(
        loaded.model,
        loaded.card,
        loaded.config,
        figures=task.result.from_dict(recorded.figures),
        champion=rival,
    )
    return Verdict.of(checks)


def champion_of(registry: Registry, name: str) -> ModelVersion | None:
    """The version that serves now; None where there is none. ConfigError for an unknown model."""
    registry.require(name)
    aliases = registry.client.get_registered_model(name).aliases
    return registry.find(f"{name}/{aliases[CHAMPION]}") if CHAMPION in aliases else None


def _history(acts: list[PromotionRecord], champion: int | None) -> int | None:
    """The version before the champion, by what was done and taken back."""
    before: list[int | None] = []
    for act in acts:
        if act.act == PROMOTE:
            before.append(act.before)
        elif act.act == ROLLBACK and before:
            before.pop()
    # A record without its deed, of a killed promotion, names the champion itself.
    while before and before[-1] == champion:
        before.pop()
    return before[-1] if before else None


def _put_verdict(registry: Registry, version: ModelVersion, verdict: Verdict, facts: Json) -> None:
    client, name = registry.client, version.name
    outcome = "passed" if verdict.passed else "failed"
    client.set_model_version_tag(name, version.version, VERDICT, outcome)
    client.set_model_version_tag(name, version.version, REASONS, verdict.reasons[:_LONGEST_TAG])
    client.log_text(version.run_id, json.dumps(facts, indent=2), ARTIFACT)


def _record(registry: Registry, name: str, act: str, **facts: Any) -> PromotionRecord:
    at = time.time_ns()
    moment = datetime.fromtimestamp(at / 1e9, tz=UTC).isoformat(timespec="milliseconds")
    record = PromotionRecord(time=moment, act=act, by=getpass.getuser(), **facts)
    key = f"{AUDIT}{at}.{uuid.uuid4().hex[:8]}"
    text, client = json.dumps(asdict(record)), registry.client
    client.set_registered_model_tag(name, key, text)
    run_id = client.get_model_version(name, str(record.version)).run_id
    client.log_text(run_id, text, f"{AUDIT_FOLDER}/{key.removeprefix(AUDIT)}.json")
    return record
