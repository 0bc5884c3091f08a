"""HU in, HU out: normalisation is the adapter's."""

from __future__ import annotations

import pytest
import torch
from helpers.images import run_config, run_data
from torch import nn

from pipeline.config.load import parse_config
from pipeline.config.sections import Component, Normalize
from pipeline.core.errors import ConfigError
from pipeline.models.adapters.any_dose import AnyDoseModel
from pipeline.models.adapters.base import HUModel, Identity, build_loss, build_model
from pipeline.models.redcnn import REDCNN

EXTREMES = torch.tensor([-32768.0, -1024, -1000, 0, 0.25, 40, 3000, 3071]).view(1, 1, 2, 4)
NORMALIZE = Normalize(centre=0, scale=1000)


class Constant(nn.Module):
    """Predicts one number everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.seen = image
        return torch.full_like(image, self.value)


class IdentityThatAdds(Identity):
    """Leaves its input alone by an input skip of its own, and says so."""

    adds_input = True


@pytest.mark.parametrize(
    ("network", "residual"),
    [(Identity(), False), (Constant(0), True), (IdentityThatAdds(), True)],
    ids=["direct", "residual", "residual with a skip of its own"],
)
def test_a_network_that_does_nothing_leaves_every_hu(network: nn.Module, residual: bool) -> None:
    model = HUModel(network, normalize=NORMALIZE, residual=residual)
    torch.testing.assert_close(model(EXTREMES), EXTREMES, atol=1e-3, rtol=0)


@pytest.mark.parametrize("normalize", [(40, 400), (-600, 1500), (37, 333)])
def test_any_normalisation_leaves_hu_within_rounding(normalize: tuple[float, float]) -> None:
    centre, scale = normalize
    model = HUModel(Identity(), normalize=Normalize(centre=centre, scale=scale), residual=False)
    every_hu = torch.arange(-1024.0, 3072.0).view(1, 1, 64, 64)
    torch.testing.assert_close(model(every_hu), every_hu, atol=1e-3, rtol=0)


def test_the_network_sees_normalised_values() -> None:
    network = Constant(0)
    HUModel(network, normalize=Normalize(centre=40, scale=200), residual=True)(EXTREMES)
    torch.testing.assert_close(network.seen, (EXTREMES - 40) / 200)


def test_a_prediction_is_scaled_back_to_hu() -> None:
    normalize = Normalize(centre=40, scale=200)
    direct = HUModel(Constant(0.5), normalize=normalize, residual=False)
    assert (direct(EXTREMES) == 140).all()
    residual = HUModel(Constant(0.5), normalize=normalize, residual=True)
    torch.testing.assert_close(residual(EXTREMES), EXTREMES + 100)


@pytest.mark.parametrize("residual", [True, False])
def test_metal_beyond_the_ct_scale_is_seen_at_its_end_and_stays_as_it_was(residual: bool) -> None:
    """12000 HU of an implant is nothing that a network was trained on."""
    image_hu = EXTREMES.clone()
    image_hu[..., 0, 0], image_hu[..., 1, 1] = 12000.37, 30710
    model = HUModel(network := Constant(0.5), normalize=NORMALIZE, residual=residual)
    output_hu = model(image_hu)
    assert network.seen.max() == pytest.approx(3.071)
    beyond = image_hu > 3071
    assert torch.equal(output_hu[beyond], image_hu[beyond])
    expected = image_hu + 500 if residual else torch.full_like(image_hu, 500)
    torch.testing.assert_close(output_hu[~beyond], expected[~beyond])


def test_a_model_that_is_told_the_dose_keeps_metal_too() -> None:
    image_hu = torch.tensor([40.0, 3071, 12000]).view(1, 1, 1, 3)
    network = Constant(0.1)
    network.forward = lambda seen: (setattr(network, "seen", seen), seen[:, :1] * 0 + 0.1)[1]
    output_hu = AnyDoseModel(network, normalize=NORMALIZE, dose_ratio=2.0)(image_hu)
    assert network.seen[:, 0].max() == pytest.approx(3.071)
    torch.testing.assert_close(output_hu.flatten(), torch.tensor([-10.0, 3021, 12000]))


@pytest.mark.parametrize("shape", [(1, 1, 64, 64), (5, 1, 47, 33), (2, 1, 16, 100)])
def test_any_batch_and_size(shape: tuple[int, ...]) -> None:
    model = build_model(run_config())
    assert model(torch.zeros(shape)).shape == shape


def test_residual_with_an_input_skip_adds_the_input_once() -> None:
    network = REDCNN(channels=2, kernel=3, padding=True)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    model = HUModel(network, normalize=NORMALIZE, residual=True)
    torch.testing.assert_close(model(EXTREMES), EXTREMES, atol=1e-3, rtol=0)
    without_skip = REDCNN(channels=2, kernel=3, padding=True, input_skip=False)
    without_skip.load_state_dict(network.state_dict())
    model = HUModel(without_skip, normalize=NORMALIZE, residual=True)
    torch.testing.assert_close(model(EXTREMES), EXTREMES, atol=1e-3, rtol=0)


@pytest.mark.parametrize("residual", [True, False])
def test_low_precision_inside_stays_inside(residual: bool) -> None:
    """The network may run in bf16, HU may not: its 8 bits make 3072 of 3071."""
    network = REDCNN(2, 3, input_skip=False, padding=True)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    nn.init.constant_(network.decoder[4].bias, 3.0)
    model = HUModel(network, normalize=Normalize(centre=71, scale=1000), residual=residual)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(EXTREMES)
    assert output.dtype == torch.float32
    expected = EXTREMES + 3000 if residual else torch.full_like(EXTREMES, 3071)
    torch.testing.assert_close(output, expected, atol=1e-3, rtol=0)


def test_normalisation_is_a_constant_of_the_model_not_a_weight() -> None:
    names = build_model(run_config()).state_dict()
    assert all(name.startswith("network.") for name in names)


def test_the_step_decides_on_residual() -> None:
    model = {"target": "pipeline.models.redcnn.REDCNN", "args": {"input_skip": False}}
    step = run_data()["step"]
    assert build_model(run_config(model=model)).adds_input
    direct = run_config(model=model, step={**step, "args": {"residual": False}})
    assert not build_model(direct).adds_input


def test_a_model_must_be_a_network_and_a_loss_too() -> None:
    fan_beam = Component(target="pipeline.physics.fan_beam.FanBeam")
    with pytest.raises(ConfigError, match="model"):
        build_model(parse_config(run_data(model=fan_beam.model_dump())))
    with pytest.raises(ConfigError, match="loss"):
        build_loss(fan_beam)


def denoiser(strength: float, *, residual: bool = True) -> HUModel:
    torch.manual_seed(0)
    network = REDCNN(channels=4, kernel=3, padding=True, input_skip=False)
    return HUModel(network, normalize=NORMALIZE, residual=residual, strength=strength)


@pytest.mark.parametrize("residual", [True, False])
def test_at_full_strength_the_output_is_the_network_s_bit_for_bit(residual: bool) -> None:
    image_hu = 200 * torch.randn(2, 1, 31, 17, generator=torch.Generator().manual_seed(1))
    model = denoiser(1.0, residual=residual)
    predicted = model.network(image_hu / 1000) * 1000
    assert torch.equal(model(image_hu), image_hu + predicted if residual else predicted)


def test_strength_goes_straight_from_the_input_to_the_denoised() -> None:
    denoised_hu = denoiser(1.0)(EXTREMES)
    for strength in (0.1, 0.25, 0.5, 0.9):
        expected = EXTREMES + strength * (denoised_hu - EXTREMES)
        torch.testing.assert_close(denoiser(strength)(EXTREMES), expected, atol=2e-3, rtol=0)
    assert torch.equal(denoiser(0.0)(EXTREMES), EXTREMES)


def test_the_configuration_sets_the_strength_within_its_range() -> None:
    assert build_model(run_config()).strength == 1
    assert build_model(run_config(strength=0.4)).strength == 0.4
    for strength in (0.0, -0.1, 1.01):
        with pytest.raises(ConfigError, match="strength"):
            run_config(strength=strength)
