"""The stage between target and input: y = H(x) + n, drawn once and cached in the store."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.config.component import build
from pipeline.config.run import RunConfig
from pipeline.core.errors import ConfigError
from pipeline.degradations.digest import degradation_digest
from pipeline.store.store import REAL, Store


def degrade_store(
    store: Store,
    realisations: dict[str, int],
    config: RunConfig,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Cache each series' inputs, so that training never waits for physics.

    realisations: how many draws of the noise each series key needs. Each draw depends on the
    run's seed, the series and its number alone. Returns how many had to be made: none of real
    pairs, whose inputs are ingested. Raises ConfigError where a series has no real input.
    """
    if config.degradation is None:
        _require_real_inputs(store, list(realisations))
        return 0
    degradation = build(config.degradation, key="degradation", base=object)
    wanted = [(key, number) for key, count in realisations.items() for number in range(count)]
    made = 0
    for done, (key, number) in enumerate(wanted, start=1):
        digest = degradation_digest(config, number)
        if not store.degraded_path(key, digest).exists():
            generator = np.random.default_rng(
                (config.train.seed, number, int(store.record(key)["digest"][:16], 16))
            )
            store.save_degraded(key, digest, degradation(store.load(key), generator))
            made += 1
        progress(done, len(wanted))
    return made


def _require_real_inputs(store: Store, keys: list[str]) -> None:
    lacking = [key for key in keys if not store.degraded_path(key, REAL).exists()]
    if lacking:
        raise ConfigError(
            f"data.pairs: {len(lacking)} of {len(keys)} series in the store {store.path}, such as "
            f"{lacking[0]}, have no low-dose partner; ingest with `--pairs` into a store of its own"
        )
