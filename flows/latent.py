"""What `ldct latent` runs: a registered model, a view of its codes, files."""

from __future__ import annotations

from pathlib import Path

from flows.runtime.progress import StageProgress
from flows.tracking.references import load_named
from pipeline.config.task_runs import GenerateRun
from pipeline.core.errors import ConfigError
from pipeline.core.types import Json
from pipeline.models.adapters.card import ModelCard
from pipeline.models.adapters.generative import Generative
from pipeline.report.latent_views import (
    LatentRequest,
    plot_codes,
    view,
    write_view,
)
from pipeline.store.store import Store


def show_latents(
    name: str,
    reference: str,
    out: Path,
    asked: Json,
    *,
    store: Path | None,
    dicom: bool,
    nifti: bool,
) -> Json:
    """{"model", "files"}; asked: fields of pipeline.report.latent_views.LatentRequest."""
    wanted = LatentRequest(**asked)
    model, card, config = load_generator(reference)
    opened = None if store is None else Store.existing(store)
    with StageProgress(name):
        grid = view(name, model, config, opened, wanted)
        made_by = f"{card.name} v{card.version} sha256:{card.weights_sha256[:16]}"
        paths = write_view(
            grid, name, out, config, made_by=made_by, seed=wanted.seed, dicom=dicom, nifti=nifti
        )
    return {"model": card.uri, "files": [str(path) for path in paths]}


def plot_latents(reference: str, store: Path, out: Path) -> Json:
    """{"model", "files"}"""
    model, card, config = load_generator(reference)
    path = out / "plot.png"
    with StageProgress("plot"):
        plot_codes(model, config, Store.existing(store), path)
    return {"model": card.uri, "files": [str(path)]}


def load_generator(reference: str) -> tuple[Generative, ModelCard, GenerateRun]:
    """Raises ConfigError for a model of another task."""
    loaded = load_named(reference)
    model, config = loaded.model, loaded.config
    if not isinstance(model, Generative) or not isinstance(config, GenerateRun):
        raise ConfigError(f"{reference} is for the task {config.task}: it has no space of codes")
    return model, loaded.card, config
