"""Weights from elsewhere are read, and nothing that lies beside them in a file is run."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.core.errors import ConfigError
from pipeline.models.adapters import foreign_weights
from pipeline.models.adapters.base import ModelAdapter
from pipeline.models.adapters.foreign_weights import load_foreign, read_weights

STATE = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}


class Touches:
    """What unpickling would run: it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("saved", "key"),
    [
        (STATE, None),
        ({"state_dict": STATE, "epoch": 3, "lr": [0.1, 0.2]}, None),
        ({"generator": STATE, "state_dict": {}}, "generator"),
    ],
)
def test_a_state_dict_is_read_wherever_it_lies(
    saved: dict[str, Any], key: str | None, tmp_path: Path
) -> None:
    torch.save(saved, tmp_path / "w.pt")
    found = read_weights(tmp_path / "w.pt", key)
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        name: tensor.tolist() for name, tensor in STATE.items()
    }


def test_safetensors_too(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "w.safetensors")
    assert set(read_weights(tmp_path / "w.safetensors")) == {"weight", "bias"}
    (tmp_path / "w.safetensors").write_bytes(b"no such thing")
    with pytest.raises(ConfigError, match="is no safetensors file"):
        read_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt"])
@pytest.mark.parametrize("plain", [True, False])
def test_code_in_a_file_is_not_run(suffix: str, plain: bool, tmp_path: Path) -> None:
    made, path = tmp_path / "made", tmp_path / f"w{suffix}"
    content = {"state_dict": STATE, "hook": Touches(made)}
    if plain:
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    with pytest.raises(ConfigError, match="holds more than weights, or is damaged; it was not"):
        read_weights(path)
    assert not made.exists()
    if not plain:  # with the same file it would have been made
        torch.load(path, weights_only=False)
        assert made.exists()


def test_a_whole_model_is_refused_and_so_is_torchscript(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 2), tmp_path / "model.pt")
    torch.jit.trace(nn.Linear(3, 2), torch.zeros(1, 3)).save(str(tmp_path / "script.pt"))
    for name in ("model.pt", "script.pt"):
        with pytest.raises(ConfigError, match="Save its state_dict as safetensors"):
            read_weights(tmp_path / name)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ([1, 2], "holds a list, not tensors by name"),
        ({"a": STATE, "b": 1}, "has a, b: say in weights_key"),
        ({"state_dict": {"weight": torch.ones(2).to_sparse()}}, "weight is a Tensor, not a plain"),
        ({"state_dict": {"weight": "text"}}, "weight is a str, not a plain tensor"),
    ],
)
def test_what_holds_no_plain_tensors_is_refused(saved: Any, message: str, tmp_path: Path) -> None:
    torch.save(saved, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=message):
        read_weights(tmp_path / "w.pt")


def test_what_unpacks_to_too_much_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(STATE, tmp_path / "w.pt")
    monkeypatch.setattr(foreign_weights, "MAX_BYTES", 100)
    monkeypatch.setattr(torch, "load", lambda *args, **options: pytest.fail("it was read"))
    with pytest.raises(ConfigError, match="at most 100 are read"):
        read_weights(tmp_path / "w.pt")


def test_weights_that_do_not_fit_are_named() -> None:
    model = ModelAdapter(nn.Linear(3, 2))
    load_foreign(
        model, {f"module.{name}": tensor for name, tensor in STATE.items()}, prefix="module."
    )
    assert model.network.weight.tolist() == STATE["weight"].tolist()
    with pytest.raises(ConfigError, match=r"bias is missing; other is not the network's"):
        load_foreign(model, {"weight": STATE["weight"], "other": torch.ones(1)})
    with pytest.raises(ConfigError, match=r"weight is \[3, 2\], the network's \[2, 3\]"):
        load_foreign(model, {**STATE, "weight": torch.ones(3, 2)})
    with pytest.raises(ConfigError, match="not numbers, in bias"):
        load_foreign(model, {**STATE, "bias": torch.tensor([0.0, float("nan")])})
