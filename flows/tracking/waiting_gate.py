"""A gate that waits for what comes after registration: readers, or a hospital's qualification."""

from __future__ import annotations

from flows.tracking.registry import Registry
from flows.tracking.versions import waits_for


def settle_gate(registry: Registry, reference: str) -> None:
    """Judge a waiting version again, and give it its alias where everything has passed now."""
    version, client = registry.find(reference), registry.client
    recorded = registry.recorded(version)
    if not any(map(waits_for, recorded.verdict.checks)):
        return
    passed = recorded.verdict_by(version.tags).passed
    client.set_model_version_tag(
        version.name, version.version, "gate", "passed" if passed else "failed"
    )
    registry.give_alias(client, version, passed=passed and not version.aliases)
