"""Dice, cross-entropy and both, by formula; classes that are small, absent or not known."""

from __future__ import annotations

import math

import pytest
import torch
from monai.losses import DiceFocalLoss, DiceLoss, FocalLoss, GeneralizedDiceLoss
from torch import nn

from pipeline.config.segmentation import IGNORED
from pipeline.core.errors import ConfigError
from pipeline.losses.segmentation import (
    DiceCrossEntropy,
    KnownVoxelsLoss,
    PixelCrossEntropy,
    SoftDice,
)

OURS = [SoftDice(), SoftDice(over_batch=False), PixelCrossEntropy(), DiceCrossEntropy()]
MONAI_S = [
    GeneralizedDiceLoss(to_onehot_y=True, softmax=True),
    FocalLoss(to_onehot_y=True, use_softmax=True),
    DiceFocalLoss(to_onehot_y=True, softmax=True),
]


def random_pair(classes: int = 4, size: tuple[int, ...] = (6, 7, 8)) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, classes, *size, generator=generator)
    target = torch.randint(classes, (2, 1, *size), generator=generator)
    return logits.requires_grad_(), target.float()


def sure(target: torch.Tensor, classes: int) -> torch.Tensor:
    """Logits of a network that is sure, and right."""
    return 40.0 * nn.functional.one_hot(target[:, 0].long(), classes).movedim(-1, 1).float()


def test_dice_is_the_course_s_formula() -> None:
    """Two pixels: p = (1/4, 3/4) for class 1, t = (0, 1)."""
    chance = torch.tensor([0.25, 0.75])
    logits = torch.stack([torch.zeros(2), torch.log(chance / (1 - chance))]).reshape(1, 2, 1, 2)
    target = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)
    expected = 1 - 2 * 0.75 / (1 + 0.25**2 + 0.75**2)
    assert SoftDice()(logits, target).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("over_batch", [False, True])
@pytest.mark.parametrize("size", [(9, 10), (5, 6, 7)])
def test_dice_equals_monai_s_where_all_classes_are_there(
    background: bool, over_batch: bool, size: tuple[int, ...]
) -> None:
    logits, target = random_pair(size=size)
    theirs = DiceLoss(
        include_background=background,
        to_onehot_y=True,
        softmax=True,
        squared_pred=True,
        batch=over_batch,
        smooth_nr=0,
        smooth_dr=0,
    )
    ours = SoftDice(background=background, over_batch=over_batch)
    assert ours(logits, target).item() == pytest.approx(theirs(logits, target).item(), abs=1e-6)


def test_the_sum_is_the_mean_times_the_classes() -> None:
    logits, target = random_pair()
    mean, total = (SoftDice(reduction=r)(logits, target) for r in ("mean", "sum"))
    assert total.item() == pytest.approx(3 * mean.item(), rel=1e-6)


def test_perfect_and_opposite() -> None:
    _, target = random_pair(classes=2)
    assert SoftDice()(sure(target, 2), target).item() == pytest.approx(0, abs=1e-6)
    assert SoftDice()(sure(1 - target, 2), target).item() == pytest.approx(1, abs=1e-6)


def test_cross_entropy_of_ignorance_is_the_logarithm_of_the_classes() -> None:
    _, target = random_pair()
    loss = PixelCrossEntropy()(torch.zeros(2, 4, 6, 7, 8), target)
    assert loss.item() == pytest.approx(math.log(4), rel=1e-6)


def test_class_weights_count_a_class_more() -> None:
    """Wrong about one pixel of class 1 and right about one of class 0."""
    target = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)
    logits = torch.tensor([[3.0, 3.0], [0.0, 0.0]]).reshape(1, 2, 1, 2)
    wrong, right = math.log(1 + math.exp(3)), math.log(1 + math.exp(-3))
    weighted = PixelCrossEntropy(class_weights=[1, 4])(logits, target)
    assert weighted.item() == pytest.approx((right + 4 * wrong) / 5, rel=1e-5)


