"""The stage between target and input: y = H(x) + n, drawn once and cached in the store."""

from __future__ import annotations

import hashlib
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
    requested = [(key, number) for key, count in realisations.items() for number in range(count)]
    made = 0
    for done, (key, number) in enumerate(requested, start=1):
        digest = degradation_digest(config, number)
        if not store.degraded_path(key, digest).exists():
            generator = noise_generator(config.train.seed, key, number)
            store.save_degraded(key, digest, degradation(store.load(key), generator))
            made += 1
        progress(done, len(requested))
    return made


def noise_generator(seed: int, key: str, number: int) -> np.random.Generator:
    """The random numbers of one draw of a series: of the run's seed, its key in the store and the
    draw's number alone. Never of pixels, whose last bits differ between processors."""
    series = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    return np.random.default_rng((seed, number, series))


def _require_real_inputs(store: Store, keys: list[str]) -> None:
    lacking = [key for key in keys if not store.degraded_path(key, REAL).exists()]
    if lacking:
        raise ConfigError(
            f"data.pairs: {len(lacking)} of {len(keys)} series in the store {store.path}, such as "
            f"{lacking[0]}, have no low-dose partner; ingest with `--pairs` into a store of its own"
        )
