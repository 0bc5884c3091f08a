"""A gate that waits for what comes after registration: readers, or a hospital's qualification."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from flows.tracking.registry import Registry
from flows.tracking.versions import QUALIFIED
from pipeline.core.verdicts import Check, Verdict
from pipeline.evaluation.gates import QUALIFIED_AT, READER_STUDY

#: The tag of a version that says what a reader study found.
READERS = "reader_study"


def settled(checks: Iterable[Check], tags: Mapping[str, str]) -> list[Check]:
    """A version's checks as they are now: those that wait pass once their tag says so."""
    return [
        replace(check, passed=tags.get(tag) == "passed") if (tag := _tag(check)) else check
        for check in checks
    ]


def settle_gate(registry: Registry, reference: str) -> None:
    """Judge a waiting version again, and give it its alias where everything has passed now."""
    version, client = registry.find(reference), registry.client
    checks = registry.recorded(version).verdict.checks
    if not any(map(_tag, checks)):
        return
    passed = Verdict.of(settled(checks, version.tags)).passed
    client.set_model_version_tag(
        version.name, version.version, "gate", "passed" if passed else "failed"
    )
    registry.give_alias(client, version, passed=passed and not version.aliases)


def _tag(check: Check) -> str:
    """The tag that a check waits for; "" for one that does not."""
    if check.name == READER_STUDY:
        return READERS
    if check.name.startswith(QUALIFIED_AT):
        return f"{QUALIFIED}{check.name.removeprefix(QUALIFIED_AT)}"
    return ""
