"""The name of a cached input, under which it is found again and never taken for another."""

from __future__ import annotations

from pipeline.config.names import digest
from pipeline.config.run import RunConfig
from pipeline.store.store import REAL

#: One more whenever the same seed, series and number come to draw other noise: inputs that an
#: earlier version cached are then drawn again, not mixed with new ones. 1: seeded by the pixels'
#: digest. 2: by the series' key; starved rays take as many random numbers as others.
DRAWS_VERSION = 2


def degradation_digest(config: RunConfig, realisation: int) -> str:
    """Names a cached input: what was done, and which draw of the noise; or that it is real."""
    if config.degradation is None:
        return REAL
    return digest([DRAWS_VERSION, config.degradation.model_dump(), config.train.seed, realisation])
