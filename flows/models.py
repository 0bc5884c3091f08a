"""The model that a reference names, of the registry or of those that come with the software."""

from __future__ import annotations

import re
from typing import Any

from pipeline.export import ModelCard
from pipeline.models.shell import Shell
from pipeline.pretrained import ALIAS as PRETRAINED
from pipeline.pretrained import load_pretrained

REFERENCE = re.compile(r"^(?:models:/)?(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[^/@]+))?$")


def load_model(reference: str) -> tuple[Shell, ModelCard, dict[str, Any]]:
    """A model ready to take HU, its card and its configuration.

    reference: models:/NAME/VERSION, NAME@ALIAS or NAME, as the registry takes it; NAME@pretrained
    is the one that comes with the software, in no registry. Raises ConfigError where there is none.
    """
    match = REFERENCE.match(reference)
    if match and match["alias"] == PRETRAINED:
        return load_pretrained(match["name"])
    from flows.registry import Registry  # MLflow: 2 s, for whoever asks it

    return Registry.default().load(reference)
