"""The checkpoints of an nnU-Net v2 results folder: weights, and how the training was set up.

They are read with weights_only. Beside its weights a checkpoint has numbers of its training's
progress, as numpy's scalars: in place of numpy's functions that make them, stand-ins are called
that keep nothing, so that of the file only tensors, numbers, words and lists come into being.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.core.errors import ConfigError
from pipeline.models.adapters.foreign_weights import State, only_tensors, require_size
from pipeline.models.adapters.weights import file_sha256

FINAL = "checkpoint_final.pth"
WEIGHTS = "network_weights"
#: By which pickles name numpy's scalars, in numpy 1 and 2.
SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
#: A second name of the same weights, in every layer and of the encoder.
SECOND_NAME, SECOND_ENCODER = ".all_modules.", "decoder.encoder."
#: What torch.compile and nn.DataParallel put before every name.
PREFIXES = ("_orig_mod.", "module.")


@dataclass(frozen=True)
class Checkpoints:
    """Of all folds: weights by the names of pipeline.models.nnunet.NnUNet, and what they share.

    mirrored: of the network's axes, those along which its training mirrored images.
    """

    state: State
    folds: tuple[str, ...]
    configuration: str
    trainer: str
    mirrored: tuple[int, ...]
    sha256: str


def read_checkpoints(folder: Path) -> Checkpoints:
    """The final checkpoints of all folds in a results folder: fold_0, fold_1, ..., or fold_all
    where there is no other.

    Raises ConfigError where there is none, where one holds more than weights and numbers, and where
    folds are of different trainings.
    """
    paths = [path for path in sorted(folder.glob("fold_*")) if (path / FINAL).is_file()]
    paths = [path for path in paths if path.name != "fold_all"] or paths
    if not paths:
        raise ConfigError(f"{folder} has no fold_*/{FINAL}: the training of no fold is complete")
    state: State = {}
    settings: tuple[str, str, tuple[int, ...]] | None = None
    for number, path in enumerate(paths):
        found = _loaded(path / FINAL)
        own = _settings(found, path / FINAL)
        if settings is not None and own != settings:
            raise ConfigError(f"{path / FINAL} is of another training than {paths[0] / FINAL}")
        settings = own
        tensors = only_tensors(found.get(WEIGHTS), path / FINAL)
        state |= {f"members.{number}.{k}": v for k, v in _own_names(tensors).items()}
    assert settings is not None
    configuration, trainer, mirrored = settings
    names = tuple(path.name for path in paths)
    return Checkpoints(state, names, configuration, trainer, mirrored, _digest(paths))


def _digest(paths: list[Path]) -> str:
    """The SHA-256 of the file, or of the SHA-256s of several, one after the other."""
    each = [file_sha256(path / FINAL) for path in paths]
    return each[0] if len(each) == 1 else hashlib.sha256("".join(each).encode()).hexdigest()


class _Nothing:
    """In the place of numpy's dtype and of its scalars: takes what they take and keeps nothing."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def _loaded(path: Path) -> Mapping[Any, Any]:
    require_size(path)
    stand_ins: list[Any] = [(_Nothing, name) for name in (*SCALARS, "numpy.dtype")]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
            warnings.simplefilter("ignore")  # of formats that are refused just after
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a made-up file may raise anything
        line = " ".join(str(error).split())[:160]
        raise ConfigError(
            f"{path} holds more than weights and numbers, or is damaged; it was not unpickled. "
            f"Where it was made, keep of it {WEIGHTS}, init_args, trainer_name and "
            f"inference_allowed_mirroring_axes alone ({line})"
        ) from error
    if not isinstance(found, Mapping):
        raise ConfigError(f"{path} is no checkpoint of nnU-Net v2: it holds {type(found).__name__}")
    return found


def _settings(found: Mapping[Any, Any], path: Path) -> tuple[str, str, tuple[int, ...]]:
    args = found.get("init_args")
    configuration = args.get("configuration") if isinstance(args, Mapping) else None
    trainer = found.get("trainer_name")
    if not isinstance(configuration, str) or not isinstance(trainer, str):
        raise ConfigError(f"{path} is no checkpoint of nnU-Net v2: init_args or trainer_name")
    mirrored = found.get("inference_allowed_mirroring_axes") or ()
    if not isinstance(mirrored, list | tuple) or not all(type(n) is int for n in mirrored):
        raise ConfigError(f"{path}: inference_allowed_mirroring_axes is {mirrored!r}")
    return configuration, trainer, tuple(mirrored)


def _own_names(state: State) -> State:
    """Each weight once, without prefixes."""
    for prefix in PREFIXES:
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return {
        name: tensor
        for name, tensor in state.items()
        if SECOND_NAME not in name and not name.startswith(SECOND_ENCODER)
    }
