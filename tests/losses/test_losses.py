"""The losses that MONAI and torch lack."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.core.units import Window
from pipeline.losses.image import (
    CosineDistance,
    PooledL1,
    RangeWeightedL1,
    RangeWeightedLogMSE,
    RangeWeightedMSE,
)
from pipeline.metrics.image import ssim

TARGET = torch.tensor([-1.0, -0.2, 0.0, 0.3, 0.8]).reshape(1, 1, 1, 5)


def test_the_target_s_range_decides_on_the_weight() -> None:
    error = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    loss = RangeWeightedMSE(low=-0.2, high=0.3, elsewhere=0.1)(TARGET + error, TARGET)
    assert float(loss) == pytest.approx((0.1 * 1 + 4 + 9 + 16 + 0.1 * 25) / 5)


def test_with_equal_weights_it_is_the_mean_square_error() -> None:
    output = torch.randn(TARGET.shape, generator=torch.Generator().manual_seed(0))
    weighted = RangeWeightedMSE(low=0, high=1, elsewhere=1.0)(output, TARGET)
    torch.testing.assert_close(weighted, nn.MSELoss()(output, TARGET))


def test_errors_elsewhere_are_still_tied_down() -> None:
    output = (TARGET + 1).requires_grad_()
    RangeWeightedMSE(low=-0.2, high=0.3, elsewhere=0.1)(output, TARGET).backward()
    assert output.grad is not None
    assert (output.grad > 0).all()


@pytest.mark.parametrize("settings", [(0.3, -0.2, 0.1), (0, 0, 0.1), (0, 1, -0.1), (0, 1, 1.5)])
def test_impossible_settings_are_refused(settings: tuple[float, float, float]) -> None:
    low, high, elsewhere = settings
    with pytest.raises(ValueError, match="low < high"):
        RangeWeightedMSE(low, high, elsewhere=elsewhere)


def test_an_offset_of_a_patch_costs_more_than_noise_of_its_size() -> None:
    target = torch.zeros(2, 1, 8, 8)
    offset = torch.full_like(target, 0.01)
    noise = offset.clone()
    noise[..., ::2] *= -1  # the same square error, mean zero in each patch
    plain = RangeWeightedMSE(low=-0.2, high=0.3)
    mean_too = RangeWeightedMSE(low=-0.2, high=0.3, mean_weight=10)
    torch.testing.assert_close(plain(offset, target), plain(noise, target))
    torch.testing.assert_close(mean_too(noise, target), plain(noise, target))
    torch.testing.assert_close(mean_too(offset, target), 11 * plain(offset, target))


def test_a_patch_without_the_range_has_no_mean_to_keep() -> None:
    air = torch.full((1, 1, 8, 8), -1.0)
    loss = RangeWeightedMSE(low=-0.2, high=0.3, elsewhere=0.5, mean_weight=10)(air + 1, air)
    assert float(loss) == pytest.approx(0.5)


def test_an_offset_counts_in_each_range_by_its_share_of_the_patch():
    target = torch.tensor([0.0, 0.0, 0.0, 0.6]).reshape(1, 1, 2, 2)
    output = target + torch.tensor([0.1, 0.1, 0.1, -0.2]).reshape(1, 1, 2, 2)
    ranges = [(-0.1, 0.1), (0.5, 1.0)]
    plain = RangeWeightedMSE(-1, 1)(output, target)
    both = RangeWeightedMSE(-1, 1, mean_weight=2, mean_ranges=ranges)(output, target)
    assert float(both - plain) == pytest.approx(2 * (0.75 * 0.1**2 + 0.25 * 0.2**2))
    # Over one range for all, offsets of different tissues hide each other.
    one = RangeWeightedMSE(-1, 1, mean_weight=2)(output, target)
    assert float(one - plain) == pytest.approx(2 * 0.025**2)


def test_a_range_the_wrong_way_round_is_refused():
    with pytest.raises(ValueError, match="mean_ranges"):
        RangeWeightedMSE(-1, 1, mean_ranges=[(0.5, 0.1)])


def test_tissue_is_found_in_the_smoothed_target():
    # A quiet offset in tissue whose own noise crosses the range's ends.
    noise = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(1)) * 0.1
    target, output = 0.05 + noise, torch.full_like(noise, 0.05)
    settings = {"mean_weight": 1.0, "mean_ranges": [(0.0, 0.5)], "elsewhere": 1.0}
    plain = RangeWeightedMSE(-1, 1, elsewhere=1.0)(output, target)
    raw = RangeWeightedMSE(-1, 1, **settings)(output, target) - plain
    smooth = RangeWeightedMSE(-1, 1, mean_smoothing=5, **settings)(output, target) - plain
    # The output is the true mean: no bias, whatever the noisy pixels seem to say.
    assert float(smooth) < 2e-4 < 1e-3 < float(raw)


def test_similarity_is_that_of_the_metrics() -> None:
    generator = torch.Generator().manual_seed(0)
    target = 0.15 * torch.randn(1, 1, 40, 36, generator=generator) + 0.05
    output = target + 0.05 * torch.randn(target.shape, generator=generator)
    plain = RangeWeightedMSE(low=-0.16, high=0.24)(output, target)
    with_similarity = RangeWeightedMSE(low=-0.16, high=0.24, similarity_weight=2.0)(output, target)
    image_hu, target_hu = (1000 * i[0, 0].numpy() for i in (output, target))
    # The metric divides variances by n - 1, MONAI by n.
    expected = 1 - ssim(image_hu, target_hu, Window(40, 400))
    assert float(with_similarity - plain) / 2 == pytest.approx(expected, abs=2e-3)
    assert expected > 0.05


def test_similarity_falls_where_structure_is_smoothed_away() -> None:
    target = 0.1 * torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    smooth = nn.functional.avg_pool2d(target, 5, 1, 2, count_include_pad=False).requires_grad_()
    loss = RangeWeightedMSE(low=-0.16, high=0.24, similarity_weight=1.0)
    assert float(loss(target, target).detach()) == pytest.approx(0, abs=1e-6)
    structure = loss(smooth, target) - RangeWeightedMSE(low=-0.16, high=0.24)(smooth, target)
    structure.backward()
    assert float(structure.detach()) > 0.5
    assert float((smooth.grad * (target - smooth.detach())).sum()) < 0, "back to the structure"


def test_a_rim_between_two_tissues_is_not_a_third() -> None:
    """Smoothed over 5 pixels, the step from air to tissue has one column at -0.16."""
    target = torch.full((1, 1, 16, 16), 0.05)
    target[..., :8] = -1.0
    output = target + 0.1
    settings = {"mean_weight": 5.0, "mean_smoothing": 5}
    fat = RangeWeightedMSE(-0.2, 0.3, mean_ranges=[(-0.2, -0.1)], **settings)
    torch.testing.assert_close(fat(output, target), RangeWeightedMSE(-0.2, 0.3)(output, target))
    soft = RangeWeightedMSE(-0.2, 0.3, mean_ranges=[(0.0, 0.12)], **settings)
    share = 6 / 16  # columns 10 to 15, out of reach of the air
    expected = RangeWeightedMSE(-0.2, 0.3)(output, target) + 5 * share * 0.1**2
    torch.testing.assert_close(soft(output, target), expected)


def test_absolute_errors_count_in_proportion() -> None:
    loss = RangeWeightedL1(low=-0.2, high=0.3, elsewhere=0.5)
    error = torch.tensor([1.0, -2.0, 3.0, -4.0, 5.0])
    assert float(loss(TARGET + error, TARGET)) == pytest.approx((0.5 + 2 + 3 + 4 + 2.5) / 5)


def test_the_noisiest_item_does_not_rule_a_logarithm() -> None:
    """What each item's share of its error costs: the same at 10 and at 100 HU."""
    target = torch.zeros(2, 1, 8, 8)
    error = torch.stack([torch.full((1, 8, 8), size) for size in (0.01, 0.1)]).requires_grad_()
    loss = RangeWeightedLogMSE(low=-0.2, high=0.3)(target + error, target)
    loss.backward()
    assert error.grad is not None
    shares = (error.grad * error).detach().sum(dim=(1, 2, 3))
    torch.testing.assert_close(shares[0], shares[1], rtol=0.02, atol=0)
    plain = [RangeWeightedMSE(low=-0.2, high=0.3)(one, one * 0) for one in error.detach()[:, None]]
    assert float(loss.detach()) == pytest.approx(float(torch.stack(plain).log().mean()), rel=1e-2)


