"""The scale of the noise, varied at random: a transform of MONAI's kind."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import MapTransform, RandomizableTransform

from pipeline.config.transforms import PAIR


class RandScaleNoised(RandomizableTransform, MapTransform):
    """Scale what the degradation added, input - target, by a random factor of a range.

    One model then meets more than one noise level. Noise varies within a patient too, so a
    range also covers thinner and thicker bodies than the training set has.
    """

    def __init__(self, factor_range: tuple[float, float]) -> None:
        RandomizableTransform.__init__(self, prob=1.0)
        MapTransform.__init__(self, PAIR)
        self.factor_range = factor_range

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        self.randomize(None)
        factor = self.R.uniform(*self.factor_range)
        target = data["target"]
        return {**data, "input": target + (data["input"] - target) * factor}
