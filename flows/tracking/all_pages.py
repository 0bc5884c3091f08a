"""What MLflow gives in pages, whole, and the figures of many runs in few queries.

A page has 100 models or 10,000 versions by default, and whatever is beyond it would be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import ViewType

#: Runs in one query by their ids: a filter is text, which databases take so much of.
_RUNS_AT_ONCE = 200


def all_pages(search: Callable[..., Any]) -> list[Any]:
    """Everything that one of the client's searches finds. search: called with `page_token`."""
    found: list[Any] = []
    token: str | None = None
    while True:
        page = search(page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def metrics_of(
    run_ids: Sequence[str], client: MlflowClient, names: Sequence[str] | None = None
) -> dict[str, dict[str, float]]:
    """The metrics of each run, deleted ones too; one that was deleted for good is not among
    them. names: those metrics alone, which MLflow's client cannot ask for: it loads each run with
    all its metrics, parameters and tags. A database is asked by MLflow's own model of it."""
    store: Any = getattr(getattr(client, "_tracking_client", None), "store", None)
    if names is None or not hasattr(store, "ManagedSessionMaker"):
        return _metrics_of_whole_runs(run_ids, client)
    from mlflow.store.tracking.dbmodels.models import SqlLatestMetric as Latest

    found: dict[str, dict[str, float]] = {}
    with store.ManagedSessionMaker() as session:
        asked = session.query(Latest.run_uuid, Latest.key, Latest.value, Latest.is_nan)
        for ids in _parts(run_ids):
            chosen = asked.filter(Latest.key.in_(names), Latest.run_uuid.in_(ids))
            for run_id, name, value, is_nan in chosen:
                found.setdefault(run_id, {})[name] = float("nan") if is_nan else value
    return found


def _parts(run_ids: Sequence[str]) -> list[list[str]]:
    """Each run once, so many of them at a time that a query takes them."""
    asked = [run_id for run_id in dict.fromkeys(run_ids) if run_id]
    return [asked[start : start + _RUNS_AT_ONCE] for start in range(0, len(asked), _RUNS_AT_ONCE)]


def _metrics_of_whole_runs(
    run_ids: Sequence[str], client: MlflowClient
) -> dict[str, dict[str, float]]:
    experiments = all_pages(
        lambda page_token: client.search_experiments(ViewType.ALL, page_token=page_token)
    )
    places = [experiment.experiment_id for experiment in experiments]
    found = {}
    for ids in _parts(run_ids):
        quoted = ", ".join(f"'{run_id}'" for run_id in ids)
        runs = client.search_runs(
            places, f"attributes.run_id IN ({quoted})", ViewType.ALL, max_results=_RUNS_AT_ONCE
        )
        found.update({run.info.run_id: dict(run.data.metrics) for run in runs})
    return found
