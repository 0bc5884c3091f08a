"""Signs that adversarial training has collapsed or saturated."""

from __future__ import annotations

import torch

#: Where the running means start: values of a healthy training.
_HEALTHY = {"diversity": 1.0, "discriminator_auc": 0.5, "certainty": 0.5}
#: A figure's name in checkpoints of version 0.1.0 -> its name now.
_RENAMED = {"told_apart": "discriminator_auc"}
#: Weight of one more turn in the running means.
_SHARE = 0.05
#: Generated batches whose images differ less than this share of what real ones do have collapsed.
COLLAPSED = 0.25
#: Above this mean certainty of the discriminator the generator's gradient is nearly gone.
SATURATED = 0.98


class GanMonitor:
    """Running means of how varied generated images are, and how well the discriminator does.

    diversity: the spread over a generated batch, pixel by pixel, over that of the real batch.
    It sees a collapse onto a few images; a class that is missing shows in
    pipeline.metrics.generative alone. discriminator_auc: the share of pairs whose real image
    has the higher score, 0.5 for a discriminator that guesses. certainty: the probability that it
    gives to the truth, for losses that take scores as log odds, whose gradient `vanishes` as it
    nears 1. An alarm is 1 where the mean has passed its limit. The means start at healthy values,
    so that a fresh generator, which draws grey, has some thirty turns before an alarm.
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
        self._add("discriminator_auc", float(higher.mean()))
        if self.vanishes:
            right = torch.sigmoid(torch.cat([of_real, -of_fake]))
            self._add("certainty", float(right.mean()))

    def figures(self) -> dict[str, float]:
        """The running means, and 1 or 0 for `collapse_alarm` and `saturation_alarm`."""
        collapsed = self.means.get("diversity", 1.0) < COLLAPSED
        saturated = self.means.get("certainty", 0.5) > SATURATED
        alarms = {"collapse_alarm": float(collapsed), "saturation_alarm": float(saturated)}
        return {**self.means, **alarms}

    def restore(self, means: dict[str, float]) -> None:
        """Continue from the means of a checkpoint."""
        self.means = {_RENAMED.get(name, name): mean for name, mean in means.items()}

    def _add(self, name: str, value: float) -> None:
        mean = self.means.get(name, _HEALTHY[name])
        self.means[name] = (1 - _SHARE) * mean + _SHARE * value


def _spread(images: torch.Tensor) -> float:
    return float(images.detach().float().var(dim=0).mean().sqrt())
