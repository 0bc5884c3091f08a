"""TODO."""

from __future__ import annotations

from pipeline.config.run import RunConfig, digest
from pipeline.store.store import REAL


def degradation_digest(config: RunConfig, realisation: int) -> str:
    """Names a cached input: what was done, and which draw of the noise; or that it is real."""
    if config.degradation is None:
        return REAL
    return digest([config.degradation.model_dump(), config.train.seed, realisation])
