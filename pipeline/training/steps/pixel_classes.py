"""Cross-entropy of each pixel's classes, for networks of pipeline.models.pixel_classes."""

from __future__ import annotations

from typing import Any

import torch
from monai.losses import DiceLoss

from pipeline.models.pixel_classes import PixelClasses
from pipeline.training.steps.base import Batch
from pipeline.training.steps.supervised import Supervised


class ClassesOfPixels(Supervised):
    """Supervised, on the scores of classes, of which each target pixel has the nearest.

    softness: a pixel counts for its `neighbours` nearest classes, by a Gaussian of their distances
    in the picture's own units; 0: for the nearest alone. rebalancing: rare classes count more, by
    1 / ((1 - rebalancing) share + rebalancing / classes), with the shares of all pixels seen so far
    (Zhang et al., ECCV 2016: 5 neighbours, softness 5 and rebalancing 0.5); 0: all alike.
    dice: what the mean Dice loss over classes counts beside it. `loss` is not used.
    """

    supports_ddp = False

    def __init__(
        self,
        *args: Any,
        softness: float = 0.0,
        neighbours: int = 5,
        rebalancing: float = 0.0,
        dice: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        network = self.model.network
        if not isinstance(network, PixelClasses):
            raise TypeError(f"model: {type(network).__name__} has no classes of pixels")
        if softness < 0 or neighbours < 1 or not 0 <= rebalancing <= 1 or dice < 0:
            raise ValueError(
                "expected softness and dice >= 0, neighbours >= 1 and rebalancing in [0, 1], got "
                f"{softness}, {dice}, {neighbours} and {rebalancing}"
            )
        self.network, self.softness, self.rebalancing = network, softness / self.scale, rebalancing
        self.neighbours = min(neighbours, len(network.values)) if softness else 1
        self.dice = dice
        self.dice_loss = DiceLoss(softmax=True)
        self.seen = torch.zeros(len(network.values), dtype=torch.float64)

    def backward(self, batch: Batch, *, share: float) -> dict[str, float]:
        """Logs the loss, and the share of pixels whose likeliest class is the target's."""
        scores = self.network.scores(self.model.normalised(batch["input"]))  # type: ignore[operator]
        wanted = self.soft_classes(self.model.normalised(batch["target"]))  # type: ignore[operator]
        nearest = wanted.argmax(dim=1)
        counts = torch.bincount(nearest.flatten(), minlength=len(self.seen))
        self.seen += counts.to(self.seen)
        entropy = -(wanted * scores.log_softmax(dim=1)).sum(dim=1)
        weight = self.weights().to(scores)[nearest]
        loss = (entropy * weight).sum() / weight.sum()
        if self.dice:
            loss = loss + self.dice * self.dice_loss(scores, wanted)
        (loss * share).backward()
        right = (scores.argmax(dim=1) == nearest).float().mean()
        return {"loss": loss.item(), "right": right.item()}

    def soft_classes(self, target: torch.Tensor) -> torch.Tensor:
        """[batch, classes, rows, columns] that sum to 1, of a normalised target."""
        values = self.network.values
        pixels = target.movedim(1, -1)
        if values.shape[1] == 3:  # of L*a*b* the lightness is no class's
            pixels = torch.cat([torch.zeros_like(pixels[..., :1]), pixels[..., 1:]], dim=-1)
        flat = pixels.reshape(-1, values.shape[1])
        near = torch.cdist(flat, values).topk(self.neighbours, largest=False)
        share = torch.ones_like(near.values)
        if self.softness:
            share = torch.exp(-near.values.square() / (2 * self.softness**2)) + 1e-12
        share = share / share.sum(dim=1, keepdim=True)
        soft = torch.zeros(len(flat), len(values), device=flat.device)
        soft.scatter_(1, near.indices, share)
        return soft.reshape(*pixels.shape[:-1], len(values)).movedim(-1, 1)

    def weights(self) -> torch.Tensor:
        """What each class counts, [classes]; of a mean of 1 over the pixels seen."""
        if not self.rebalancing:
            return torch.ones_like(self.seen)
        shares = self.seen / self.seen.sum()
        mixed = (1 - self.rebalancing) * shares + self.rebalancing / len(shares)
        return 1 / mixed / (shares / mixed).sum()

    def state_dict(self) -> dict:
        """That of Supervised, and how often each class was seen."""
        return {**super().state_dict(), "seen": self.seen}

    def load_state_dict(self, state: dict) -> None:
        """Restore what state_dict returned."""
        super().load_state_dict(state)
        self.seen = state["seen"].cpu()
