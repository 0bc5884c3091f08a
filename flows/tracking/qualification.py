"""A hospital's qualification of a model, written to the model version that it is about."""

from __future__ import annotations

import json

from flows.tracking.registry import Registry
from flows.tracking.versions import DIGEST, QUALIFIED
from flows.tracking.waiting_gate import settle_gate
from pipeline.core.types import Json
from pipeline.evaluation.qualification import Qualification

#: In the version's run; {} is the site.
ARTIFACT = "qualification-{}.json"


def record_qualification(registry: Registry, reference: str, found: Qualification) -> Json:
    """Keep it with a version: whole in its run, its outcome and digest as tags.

    Where the version's gate waits for this site's qualification alone, it passes now and gets its
    alias.
    """
    version, client = registry.find(reference), registry.client
    client.log_text(version.run_id, json.dumps(found.to_dict()), ARTIFACT.format(found.site))
    outcome = "passed" if found.passed else "failed"
    for tag, value in (("", outcome), (DIGEST, found.digest)):
        client.set_model_version_tag(
            version.name, version.version, f"{QUALIFIED}{found.site}{tag}", value
        )
    settle_gate(registry, f"{version.name}/{version.version}")
    return {"name": version.name, "version": int(version.version), "qualified": outcome}
