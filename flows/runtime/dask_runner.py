"""Series side by side: Prefect's tasks on a Dask cluster, on this computer or on several.

What Dask sends it unpickles, so whoever reaches its scheduler or its workers runs what they like:
it is loopback, or TLS with certificates that both sides check.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from prefect.task_runners import TaskRunner

from pipeline.core.errors import ConfigError
from pipeline.pacs.hospital_config import LOOPBACK


def dask_runner(spread: str) -> TaskRunner:
    """`4` for as many processes here, or a scheduler's address: ConfigError for one in the clear.

    Certificates are where Dask's own configuration says (DASK_DISTRIBUTED__COMM__TLS__*).
    """
    count = int(spread) if spread.isdigit() else 0
    place = urlsplit(spread)
    in_the_clear = place.scheme == "tcp" and place.hostname in LOOPBACK
    if not count and not (place.scheme == "tls" or in_the_clear):
        raise ConfigError(
            f"--spread {spread}: write a number of processes, or tls://HOST:PORT of a scheduler "
            "(tcp only on this computer)"
        )
    try:
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise ConfigError("--spread: pip install 'ldct[scale]' brings Dask") from error
    if not count:
        return DaskTaskRunner(address=spread)
    cluster: dict[str, Any] = {"n_workers": count, "threads_per_worker": 1}
    alone: dict[str, Any] = {"host": "127.0.0.1", "dashboard_address": None}
    return DaskTaskRunner(cluster_kwargs=cluster | alone)
