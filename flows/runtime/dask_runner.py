"""Several series at once: Prefect's tasks on a Dask cluster, on this computer or on several.

Dask unpickles what it receives: anyone who can connect to its scheduler or workers can run code on
them, and to loopback every user of the computer can. So connections are by TLS with certificates
that both sides check: on this computer those that are made for the run and kept in memory.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from prefect.task_runners import TaskRunner

from pipeline.config.connection import LOOPBACK
from pipeline.core.errors import ConfigError


def dask_runner(spread: str) -> TaskRunner:
    """The runner for a number of processes here, such as `4`, or for a scheduler's address.

    Raises ConfigError for an address without TLS beyond this computer, and where Dask is missing.

    Certificates are where Dask's own configuration says (DASK_DISTRIBUTED__COMM__TLS__*).
    """
    count = int(spread) if spread.isdigit() else 0
    address = urlsplit(spread)
    on_loopback = address.scheme == "tcp" and address.hostname in LOOPBACK
    if not count and not (address.scheme == "tls" or on_loopback):
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
    local: dict[str, Any] = {"host": "127.0.0.1", "dashboard_address": None, "security": True}
    return DaskTaskRunner(cluster_kwargs=cluster | local)
