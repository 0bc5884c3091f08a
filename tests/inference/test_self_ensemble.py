"""The mean over a picture's turns and mirror images: then no direction counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config.load import load_config
from pipeline.core.errors import ConfigError
from pipeline.inference.restore import mean_of_turns, restored
from pipeline.models.adapters.base import build_model
from pipeline.models.adapters.restorer import Restorer

SMALL = ["model.args.channels=4", "model.args.blocks=1"]
ENSEMBLE = "restoration.self_ensemble=true"


def enlarging(*settings: str) -> Restorer:
    torch.manual_seed(0)
    model = build_model(load_config(Path("super_resolve"), [*SMALL, *settings])).eval()
    torch.nn.init.normal_(model.network.tail.weight, 0.0, 0.1)
    assert isinstance(model, Restorer)
    return model


def test_a_turned_picture_gives_the_turned_result() -> None:
    picture = np.random.default_rng(0).uniform(0, 255, (3, 20, 30)).astype(np.float32)
    turned = np.rot90(picture, 1, (1, 2))
    mirrored = picture[:, :, ::-1]
    single, ensemble = enlarging(), enlarging(ENSEMBLE)
    whole = restored(ensemble, picture)
    assert whole.shape == (3, 40, 60)
    np.testing.assert_allclose(restored(ensemble, turned), np.rot90(whole, 1, (1, 2)), atol=1e-2)
    np.testing.assert_allclose(restored(ensemble, mirrored), whole[:, :, ::-1], atol=1e-2)
    other = np.abs(restored(single, turned) - np.rot90(restored(single, picture), 1, (1, 2)))
    assert other.max() > 1


def test_each_of_the_eight_counts_once() -> None:
    image = torch.arange(6.0).reshape(1, 1, 2, 3)
    seen: list[torch.Tensor] = []

    def corner(turned: torch.Tensor) -> torch.Tensor:
        seen.append(turned)
        marked = torch.zeros_like(turned)
        marked[..., 0, 0] = 8
        return marked

    found = mean_of_turns(corner, image)
    assert found.flatten().tolist() == [2, 0, 2, 2, 0, 2]  # each corner is first in two
    assert len({str(turned.tolist()) for turned in seen}) == 8


def test_ct_is_refused() -> None:
    with pytest.raises(ConfigError, match="self_ensemble: of pictures, not of CT"):
        load_config(Path("kernel_conversion"), [ENSEMBLE])
