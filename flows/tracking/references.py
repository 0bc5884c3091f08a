"""How a model is named, and what a name leads to: asks MLflow only for what is in a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.tracking.versions import Reference
from pipeline.config.shipped import PRETRAINED, find_pretrained

if TYPE_CHECKING:
    from pipeline.models.adapters.card import LoadedModel


def load_named(text: str) -> LoadedModel:
    """A model ready to take HU, by NAME, NAME@alias or NAME/VERSION.

    NAME@pretrained is the one that comes with the software: no registry is made or asked.
    """
    reference = Reference.parse(text)
    if reference.alias == PRETRAINED:
        from pipeline.models.adapters.pretrained import load_pretrained

        return load_pretrained(reference.name)
    from flows.tracking.registry import Registry

    return Registry.default().load(text)


def require_model(text: str) -> None:
    """Raises ConfigError where there is no such model, without loading it."""
    reference = Reference.parse(text)
    if reference.alias == PRETRAINED:
        find_pretrained(reference.name)
        return
    from flows.tracking.registry import Registry

    Registry.default().find(text)
