"""A model for other programs gives what it gives here, for any size, with its units inside."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Ended, missing
from torch import nn

from pipeline.config.sections import Normalize
from pipeline.core.errors import ConfigError, LdctError
from pipeline.export import onnx_pt2 as deploy
from pipeline.export.onnx_pt2 import CARD, ONNX, PT2, export_model
from pipeline.models.adapters.base import HUModel, ModelAdapter
from pipeline.models.adapters.card import ModelCard
from pipeline.models.redcnn import REDCNN
from pipeline.models.swift import SwiftUNet

CARD_OF_TEST = ModelCard("test", 1, "0" * 64, "c", "d", 1, strength=0.5)


@pytest.fixture(scope="module", autouse=True)
def onnx_is_installed() -> None:
    if find_spec("onnxruntime") is None:
        missing("onnxruntime is not installed: it is in requirements.lock")


def model(network: nn.Module) -> HUModel:
    torch.manual_seed(0)
    for weights in network.parameters():
        nn.init.normal_(weights, std=0.05)
    units = Normalize(centre=40, scale=400)
    return HUModel(network, normalize=units, residual=True, strength=0.5).eval()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelAdapter, Path]:
    folder = tmp_path_factory.mktemp("deployed") / "swift"
    swift = model(SwiftUNet((4, 6, 8)))
    export_model(swift, CARD_OF_TEST, folder)
    return swift, folder


@pytest.mark.parametrize("shape", [(1, 1, 31, 77), (5, 1, 64, 64), (1, 1, 8, 200)])
def test_onnx_gives_what_the_model_gives_at_sizes_not_tried(
    written: tuple[ModelAdapter, Path], shape: tuple[int, ...]
) -> None:
    from onnxruntime import InferenceSession

    swift, folder = written
    image_hu = np.random.default_rng(1).uniform(-1000, 2000, shape).astype(np.float32)
    session = InferenceSession(folder / ONNX, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"input": image_hu})
    with torch.inference_mode():
        wanted = swift(torch.from_numpy(image_hu)).numpy()
    assert np.abs(wanted - image_hu).max() > 1, "or an identity would pass"
    assert np.allclose(found, wanted, rtol=0, atol=0.01)


def test_pt2_too(written: tuple[ModelAdapter, Path]) -> None:
    swift, folder = written
    image_hu = torch.rand(1, 1, 33, 45) * 1000
    with torch.inference_mode():
        assert torch.allclose(torch.export.load(folder / PT2).module()(image_hu), swift(image_hu))


def test_the_card_says_what_it_is(written: tuple[ModelAdapter, Path]) -> None:
    card = json.loads((written[1] / CARD).read_text())
    assert card["model"] == "models:/test/1"
    assert card["strength"] == 0.5
    assert card["input"]["shape"] == [-1, 1, -1, -1]
    assert set(card["largest_difference"]) == {"onnxruntime", "torch.export"}
    assert all(difference < 0.01 for difference in card["largest_difference"].values())


def test_a_file_that_differs_is_not_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy, "_by_onnx", lambda path: lambda images: images + 1)
    with pytest.raises(LdctError, match="onnxruntime differs from the model by"):
        export_model(model(REDCNN(2, 3, padding=True)), CARD_OF_TEST, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_onnx_the_way_to_install_it_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"onnx is not installed: pip install 'ldct\[onnx\]'"):
        export_model(model(REDCNN(2, 3)), replace(CARD_OF_TEST, version=2), tmp_path / "out")


@pytest.mark.usefixtures("own_registry")
def test_the_shipped_denoiser_as_its_user_exports_it(
    ldct: Callable[..., Ended], tmp_path: Path
) -> None:
    result = ldct("models", "export", "redcnn@pretrained", "--out", tmp_path / "onnx", "--json")
    assert result.code == 0, result.err
    assert result.json["largest_difference"]["onnxruntime"] < 0.05
    assert {file.name for file in (tmp_path / "onnx").iterdir()} == {ONNX, PT2, CARD}
