"""Is the game between generator and discriminator still on?"""

from __future__ import annotations

import torch

#: What one more turn counts in the running means.
_SHARE = 0.05
#: Generated batches whose images differ less than this share of what real ones do have collapsed.
COLLAPSED = 0.25
#: A discriminator that tells so many pairs apart leaves its opponent nothing to learn from.
SATURATED = 0.99


class Watch:
    """Running means of how varied the generated images are, and how often they are told apart.

    diversity: the spread over a generated batch, pixel by pixel, over that of the real batch.
    It sees a collapse onto a few images; a class that is missing shows in
    pipeline.metrics_generative alone. told_apart: the share of pairs whose real image has the
    higher score, 0.5 for a discriminator that guesses. An alarm is 1 where the mean has crossed
    its limit; the second one rings only where the loss `vanishes` then.
    """

    def __init__(self, *, vanishes: bool) -> None:
        self.vanishes = vanishes
        self.means: dict[str, float] = {}

    def see_images(self, real: torch.Tensor, fake: torch.Tensor) -> None:
        """Both [batch, ...]; nothing is learnt from a batch of one."""
        if len(real) > 1:
            self._add("diversity", _spread(fake) / max(_spread(real), 1e-12))

    def see_scores(self, real: torch.Tensor, fake: torch.Tensor) -> None:
        """Scores of real and generated images, [batch, ...]."""
        of_real, of_fake = (scores.detach().float().flatten(1).mean(1) for scores in (real, fake))
        higher = (of_real[:, None] > of_fake).float() + 0.5 * (of_real[:, None] == of_fake)
        self._add("told_apart", float(higher.mean()))

    def figures(self) -> dict[str, float]:
        collapsed = self.means.get("diversity", 1.0) < COLLAPSED
        saturated = self.vanishes and self.means.get("told_apart", 0.5) > SATURATED
        alarms = {"collapse_alarm": float(collapsed), "saturation_alarm": float(saturated)}
        return {**self.means, **alarms}

    def _add(self, name: str, value: float) -> None:
        self.means[name] = (1 - _SHARE) * self.means.get(name, value) + _SHARE * value


def _spread(images: torch.Tensor) -> float:
    return float(images.detach().float().var(dim=0).mean().sqrt())
