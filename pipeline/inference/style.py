"""The style in which a model draws pictures: that of another picture, or a drawn one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.refusals import Unreadable
from pipeline.core.types import Picture
from pipeline.data.stored_pictures import smaller
from pipeline.io.colour import in_colour
from pipeline.io.image_formats import NIFTI
from pipeline.io.picture_files import read_picture
from pipeline.models.adapters.restorer import Restorer

#: Of a number that seeds torch's generators.
DIGITS = 18


def asked_style(model: Restorer, asked: str) -> torch.Tensor:
    """The code [1, styles] that `asked` names: a whole number draws one, a picture file has one.

    Raises ConfigError for a model that has one style, and for what is neither.
    """
    if not model.styles:
        raise ConfigError(
            f"--style {asked}: this model draws in one style; leave the option out, or take a "
            "model with a code, such as label_to_image_style"
        )
    if asked.isdecimal() and len(asked) <= DIGITS:
        return model.drawn_style(int(asked))
    path = Path(asked)
    if path.name.lower().endswith(NIFTI):
        raise ConfigError(f"--style {asked}: NIfTI has no one picture; give a PNG, JPEG or TIFF")
    try:
        levels = read_picture(path).levels
    except (Unreadable, LdctError) as fault:
        raise ConfigError(
            f"--style {asked}: neither a whole number of at most {DIGITS} digits nor a picture "
            f"that can be read: {fault}"
        ) from fault
    try:
        return picture_style(model, levels)
    except LdctError as fault:
        raise ConfigError(f"--style {asked}: {fault}") from fault


def picture_style(model: Restorer, levels: Picture) -> torch.Tensor:
    """The code [1, styles] of a picture in grey levels [1 or 3, rows, columns], which is made as
    small as training pictures were. Raises LdctError for a grey one where a model draws in colour.
    """
    image = in_colour(levels, model.colour)
    longest = max(image.shape[1:])
    if longest > model.style_side:
        image = smaller(image, model.style_side / longest)
    device = next(model.parameters()).device
    with torch.inference_mode():
        return model.style_of(torch.from_numpy(np.array(image, dtype=np.float32))[None].to(device))
