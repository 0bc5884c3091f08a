"""The adapter of segmentation networks, and the FCN."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.config.sections import Component
from pipeline.config.segmentation import Segmentation
from pipeline.core.errors import ConfigError
from pipeline.models.adapters.segmenter import SegmentationModel, build_segmenter
from pipeline.models.fcn import FCN

NETWORKS = {
    "pipeline.models.fcn.FCN": {"features": [4, 8, 8]},
    "monai.networks.nets.UNet": {"channels": [4, 8, 16], "strides": [2, 2]},
    "monai.networks.nets.SegResNet": {"init_filters": 8},
    "monai.networks.nets.DynUNet": {
        "filters": [4, 8, 8],
        "kernel_size": [3, 3, 3],
        "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2],
    },
}


def settings(dimensions: int, **changes: object) -> Segmentation:
    given = {
        "classes": {"liver": [5], "lungs": [10, 11]},
        "spacing_mm": (3, 3, 3),
        "patch": [16] * dimensions,
        "ranges_hu": [(-1000, 600), (-150, 250)],
    }
    return Segmentation.model_validate(given | changes)


@pytest.mark.parametrize("target", NETWORKS)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_any_network_any_size(target: str, dimensions: int) -> None:
    """One score a class and voxel, for sizes that no network halves evenly."""
    component = Component(target=target, args=NETWORKS[target])
    model = build_segmenter(component, settings(dimensions)).eval()
    for size in ((16, 32, 16), (5, 13, 19)):
        image_hu = 300 * torch.randn(2, 1, *size[-dimensions:])
        assert model(image_hu).shape == (2, 3, *size[-dimensions:])


def test_channels_are_not_for_the_run_to_say_twice() -> None:
    component = Component(target="pipeline.models.fcn.FCN", args={"out_channels": 7})
    with pytest.raises(ConfigError, match="out_channels"):
        build_segmenter(component, settings(2))


def test_a_network_without_classes_is_refused() -> None:
    with pytest.raises(ConfigError, match="REDCNN"):
        build_segmenter(Component(target="pipeline.models.redcnn.REDCNN"), settings(2))


def test_hu_ranges_become_channels_from_minus_one_to_one() -> None:
    adapter = SegmentationModel(
        nn.Identity(), ranges_hu=[(-1000, 600), (-150, 250)], dimensions=2, channels=2
    )
    image_hu = torch.tensor([-2000.0, -1000, -200, -150, 50, 250, 600, 3000]).reshape(1, 1, 1, 8)
    wide, narrow = adapter(image_hu)[0, :, 0]
    assert wide.tolist() == pytest.approx([-1, -1, 0, 0.0625, 0.3125, 0.5625, 1, 1])
    assert narrow.tolist() == pytest.approx([-1, -1, -1, -1, 0, 1, 1, 1])


def test_the_rim_is_repeated_and_cut_off_again() -> None:
    class Seen(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            self.image = image
            return image

    network = Seen()
    adapter = SegmentationModel(network, ranges_hu=[(-1, 1)], dimensions=2, channels=1, multiple=8)
    image = torch.rand(1, 1, 5, 16)
    assert torch.equal(adapter(image), image)
    assert network.image.shape == (1, 1, 8, 16)
    assert torch.equal(network.image[..., 5:, :], image[..., 4:5, :].expand(1, 1, 3, 16))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_deconvolutions_start_as_linear_interpolation(dimensions: int) -> None:
    network = FCN(dimensions, 1, 2, features=(4, 4))
    coarse = torch.randn(1, 2, *[6, 5, 7][-dimensions:])
    mode = "trilinear" if dimensions == 3 else "bilinear"
    expected = functional.interpolate(coarse, scale_factor=2, mode=mode)
    doubled = network.doublings[0](coarse)
    inside = (..., *[slice(1, -1)] * dimensions)  # the rim has zeros beside it
    assert torch.allclose(doubled[inside], expected[inside], atol=1e-6)


def test_the_deconvolutions_learn() -> None:
    network = FCN(2, 1, 3, features=(4, 4, 4))
    network(torch.randn(1, 1, 16, 16)).square().mean().backward()
    assert all(layer.weight.grad.abs().max() > 0 for layer in network.doublings)


def test_the_fcn_sees_as_far_as_its_levels() -> None:
    """Three levels: a voxel 16 away matters, one 64 away does not (but by the norms' means)."""
    network = FCN(2, 1, 2, features=(16, 16, 16))  # of 4, a draw's ReLUs may leave no way down
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.InstanceNorm2d):
                setattr(module, name, nn.Identity())
    image = torch.randn(1, 1, 160, 160, requires_grad=True)
    network(image)[0, 0, 80, 80].backward()
    touched = image.grad[0, 0].abs().sum(dim=0).nonzero()[:, 0]
    assert 12 <= 80 - int(touched.min()) <= 40
    assert 12 <= int(touched.max()) - 80 <= 40


def test_an_fcn_has_two_dimensions_or_three() -> None:
    with pytest.raises(ValueError, match="spatial_dims"):
        FCN(1)
