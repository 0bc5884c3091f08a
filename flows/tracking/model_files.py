"""The files of a registered version: one MLflow model with the only copy of the weights.

They are what `ldct` loads and what `mlflow.pyfunc.load_model` loads: safetensors and YAML, no
pickle. Versions from before have them in their run, and a traced copy (pt2) that is not read.
"""

from __future__ import annotations

import atexit
import functools
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import yaml
from mlflow.entities import LoggedModelOutput
from mlflow.entities.model_registry import ModelVersion

from flows.tracking.mlflow_run import TrackedRun
from flows.tracking.versions import Recorded
from pipeline.core.atomic_files import write_json
from pipeline.core.leftovers import scratch_folder
from pipeline.core.types import Json
from pipeline.core.verdicts import Verdict
from pipeline.core.versions import SOFTWARE, versions

if TYPE_CHECKING:  # which takes a second to import
    from pipeline.config.run import RunConfig

#: The folder of our files, in the MLflow model or, of versions from before, in the run.
FOLDER = "ldct"
FIGURES, SEEN = "figures.json", "seen.json"
#: On a version: where in its MLflow model that folder is; versions from before have no such tag.
FILES = "files"
#: What MLflow imports to load a model; written into every one.
LOADER = "pipeline.inference.predictor"


def write_files(
    folder: Path, *, digests: dict[str, str], recorded: Recorded, seen: Json | None
) -> None:
    """Beside configuration and weights: what they must be, the figures, and what was seen."""
    from pipeline.models.adapters.card import DIGESTS

    write_json(folder / DIGESTS, digests)
    write_json(folder / FIGURES, recorded.to_dict())
    if seen is not None:
        write_json(folder / SEEN, seen)


def log_model(run: TrackedRun, folder: Path, name: str, metadata: Json) -> str:
    """Store a folder as an MLflow model of a run, loaded by pyfunc; returns its ID."""
    import mlflow.pyfunc
    from mlflow.models import Model

    client = run.client
    experiment_id = client.get_run(run.run_id).info.experiment_id
    made = client.create_logged_model(
        experiment_id, name=name, source_run_id=run.run_id, model_type=metadata["task"]
    )
    with scratch_folder() as scratch:
        mlflow.pyfunc.save_model(
            str(scratch / "model"),
            loader_module=LOADER,
            data_path=str(folder),
            mlflow_model=Model(model_id=made.model_id, run_id=run.run_id),
            metadata=metadata,
            pip_requirements=_requirements(),
        )
        client.log_model_artifacts(made.model_id, str(scratch / "model"))
    client.finalize_logged_model(made.model_id, "READY")
    client.log_outputs(run.run_id, [LoggedModelOutput(made.model_id, step=0)])
    return made.model_id


def model_id_of(version: ModelVersion) -> str | None:
    """Of the MLflow model that a version is; None for one from before."""
    return version.source.removeprefix("models:/") if FILES in version.tags else None


def download(version: ModelVersion, name: str = "") -> Path:
    """A version's folder, or one file of it, on this computer."""
    place = f"models:/{version.name}/{version.version}" if FILES in version.tags else ""
    place = f"{place or f'runs:/{version.run_id}'}/{version.tags.get(FILES, FOLDER)}"
    uri = f"{place}/{name}" if name else place
    # MLflow copies a run's files, and those of a server, and its temporary folders outlast the
    # process.
    copies = uri.startswith("runs:") or mlflow.get_tracking_uri().startswith("http")
    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=_fetched() if copies else None))


def _fetched() -> str:
    """A new temporary folder for what is fetched from a server; it goes with this process, or
    where that is killed by a later one's sweep."""
    return tempfile.mkdtemp(dir=_scratch_of_process())


@functools.cache
def _scratch_of_process() -> Path:
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(scratch_folder())


def recorded(version: ModelVersion) -> Recorded:
    """The figures and the gate's verdict of a version as they were registered."""
    found = json.loads(download(version, FIGURES).read_text(encoding="utf-8"))
    return Recorded(found["figures"], Verdict.from_dict(found["gate"]))


def config_of(version: ModelVersion) -> RunConfig:
    """The configuration of a version."""
    from pipeline.config.load import parse_config
    from pipeline.models.adapters.card import CONFIG

    path = download(version, CONFIG)
    return parse_config(yaml.safe_load(path.read_text(encoding="utf-8")), source=str(path))


def seen_in(folder: Path) -> Json | None:
    """What the training of a downloaded version saw; versions from before do not say it."""
    path = folder / SEEN
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _requirements() -> list[str]:
    """This software and torch; given, since MLflow's own search for them takes 20 s."""
    found = {name: versions()[name].partition("+")[0] for name in (SOFTWARE, "torch")}
    return [f"{name}=={number}" for name, number in found.items() if number != "0"]
