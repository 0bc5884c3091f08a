"""Weights that another program wrote, read without running anything of theirs."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipeline.core.errors import ConfigError
from pipeline.models.adapters.base import ModelAdapter

SAFETENSORS = ".safetensors"
#: Where trainers put the weights among other things.
USUAL_KEYS = ("state_dict", "model_state_dict", "network_weights", "model")
#: What the file may come to once it is unpacked.
MAX_BYTES = 8 * 2**30

State = dict[str, torch.Tensor]


def read_weights(path: Path, key: str | None = None) -> State:
    """Tensors by name, on the CPU.

    path: of safetensors, or of torch.save, which is read with weights_only: of pickle's
    instructions only those that make tensors, numbers, words and lists are obeyed. key: where in
    the file the weights are; by default the whole, or the only one of USUAL_KEYS. Raises
    ConfigError for a file that holds anything else.
    """
    if not path.is_file():
        raise ConfigError(f"there is no file of weights {path}")
    if path.suffix == SAFETENSORS:
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ConfigError(f"{path} is no safetensors file: {_line(error)}") from error
    require_size(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats that are refused just after
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a made-up file may raise anything
        raise ConfigError(
            f"{path} holds more than weights, or is damaged; it was not unpickled. Save its "
            f"state_dict as safetensors where it was made ({_line(error)})"
        ) from error
    return only_tensors(_chosen(found, key, path), path)


def load_foreign(model: ModelAdapter, state: State, *, prefix: str = "") -> None:
    """The weights into a model just built, by names without `prefix`.

    Raises ConfigError, with the first differences, where names or shapes are not the network's, and
    for a weight that is not finite.
    """
    named = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    own = model.network.state_dict()
    faults = [f"{name} is missing" for name in own if name not in named]
    faults += [f"{name} is not the network's" for name in named if name not in own]
    faults += [
        f"{name} is {list(named[name].shape)}, the network's {list(own[name].shape)}"
        for name in own
        if name in named and named[name].shape != own[name].shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise ConfigError(f"the weights do not fit the network: {'; '.join(faults[:3])}{more}")
    for name, tensor in named.items():
        if not torch.isfinite(tensor).all():
            raise ConfigError(f"the weights hold values that are not numbers, in {name}")
    model.network.load_state_dict(named)


def require_size(path: Path) -> None:
    """Raises ConfigError for a zip archive that would unpack to more than MAX_BYTES."""
    if not zipfile.is_zipfile(path):  # torch's older format, which is not compressed
        return
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError) as error:
        raise ConfigError(f"{path} is damaged: {_line(error)}") from error
    if size > MAX_BYTES:
        raise ConfigError(f"{path} unpacks to {size} bytes; at most {MAX_BYTES} are read")


def _chosen(found: Any, key: str | None, path: Path) -> Any:
    """The part of a file that has the weights."""
    if not isinstance(found, Mapping):
        raise ConfigError(f"{path} holds a {type(found).__name__}, not tensors by name")
    if key is not None:
        if key not in found:
            raise ConfigError(f"{path} has no {key!r}; it has {_names(found)}")
        return found[key]
    if all(isinstance(value, torch.Tensor) for value in found.values()):
        return found
    usual = [name for name in USUAL_KEYS if isinstance(found.get(name), Mapping)]
    if len(usual) != 1:
        raise ConfigError(f"{path} has {_names(found)}: say in weights_key which are the weights")
    return found[usual[0]]


def only_tensors(chosen: Any, path: Path) -> State:
    """Tensors by name; ConfigError for anything else, or another kind of tensor."""
    plain = (torch.Tensor, torch.nn.Parameter)
    for name, value in chosen.items() if isinstance(chosen, Mapping) else [("the weights", chosen)]:
        if type(value) not in plain or value.layout != torch.strided:
            raise ConfigError(f"{path}: {name} is a {type(value).__name__}, not a plain tensor")
    return {str(name): value.detach() for name, value in chosen.items()}


def _names(found: Mapping[Any, Any]) -> str:
    names = [str(name) for name in found]
    return ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
