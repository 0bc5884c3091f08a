"""`transforms.inference`: what a trained denoiser sees slices through, and how it comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.images import run_config
from torch import nn

from pipeline.config.transforms import INVERTIBLE
from pipeline.core.errors import ConfigError
from pipeline.export.monai_bundle import export_bundle
from pipeline.export.onnx_pt2 import export_model
from pipeline.inference.denoise import apply_model
from pipeline.models.adapters.base import ModelAdapter, build_model
from pipeline.models.adapters.card import LoadedModel, ModelCard

#: What MONAI asks for, by transform.
NEEDED: dict[str, dict[str, Any]] = {
    "BorderPadd": {"spatial_border": 3, "mode": "reflect"},
    "DivisiblePadd": {"k": 16, "mode": "edge"},
    "Flipd": {"spatial_axis": 0},
    "Rotate90d": {"k": 1},
    "SpatialPadd": {"spatial_size": [64, 64], "mode": "reflect"},
    "Zoomd": {"zoom": 0.5},
}
EXACT = tuple(name for name in INVERTIBLE if name != "Zoomd")


def entry(name: str, **changes: Any) -> dict[str, Any]:
    return {"_target_": name, **NEEDED[name], **changes}


def model_of(*entries: Any, network: nn.Module | None = None) -> ModelAdapter:
    config = run_config(
        transforms={"inference": list(entries)},
        model={"target": "identity", "args": {}},
        step={"target": "supervised", "args": {"residual": True}},
    )
    model = build_model(config)
    if network is not None:
        model.network = network
        model.adds_input = True
    return model.eval()


def image_hu(*shape: int) -> torch.Tensor:
    return torch.randint(-1024, 3072, shape, generator=torch.Generator().manual_seed(0)).float()


@pytest.mark.parametrize("name", INVERTIBLE)
def test_a_network_that_changes_nothing_leaves_every_hu_as_it_is(name: str) -> None:
    """Also through one that interpolates, which loses what it shows, but not what there is."""
    image = image_hu(3, 1, 33, 47)
    model = model_of(entry(name))
    model.normalised = lambda given: given  # type: ignore[attr-defined, method-assign]
    model.in_hu = lambda given: given  # type: ignore[attr-defined, method-assign]
    assert torch.equal(model(image), image)


@pytest.mark.parametrize("name", INVERTIBLE)
def test_what_the_network_sees_is_transformed_and_what_it_gives_lies_in_its_place(
    name: str,
) -> None:
    seen = []

    class Marks(nn.Module):
        """Adds 1 (of normalize_hu.scale) where the image is bright."""

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            seen.append(image)
            return (image > 0.5).float()

    model = model_of(entry(name), network=Marks())
    image = torch.full((2, 1, 33, 47), -500.0)
    image[0, 0, 4:12, 8:24] = 1000.0
    found = model(image) - image
    there = (image > 0).float() * model.scale
    if name in EXACT:
        torch.testing.assert_close(found, there, atol=1e-3, rtol=0)
    assert float((found - there).abs().mean()) < 0.02 * model.scale
    assert seen[0].shape[-2:] != (33, 47) or not torch.equal(
        seen[0],
        model.normalised(image),  # type: ignore[operator]
    )


def test_they_are_applied_in_their_order_and_inverted_in_the_opposite_one() -> None:
    shapes = []

    class Looks(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            shapes.append(tuple(image.shape[-2:]))
            return torch.zeros_like(image)

    entries = [entry("Rotate90d"), entry("SpatialPadd", spatial_size=[64, 40])]
    model = model_of(*entries, network=Looks())
    image = image_hu(1, 1, 32, 48)
    assert torch.equal(model(image), image)
    assert shapes == [(64, 40)], "turned to 48 x 32, then padded"


def test_a_network_in_training_sees_patches_as_they_are() -> None:
    sizes = []

    class Looks(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            sizes.append(tuple(image.shape[-2:]))
            return image

    model = model_of(entry("DivisiblePadd"), network=Looks())
    model.train()(image_hu(1, 1, 33, 47))
    model.eval()(image_hu(1, 1, 33, 47))
    assert sizes == [(33, 47), (48, 48)]


def test_a_volume_goes_through_them_by_several_threads() -> None:
    volume = image_hu(7, 33, 47).numpy()
    found = apply_model(model_of(entry("DivisiblePadd"), entry("Flipd")), volume)
    np.testing.assert_allclose(found, volume, atol=1e-3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"_target_": "GaussianSmoothd", "sigma": 1}, "GaussianSmoothd cannot be inverted"),
        ({"_target_": "ShiftIntensityd", "offset": 1}, "ShiftIntensityd cannot be inverted"),
        ({"_target_": "RandFlipd"}, "RandFlipd is random"),
        ({"_target_": "CenterSpatialCropd", "roi_size": 8}, "'CenterSpatialCropd' is not allowed"),
        ({"_target_": "Lambdad", "func": "print"}, "'Lambdad' is not allowed"),
        ({"_target_": "Flipd", "keys": "target"}, "keys: the network sees the image alone"),
        ({"_target_": "DivisiblePadd", "k": 16}, "mode: constant, by MONAI's default, puts 0 HU"),
        ({"_target_": "DivisiblePadd", "k": "$16", "mode": "edge"}, "is an expression"),
        ({"_target_": "Zoomd", "zoom": 0.5, "keep_size": True}, "keep_size: cannot be set"),
    ],
)
def test_what_cannot_be_inverted_is_refused_by_name(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"transforms\.inference\.0: .*{message}"):
        run_config(transforms={"inference": [given]})


def test_an_argument_that_monai_does_not_take_is_refused_by_its_key() -> None:
    config = run_config(transforms={"inference": [entry("Flipd", axis=1)]})
    with pytest.raises(ConfigError, match=r"transforms\.inference\.0\.args\.axis"):
        build_model(config)


def test_no_export_leaves_them_out_in_silence(tmp_path: Path) -> None:
    config = run_config(transforms={"inference": [entry("Flipd")]})
    model = build_model(config)
    card = ModelCard("tiny", 1, "w" * 64, "c" * 64, "d" * 64, 0)
    for export in (
        lambda: export_model(model, card, tmp_path / "onnx"),
        lambda: export_bundle(LoadedModel(model, card, config), tmp_path / "bundle"),
    ):
        with pytest.raises(ConfigError, match=r"transforms\.inference cannot be exported"):
            export()
    assert not list(tmp_path.iterdir())
