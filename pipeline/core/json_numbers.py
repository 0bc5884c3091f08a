"""Figures as JSON can hold them: it has neither infinity nor NaN."""

from __future__ import annotations

import math
from typing import Annotated, Any, Self, SupportsFloat

from pydantic import BaseModel, BeforeValidator, ConfigDict


def finite(figure: SupportsFloat) -> float | None:
    """A figure as a plain float; None for infinity (PSNR of an exact image) and NaN."""
    number = float(figure)
    return number if math.isfinite(number) else None


def finite_tree(tree: Any) -> Any:
    """The same mapping, list or value, with None for each float that is not finite."""
    if isinstance(tree, dict):
        return {key: finite_tree(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite_tree(value) for value in tree]
    return finite(tree) if isinstance(tree, float) else tree


def _finite_or_none(figure: Any) -> float | None:
    return None if figure is None else finite(figure)


#: A figure; None where it was not measured, or is infinite or NaN.
Figure = Annotated[float | None, BeforeValidator(_finite_or_none)]
#: By name, such as psnr (dB), ssim, rmse_hu; or by tissue.
Figures = dict[str, Figure]
#: Of a figure.
Interval = tuple[Figure, Figure]


class JsonRecord(BaseModel):
    """Results that go into report.json and the registry, and are read from there again.

    A field with a default is left out of the JSON unless it was set; None that was set is null.
    Reading ignores what this version does not know.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it: dictionaries, lists, texts, finite numbers and None."""
        return finite_tree(self.model_dump(exclude_unset=True))

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Self:
        """What `to_dict` gave. Raises pydantic.ValidationError where a field is missing."""
        return cls.model_validate(found)