def test_both_are_added_with_their_weights() -> None:
    logits, target = random_pair()
    both = DiceCrossEntropy(dice=0.5, cross_entropy=2.0)(logits, target).item()
    dice, cross_entropy = (loss(logits, target).item() for loss in (OURS[0], OURS[2]))
    assert both == pytest.approx(0.5 * dice + 2 * cross_entropy, rel=1e-6)


@pytest.mark.parametrize("over_batch", [False, True])
def test_an_absent_class_does_not_score(over_batch: bool) -> None:
    """The mean is that of the classes which are there, whatever is claimed of the other."""
    logits, target = random_pair()
    target[target == 2] = 1
    loss = SoftDice(over_batch=over_batch, reduction="mean")(logits, target)
    each = DiceLoss(
        include_background=False,
        to_onehot_y=True,
        softmax=True,
        squared_pred=True,
        batch=over_batch,
        reduction="none",
    )(logits, target).reshape(-1, 3)
    assert loss.item() == pytest.approx(each[:, [0, 2]].mean().item(), abs=1e-4)


@pytest.mark.parametrize("loss", [*OURS, *MONAI_S], ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("there", [[0], [0, 3], [1], [0, 1, 2, 3]])
def test_losses_and_gradients_are_finite(loss: nn.Module, there: list[int]) -> None:
    """Nothing but background, one class alone, all: for an ignorant and for a sure network."""
    generator = torch.Generator().manual_seed(1)
    target = torch.tensor(there)[torch.randint(len(there), (2, 1, 8, 8), generator=generator)]
    for logits in (torch.zeros(2, 4, 8, 8), 1e4 * torch.randn(2, 4, 8, 8, generator=generator)):
        logits.requires_grad_()
        value = loss(logits, target.float())
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("loss", OURS, ids=lambda loss: type(loss).__name__)
def test_what_is_not_known_teaches_nothing(loss: nn.Module) -> None:
    logits, target = random_pair(size=(6, 8))
    known = loss(logits[..., :5], target[..., :5])
    target[..., 5:] = IGNORED
    partly = loss(logits, target)
    assert partly.item() == pytest.approx(known.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(partly, logits)
    assert gradient[..., :5].abs().max() > 0
    assert gradient[..., 5:].abs().max() == 0
    nothing = loss(logits, torch.full_like(target, IGNORED))
    (gradient,) = torch.autograd.grad(nothing, logits)
    assert nothing.item() == 0
    assert gradient.abs().max() == 0


def test_a_small_class_weighs_as_much_as_a_large_one() -> None:
    """3 of 400 pixels: missing them costs half of the Dice loss and 1 % of the cross-entropy."""
    target = torch.ones(1, 1, 20, 20)
    target[0, 0, 0, :3] = 2
    missed = sure(target.clamp(max=1), 3) / 8
    found = sure(target, 3) / 8
    dice = SoftDice()(missed, target) - SoftDice()(found, target)
    cross_entropy = PixelCrossEntropy()(missed, target) - PixelCrossEntropy()(found, target)
    assert dice.item() == pytest.approx(0.5, abs=0.02)
    assert cross_entropy.item() == pytest.approx(5 * 3 / 400, abs=0.01)


@pytest.mark.parametrize("name", ["GeneralizedDiceLoss", "FocalLoss", "DiceFocalLoss"])
def test_monai_s_losses_pass_over_what_is_not_known(name: str) -> None:
    loss = KnownVoxelsLoss(f"monai.losses.{name}")
    logits, target = random_pair()
    expected = loss(logits, target)
    hidden = target.clone()
    hidden[:, :, 3:] = IGNORED
    value = loss(logits, hidden)
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient[:, :, :3].abs().sum() > 0
    assert not gradient[:, :, 3:].any()
    assert value.item() != pytest.approx(expected.item(), abs=1e-4)
    other = torch.where(hidden == IGNORED, logits.detach() + 5, logits.detach())
    assert loss(other, hidden).item() == pytest.approx(value.item(), abs=1e-6)


def test_only_losses_that_a_configuration_may_name_are_wrapped() -> None:
    with pytest.raises(ConfigError, match="not allowed"):
        KnownVoxelsLoss("os.system")


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="reduction"):
        SoftDice(reduction="median")  # type: ignore[arg-type]
