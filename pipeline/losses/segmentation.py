"""Losses between class scores and a label map, where MONAI's differ from the course's.

All take logits [batch, classes, ...] and class numbers [batch, 1, ...], the background being
class 0; voxels numbered IGNORED count nowhere, and those numbered NOT_LISTED only as not being of
the classes that are there: they may be background, or of a class that the label map does not list.
`KnownVoxelsLoss` lets generalised Dice, focal and
the others of monai.losses take the same pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from pipeline.config.component import build
from pipeline.config.sections import Component
from pipeline.config.segmentation import IGNORED, NOT_LISTED


class SoftDice(nn.Module):
    """For each class `1 - 2 sum(t p) / (sum(t^2) + sum(p^2))`, p the softmax, t the target.

    Milletari et al., 3DV 2016. Sums run over the whole batch (`over_batch`), so that a class
    which a single small patch hardly shows is still measured on enough voxels, or image by
    image. A class without a voxel there is left out: its fraction would be 1 whatever the
    network does, and so would only dilute the mean. False positives of it are penalised by the
    cross-entropy. Needs no smoothing constant: what is left in has a denominator of
    at least 1. Equals monai.losses.DiceLoss(squared_pred=True) where every class is present.
    """

    def __init__(
        self,
        *,
        background: bool = False,
        over_batch: bool = True,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        if reduction not in ("mean", "sum"):
            raise ValueError(f"expected a reduction of mean or sum, got {reduction}")
        self.first = 0 if background else 1
        self.over_batch = over_batch
        self.reduction = reduction

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """A scalar for logits [batch, classes, ...] and class numbers [batch, 1, ...]."""
        probability = logits.float().softmax(dim=1).flatten(2)
        number = target.flatten(1).long()
        overlap, present = _by_class(probability, number)
        # What is not listed may be background, or of a class that this item does not show.
        shown = (present > 0).float()
        shown[:, 0] = 0
        listed, not_listed = number < logits.shape[1], number == NOT_LISTED
        voxels = torch.stack([listed, not_listed], dim=-1).float()
        of_listed, of_others = torch.bmm(probability.square(), voxels).unbind(dim=-1)
        squares = present + of_listed + shown * of_others
        if self.over_batch:
            overlap, present, squares = (each.sum(dim=0) for each in (overlap, present, squares))
        overlap, present, squares = (e[..., self.first :] for e in (overlap, present, squares))
        losses = (1 - 2 * overlap / squares.clamp(min=1e-6))[present > 0]
        # An empty sum is 0 and still has a (zero) gradient.
        return losses.sum() / (max(1, losses.numel()) if self.reduction == "mean" else 1)


class PixelCrossEntropy(nn.Module):
    """`-(1/N) sum log p` of the right class, over the N voxels that are known.

    class_weights: one for each class, the background's first, for classes of unlike size.
    """

    class_weights: torch.Tensor | None

    def __init__(self, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        weights = (
            None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        )
        self.register_buffer("class_weights", weights)

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """A scalar for logits [batch, classes, ...] and class numbers [batch, 1, ...]."""
        numbers = _without_not_listed(target)[:, 0].long()
        weights = self.class_weights
        summed = functional.cross_entropy(
            logits.float(), numbers, weights, ignore_index=IGNORED, reduction="sum"
        )
        known = numbers[numbers != IGNORED]
        total = known.numel() if weights is None else weights[known].sum()
        # PyTorch's own mean is not a number where every voxel is ignored.
        return summed / max(float(total), 1e-6)


class DiceCrossEntropy(nn.Module):
    """Soft Dice and cross-entropy, weighted: one for small classes, one for smooth gradients."""

    def __init__(
        self,
        *,
        dice: float = 1.0,
        cross_entropy: float = 1.0,
        background: bool = False,
        over_batch: bool = True,
    ) -> None:
        super().__init__()
        self.weights = dice, cross_entropy
        self.dice = SoftDice(background=background, over_batch=over_batch)
        self.cross_entropy = PixelCrossEntropy()

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """A scalar for logits [batch, classes, ...] and class numbers [batch, 1, ...]."""
        dice, cross_entropy = self.weights
        return dice * self.dice(logits, target) + cross_entropy * self.cross_entropy(logits, target)


class KnownVoxelsLoss(nn.Module):
    """A loss of monai.losses over the voxels that are known: `loss` is its dotted path.

    Raises ConfigError for a loss that a configuration may not name, or other arguments than it
    takes. Where nothing is known the network counts as certain of a background that is there,
    which adds nothing to the overlap or the error of any class. The background is no class of
    its own unless `args` has include_background: its share would then grow by what is not known.
    """

    CERTAIN = 30.0  # the logit; softmax then rounds to 1 in float32

    def __init__(self, loss: str, args: dict[str, Any] | None = None) -> None:
        super().__init__()
        # MONAI's focal loss alone calls it use_softmax.
        softmax = "use_softmax" if loss.endswith(".FocalLoss") else "softmax"
        arguments = {"include_background": False, softmax: True, **(args or {})}
        component = Component(target=loss, args=arguments)
        self.loss = build(component, key="loss", base=nn.Module, to_onehot_y=True)

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """A scalar for logits [batch, classes, ...] and class numbers [batch, 1, ...]."""
        unknown = _without_not_listed(target) == IGNORED
        background = torch.zeros_like(logits)
        background[:, 0] = self.CERTAIN
        return self.loss(
            torch.where(unknown, background, logits.float()), target.masked_fill(unknown, 0)
        )


def _without_not_listed(target: torch.Tensor) -> torch.Tensor:
    """Class numbers with IGNORED where background may be a class that is not listed."""
    return target.masked_fill(target == NOT_LISTED, IGNORED)


def _by_class(probability: torch.Tensor, number: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For each class [batch, classes]: the sum of its probability where it is, and of how many
    voxels that is; probability [batch, classes, voxels], number [batch, voxels]."""
    listed = number < probability.shape[1]
    at = number.where(listed, 0)
    right = probability.gather(1, at[:, None])[:, 0] * listed
    nothing = probability.new_zeros(probability.shape[:2])
    return nothing.scatter_add(1, at, right), nothing.scatter_add(1, at, listed.float())
