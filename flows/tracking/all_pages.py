"""What MLflow gives in pages, whole, and the figures of many runs in few queries.

A page has 100 models or 10,000 versions by default, and whatever is beyond it would be missing.
"""

from __future__ import annotations

from collections.abc import Callable
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


def metrics_of(run_ids: list[str], client: MlflowClient) -> dict[str, dict[str, float]]:
    """The metrics of each run, deleted ones too; one that was deleted for good is not among
    them."""
    experiments = all_pages(
        lambda page_token: client.search_experiments(ViewType.ALL, page_token=page_token)
    )
    places = [experiment.experiment_id for experiment in experiments]
    asked = list(dict.fromkeys(run_ids))
    found = {}
    for start in range(0, len(asked), _RUNS_AT_ONCE):
        quoted = ", ".join(
            f"'{run_id}'" for run_id in asked[start : start + _RUNS_AT_ONCE] if run_id
        )
        if not quoted:
            continue
        runs = client.search_runs(
            places, f"attributes.run_id IN ({quoted})", ViewType.ALL, max_results=_RUNS_AT_ONCE
        )
        found.update({run.info.run_id: dict(run.data.metrics) for run in runs})
    return found