def test_weights_below_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="weights >= 0"):
        RangeWeightedMSE(low=0, high=1, similarity_weight=-1)


def test_the_cosine_compares_patterns_and_not_their_strength() -> None:
    stripes = torch.tensor([[1.0, -1.0], [1.0, -1.0]]).expand(2, 1, 2, 2)
    loss = CosineDistance()
    assert float(loss(3 * stripes, stripes)) == pytest.approx(0, abs=1e-6)
    assert float(loss(-stripes, stripes)) == pytest.approx(2)
    assert float(loss(stripes.transpose(2, 3), stripes)) == pytest.approx(1)
    # Each image by itself: one right and one reversed are half right.
    both = torch.cat([stripes[:1], -5 * stripes[:1]])
    assert float(loss(both, stripes)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("output", "target", "mse", "cosine"),
    [
        # By hand: mean of squared differences; 1 - dot / (norm * norm).
        ([1, 2, 2], [2, 4, 4], 3.0, 0.0),
        ([1, 0], [0, 1], 1.0, 1.0),
        ([3, 4], [4, 3], 1.0, 1 - 24 / 25),
        ([1, 1, 1, 1], [1, 1, 1, -1], 1.0, 0.5),
        ([1, 2], [-1, -2], 10.0, 2.0),
    ],
)
def test_mean_square_error_and_cosine_as_calculated_by_hand(
    output: list[float], target: list[float], mse: float, cosine: float
) -> None:
    one, other = torch.tensor([output]).float(), torch.tensor([target]).float()
    assert float(nn.MSELoss()(one, other)) == pytest.approx(mse)
    assert float(CosineDistance()(one, other)) == pytest.approx(cosine, abs=1e-6)


def test_the_best_constant_is_the_mean_by_squares_and_the_median_by_absolute_errors() -> None:
    """Why a mean square error draws what lies between all answers: 0, 0, 0, 4 are met by 1."""
    answers = torch.tensor([0.0, 0.0, 0.0, 4.0])
    guesses = torch.linspace(-1, 5, 601)
    for loss, best in ((nn.MSELoss(), 1.0), (nn.L1Loss(), 0.0)):
        costs = torch.stack([loss(guess.expand(4), answers) for guess in guesses])
        assert float(guesses[costs.argmin()]) == pytest.approx(best, abs=0.01)


def test_means_of_squares_see_levels_and_no_texture() -> None:
    target = torch.zeros(1, 1, 16, 16)
    texture = torch.ones(4, 4).triu() - torch.ones(4, 4).tril()  # its mean is 0
    textured = target + texture.tile(4, 4)
    assert float(PooledL1(4)(textured, target)) == pytest.approx(0)
    assert float(PooledL1(1)(textured, target)) > 0.5
    assert float(PooledL1(4)(textured + 0.2, target)) == pytest.approx(0.2)
    with pytest.raises(ValueError, match="1 pixel or more"):
        PooledL1(0)
