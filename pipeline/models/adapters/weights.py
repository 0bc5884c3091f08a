"""A model on disk: its complete configuration and its weights, without pickle."""

from __future__ import annotations

import hashlib
from pathlib import Path

import yaml
from safetensors.torch import load_file, save_file

from pipeline.config.load import parse_config
from pipeline.config.names import digest
from pipeline.config.run import RunConfig
from pipeline.core.device import choose_device
from pipeline.core.errors import ConfigError, LdctError
from pipeline.models.adapters.base import ModelAdapter, build_model, place
from pipeline.models.adapters.card import CONFIG

WEIGHTS = "weights.safetensors"


def save_model(model: ModelAdapter, config: dict, folder: Path) -> str:
    """Write config.yaml and weights.safetensors; returns the weights' SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    return file_sha256(folder / WEIGHTS)


def load_model(
    folder: Path, *, weights_sha256: str, config_digest: str
) -> tuple[ModelAdapter, RunConfig]:
    """Rebuild the model of a folder, where to compute (pipeline.core.device), in eval mode;
    and its run.

    Raises LdctError where weights or configuration are not the ones that were registered: another
    normalisation would shift HU as surely as other weights.
    """
    found = file_sha256(folder / WEIGHTS)
    if found != weights_sha256:
        raise LdctError(
            f"{folder / WEIGHTS} has SHA-256 {found[:16]}..., registered was "
            f"{weights_sha256[:16]}...: the file was changed or damaged"
        )
    raw = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    if (found := digest(raw)) != config_digest:
        raise LdctError(
            f"{folder / CONFIG} has the digest {found[:16]}..., registered was "
            f"{config_digest[:16]}...: the file was changed or damaged"
        )
    config = parse_config(raw, source=str(folder / CONFIG))
    model = build_model(config)
    model.load_state_dict(load_file(folder / WEIGHTS))
    return place(model, choose_device(), channels_last=True).eval(), config


def load_weights(model: ModelAdapter, folder: Path) -> None:
    """The weights of a saved model into one just built; ConfigError where they do not fit."""
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"train.start_from: {folder / WEIGHTS}: {reason}") from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
