"""The registry is the contract: MLflow holds every model version, with what it takes to trust it.

A version carries its configuration, weights (safetensors and MLflow's own pt2, no pickle),
data digest, figures per patient and the gate's verdict. Aliases say which one is in use.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import mlflow
import yaml
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from flows.tracking.abandoned_runs import TAG as PROCESS
from flows.tracking.abandoned_runs import ProcessMark, end_abandoned
from flows.tracking.mlflow_run import TrackedRun, log_portable
from flows.tracking.versions import Recorded, Reference, VersionDetails, VersionRow
from pipeline.config.load import parse_config
from pipeline.config.names import digest
from pipeline.config.run import RunConfig
from pipeline.core.atomic_files import locked, write_json
from pipeline.core.errors import ConfigError
from pipeline.core.json_numbers import JsonRecord
from pipeline.core.leftovers import scratch_folder
from pipeline.core.types import Json
from pipeline.core.verdicts import Verdict
from pipeline.core.versions import versions
from pipeline.models.adapters.card import CONFIG, LoadedModel, ModelCard

if TYPE_CHECKING:
    from pipeline.models.adapters.base import ModelAdapter

CHAMPION = "champion"
CHALLENGER = "challenger"
CARD = "ldct"
FIGURES, SEEN = "figures.json", "seen.json"
SQLITE = "sqlite:///"
#: On a version: which training made it, by a name drawn for its folder.
TRAINING = "training"
#: Tags of a version: with a site's name, the outcome of its qualification; and with DIGEST, which.
QUALIFIED, DIGEST = "qualified.", ".digest"


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
    def run(self, config: RunConfig, *, data_digest: str) -> Iterator[TrackedRun]:
        """An MLflow run for a training; marked failed where its body raises."""
        client = self.client
        with _made_by_another():
            if client.get_experiment_by_name(config.name) is None:
                client.create_experiment(config.name, artifact_location=self.artifacts)
        experiment_id = client.get_experiment_by_name(config.name).experiment_id
        end_abandoned(client)
        tags = {"task": config.task, "data_digest": data_digest, **versions()}
        tags[PROCESS] = str(ProcessMark.here() or "")
        run = client.create_run(experiment_id, tags=tags, run_name=config.name)
        tracked = TrackedRun(client, run.info.run_id)
        tracked.log_config(config)
        try:
            yield tracked
        except BaseException:
            client.set_terminated(tracked.run_id, "FAILED")
            raise
        client.set_terminated(tracked.run_id)

    def register(
        self,
        model: ModelAdapter,
        run: TrackedRun,
        config: RunConfig,
        *,
        data_digest: str,
        figures: JsonRecord,
        verdict: Verdict,
        seen: Json | None = None,
        training: str = "",
    ) -> ModelCard:
        """Make a new version; the first that passes its gate becomes the champion.

        seen: what its training saw (pipeline.inference.traits). training: which one it was; a
        version with the weights that the same one ended with, as a run leaves that was killed
        after it registered, is taken in place of a new one.
        """
        from pipeline.models.adapters.weights import save_model  # torch and all stages: a
        from pipeline.tasks.base import task_of  # look-up needs neither

        client = self.client
        name = config.register_.name
        with scratch_folder() as scratch:
            folder = scratch / CARD
            weights_sha256 = save_model(model, config.resolved(), folder)
            write_json(folder / FIGURES, Recorded(figures.to_dict(), verdict).to_dict())
            if seen is not None:
                write_json(folder / SEEN, seen)
            made = (training, weights_sha256, digest(config.resolved()))
            if known := self._registered(name, made):
                client.set_tag(run.run_id, "version", known.version)
                if not known.aliases:
                    self.give_alias(client, known, passed=verdict.passed)
                return _card(known)
            client.log_artifacts(run.run_id, str(scratch))
        logged = log_portable(model, run.run_id)
        tags = {
            "weights_sha256": weights_sha256,
            "config_digest": digest(config.resolved()),
            "data_digest": data_digest,
            "parameters": str(sum(p.numel() for p in model.network.parameters())),
            "strength": str(model.strength),
            "gate": "passed" if verdict.passed else "failed",
            "headline": json.dumps(task_of(config).headline(figures)),
            TRAINING: training,
        }
        with _made_by_another():
            if not client.search_registered_models(filter_string=f"name='{name}'"):
                client.create_registered_model(name)
        version = client.create_model_version(
            name, logged.model_uri, run_id=run.run_id, tags=tags, model_id=logged.model_id
        )
        self.give_alias(client, version, passed=verdict.passed)
        return _card(version)

    def _registered(self, name: str, made: tuple[str, str, str]) -> ModelVersion | None:
        """The newest version of a model, where this training made it, with these weights and by
        this configuration (its digest)."""
        rows = self.client.search_model_versions(f"name='{name}'")
        newest = max(rows, key=lambda row: int(row.version), default=None)
        if newest is None or not made[0]:
            return None
        tags = (TRAINING, "weights_sha256", "config_digest")
        same = tuple(newest.tags.get(tag) for tag in tags) == made
        return self.client.get_model_version(name, newest.version) if same else None

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
        known = [model.name for model in self.client.search_registered_models()]
        if name not in known:
            raise ConfigError(
                f"there is no model {name}; registered are: {', '.join(known) or 'none'}"
            )

    def load(self, reference: str) -> LoadedModel:
        """A registered version ready to take HU."""
        from pipeline.models.adapters.weights import load_model

        version = self.find(reference)
        folder = self._download(version)
        card = replace(_card(version), seen=_seen(folder))
        model, config = load_model(
            folder, weights_sha256=card.weights_sha256, config_digest=card.config_digest
        )
        return LoadedModel.of(model, card, config)

    def show(self, name: str) -> list[VersionDetails]:
        """Every version of a model, newest first, with configuration and figures."""
        self.require(name)
        found = self.client.search_model_versions(f"name='{name}'")
        rows = []
        for row in sorted(found, key=lambda v: -int(v.version)):
            version = self.client.get_model_version(name, row.version)
            config = _config(self._download(version))
            rows.append(VersionDetails(_row(version), self.recorded(version), config))
        return rows

    def recorded(self, version: ModelVersion) -> Recorded:
        """The figures and the gate's verdict of a version as they were registered."""
        found = json.loads((self._download(version) / FIGURES).read_text(encoding="utf-8"))
        return Recorded(found["figures"], Verdict.from_dict(found["gate"]))

    def list(self) -> list[VersionRow]:
        """A row for each version of each model."""
        client = self.client
        return [
            _row(client.get_model_version(found.name, found.version))
            for model in client.search_registered_models()
            for found in client.search_model_versions(f"name='{model.name}'")
        ]

    def _download(self, version: ModelVersion) -> Path:
        mlflow.set_tracking_uri(self.uri)
        return Path(mlflow.artifacts.download_artifacts(f"runs:/{version.run_id}/{CARD}"))


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
def _made_by_another() -> Iterator[None]:
    """Two processes may ask at once whether something is there, and both make it."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _card(version: ModelVersion) -> ModelCard:
    tags = version.tags
    if "weights_sha256" not in tags:
        raise ConfigError(f"{version.name} version {version.version} was not registered by ldct")
    return ModelCard(
        name=version.name,
        version=int(version.version),
        weights_sha256=tags["weights_sha256"],
        config_digest=tags["config_digest"],
        data_digest=tags["data_digest"],
        parameters=int(tags["parameters"]),
        strength=float(tags.get("strength", 1)),  # versions of old have none
    )


def _row(version: ModelVersion) -> VersionRow:
    created = datetime.fromtimestamp(version.creation_timestamp / 1000, tz=UTC)
    tags = version.tags
    return VersionRow(
        name=version.name,
        version=int(version.version),
        aliases=list(version.aliases),
        created=created.isoformat(timespec="seconds"),
        gate=tags.get("gate", ""),
        strength=float(tags.get("strength", 1)),
        reader_study=tags.get("reader_study", ""),
        headline=json.loads(tags.get("headline", "{}")),
        data_digest=tags.get("data_digest", ""),
        config_digest=tags.get("config_digest", ""),
        weights_sha256=tags.get("weights_sha256", ""),
        qualified={
            name.removeprefix(QUALIFIED): outcome
            for name, outcome in tags.items()
            if name.startswith(QUALIFIED) and not name.endswith(DIGEST)
        },
    )


def _config(folder: Path) -> RunConfig:
    path = folder / CONFIG
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    return parse_config(raw, source=str(path))


def _seen(folder: Path) -> Json | None:
    path = folder / SEEN  # versions of old have none
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
