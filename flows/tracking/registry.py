"""The registry is the contract: MLflow holds every model version, with what it takes to trust it.

A version carries its configuration, weights (safetensors, no pickle), data digest, figures per
patient and the gate's verdict; its figures over all patients are metrics that versions are ranked
by. Aliases say which one is in use.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from flows.tracking.abandoned_runs import TAG as PROCESS
from flows.tracking.abandoned_runs import ProcessMark, end_abandoned
from flows.tracking.all_pages import all_pages, metrics_of
from flows.tracking.datasets import SideOfRun, tags_of_run
from flows.tracking.mlflow_run import TrackedRun, log_report
from flows.tracking.model_files import config_of, download, model_id_of, recorded, seen_in
from flows.tracking.versions import Recorded, Reference, VersionDetails, VersionRow, card_of
from pipeline.core.atomic_files import locked
from pipeline.core.errors import ConfigError
from pipeline.core.versions import versions
from pipeline.store.published_splits import TRAIN

if TYPE_CHECKING:  # which takes a second to import
    from pipeline.config.run import RunConfig
    from pipeline.models.adapters.card import LoadedModel

CHAMPION = "champion"
CHALLENGER = "challenger"
SQLITE = "sqlite:///"


@dataclass(frozen=True)
class Registry:
    """MLflow's tracking and registry at `uri`; artifacts of a local store go to `artifacts`."""

    uri: str
    artifacts: str | None

    @classmethod
    def default(cls) -> Registry:
        """MLFLOW_TRACKING_URI where set, else ./mlruns/mlflow.db.

        Artifacts lie beside an SQLite file; a server keeps its own.
        """
        local = f"{SQLITE}{Path('mlruns').absolute()}/mlflow.db"
        uri = os.environ.get("MLFLOW_TRACKING_URI") or local
        if not uri.startswith(SQLITE):
            return cls(uri, None)
        artifacts = Path(uri.removeprefix(SQLITE)).absolute().parent / "artifacts"
        try:
            artifacts.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot use the registry {uri}: {error.strerror}") from error
        return cls(uri, artifacts.as_uri())

    @property
    def location(self) -> tuple[str, str]:
        """Where it is, and how to look at it; no user or password of a server or database."""
        if self.uri.startswith(SQLITE):
            return self.uri.removeprefix(SQLITE), f"mlflow ui --backend-store-uri {self.uri}"
        place = urlsplit(self.uri)
        where = place._replace(netloc=place.netloc.rpartition("@")[2], query="").geturl()
        return where, "open it in a browser" if place.scheme.startswith("http") else ""

    @property
    def client(self) -> mlflow.MlflowClient:
        """MLflow's client for this registry."""
        mlflow.set_tracking_uri(self.uri)
        _make_tables(self.uri)
        return mlflow.MlflowClient(self.uri)

    @contextmanager
    def run(
        self, config: RunConfig, *, data_digest: str, sides: Mapping[str, SideOfRun] | None = None
    ) -> Iterator[TrackedRun]:
        """An MLflow run for a training, on the data of `sides`; marked failed where its body
        raises."""
        client = self.client
        experiment_id = self._experiment(config.name)
        end_abandoned(client)
        sides = sides or {}
        tags = {**tags_of_run(config, sides.get(TRAIN)), "data_digest": data_digest, **versions()}
        tags[PROCESS] = str(ProcessMark.here() or "")
        # The date first: of a list of runs MLflow's UI shows 20 characters.
        name = f"{datetime.now():%Y-%m-%d %H:%M} {config.name}"
        run = client.create_run(experiment_id, tags=tags, run_name=name)
        tracked = TrackedRun(client, run.info.run_id, sides)
        try:
            tracked.log_config(config)
            tracked.log_data()
            yield tracked
        except BaseException:
            client.set_terminated(tracked.run_id, "FAILED")
            raise
        client.set_terminated(tracked.run_id)

    def _experiment(self, name: str) -> str:
        """The ID of the experiment, which is made where there is none."""
        client = self.client
        with made_by_another():
            if client.get_experiment_by_name(name) is None:
                client.create_experiment(name, artifact_location=self.artifacts)
        return str(client.get_experiment_by_name(name).experiment_id)

    def log_figures(self, reference: str, metrics: Mapping[str, float]) -> None:
        """Figures of a version that were measured after it was registered."""
        version, client = self.find(reference), self.client
        known = client.get_run(version.run_id).data.metrics
        found = {name: value for name, value in metrics.items() if name not in known}
        TrackedRun(client, version.run_id).log_test(found, model_id_of(version))

    def log_report(self, reference: str, run_id: str, page: Path) -> None:
        """A run's page with its run and, where that was another, the run that made the version."""
        made = self.find(reference).run_id
        log_report(self.client, dict.fromkeys((run_id, made)), page)

    def give_alias(
        self, client: mlflow.MlflowClient, version: ModelVersion, *, passed: bool
    ) -> None:
        """The first version that passes becomes the champion, later ones the challenger."""
        if not passed:
            return
        name, aliases = version.name, client.get_registered_model(version.name).aliases
        if CHAMPION not in aliases:
            # Of versions that were made at once each maker must find the same one the first.
            made = client.search_model_versions(f"name='{name}' and tags.gate='passed'")
            first = min((int(row.version) for row in made), default=int(version.version))
            self._make_champion(client, name, str(first))
            if first == int(version.version):
                return
        client.set_registered_model_alias(name, CHALLENGER, version.version)

    @staticmethod
    def _make_champion(client: mlflow.MlflowClient, name: str, version: str) -> None:
        """Another process may do the same at the same time: then it is done."""
        try:
            client.set_registered_model_alias(name, CHAMPION, version)
        except MlflowException:
            if client.get_registered_model(name).aliases.get(CHAMPION) != version:
                raise

    def find(self, reference: str) -> ModelVersion:
        """NAME (its champion), NAME@alias, NAME/VERSION or models:/...; else ConfigError."""
        named = Reference.parse(reference)
        name = named.name
        self.require(name)
        try:
            if named.version:
                return self.client.get_model_version(name, named.version)
            return self.client.get_model_version_by_alias(name, named.alias or CHAMPION)
        except MlflowException as error:
            raise ConfigError(
                f"there is no {reference}: the model has no such version or alias "
                f"(see `ldct models show {name}`)"
            ) from error

    def require(self, name: str) -> None:
        """Raises ConfigError, naming the models there are, where `name` is none of them."""
        client = self.client
        try:
            client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            known = [model.name for model in all_pages(client.search_registered_models)]
            raise ConfigError(
                f"there is no model {name}; registered are: {', '.join(known) or 'none'}"
            ) from error

    def load(self, reference: str) -> LoadedModel:
        """A registered version ready to take HU."""
        from pipeline.models.adapters.card import LoadedModel
        from pipeline.models.adapters.weights import load_model

        version = self.find(reference)
        folder = download(version)
        gate = recorded(version).verdict_by(version.tags) if version.tags.get("gate") else None
        card = replace(card_of(version), seen=seen_in(folder), gate=gate)
        model, config = load_model(
            folder, weights_sha256=card.weights_sha256, config_digest=card.config_digest
        )
        return LoadedModel.of(model, card, config)

    def show(self, name: str) -> list[VersionDetails]:
        """Every version of a model, newest first, with configuration and figures."""
        self.require(name)
        search = functools.partial(self.client.search_model_versions, f"name='{name}'")
        found = all_pages(search)
        rows = []
        for row in sorted(found, key=lambda v: -int(v.version)):
            version = self.client.get_model_version(name, row.version)
            details = VersionDetails(self._row(version), recorded(version), config_of(version))
            rows.append(details)
        return rows

    def recorded(self, version: ModelVersion) -> Recorded:
        """The figures and the gate's verdict of a version as they were registered."""
        mlflow.set_tracking_uri(self.uri)
        return recorded(version)

    def list(self, *, metrics: Sequence[str] | None = None) -> list[VersionRow]:
        """A row for each version of each model, in a number of queries that does not depend on how
        many there are. metrics: of the runs those of these names alone; None for all, which take
        most of the time."""
        client = self.client
        aliases: dict[tuple[str, str], list[str]] = {}
        order: dict[str, int] = {}
        for model in all_pages(client.search_registered_models):
            order[model.name] = len(order)
            for alias, version in model.aliases.items():
                aliases.setdefault((model.name, str(version)), []).append(alias)
        every = all_pages(client.search_model_versions)
        found = [version for version in every if version.name in order]
        found.sort(key=lambda version: order[version.name])  # within a model as MLflow has them
        measured: dict[str, dict[str, float]] = {}
        if metrics is None or metrics:
            measured = metrics_of([version.run_id for version in found], client, metrics)
        return [
            VersionRow.of(
                version,
                measured.get(version.run_id, {}),
                sorted(aliases.get((version.name, str(version.version)), [])),
            )
            for version in found
        ]

    def _row(self, version: ModelVersion) -> VersionRow:
        """With the metrics of its run; none where that was deleted for good."""
        try:
            metrics = self.client.get_run(version.run_id).data.metrics
        except MlflowException:
            metrics = {}
        return VersionRow.of(version, metrics)


@functools.cache
def _make_tables(uri: str) -> None:
    """Have MLflow make the tables of a new SQLite registry, one process at a time: two that do it
    at once fail."""
    if not uri.startswith(SQLITE):
        return
    with locked(Path(uri.removeprefix(SQLITE)).absolute().parent):
        client = mlflow.MlflowClient(uri)
        client.search_experiments(max_results=1)
        client.search_registered_models(max_results=1)


@contextmanager
def made_by_another() -> Iterator[None]:
    """Two processes may ask at once whether something is there, and both make it."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
