"""The losses that MONAI and torch lack."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.losses import RangeWeightedMSE

TARGET = torch.tensor([-1.0, -0.2, 0.0, 0.3, 0.8])


def test_the_target_s_range_decides_on_the_weight() -> None:
    error = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    loss = RangeWeightedMSE(low=-0.2, high=0.3, elsewhere=0.1)(TARGET + error, TARGET)
    assert float(loss) == pytest.approx((0.1 * 1 + 4 + 9 + 16 + 0.1 * 25) / 5)


def test_with_equal_weights_it_is_the_mean_square_error() -> None:
    output = torch.randn(5, generator=torch.Generator().manual_seed(0))
    weighted = RangeWeightedMSE(low=0, high=1, elsewhere=1.0)(output, TARGET)
    torch.testing.assert_close(weighted, nn.MSELoss()(output, TARGET))


def test_errors_elsewhere_are_still_tied_down() -> None:
    output = (TARGET + 1).requires_grad_()
    RangeWeightedMSE(low=-0.2, high=0.3, elsewhere=0.1)(output, TARGET).backward()
    assert output.grad is not None
    assert (output.grad > 0).all()


@pytest.mark.parametrize("settings", [(0.3, -0.2, 0.1), (0, 0, 0.1), (0, 1, -0.1), (0, 1, 1.5)])
def test_impossible_settings_are_refused(settings: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="low < high"):
        RangeWeightedMSE(*settings)
