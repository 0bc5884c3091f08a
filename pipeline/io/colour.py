"""Grey levels, luma and CIE L*a*b* of pictures [channels, rows, columns]."""

from __future__ import annotations

import numpy as np
from skimage import color

from pipeline.config.restoration import Colour
from pipeline.core.errors import LdctError
from pipeline.core.types import Picture

#: Grey levels of a picture run from 0 to this, whatever its file's depth.
WHITE = 255.0


def in_colour(levels: Picture, colour: Colour) -> Picture:
    """Levels [1 or 3, rows, columns] in a run's colour space: grey, rgb or lab.

    Raises LdctError for a grey picture where colour is needed.
    """
    if colour == "grey":
        return levels if len(levels) == 1 else _luma(levels)
    if len(levels) != 3:
        raise LdctError(f"a grey picture has no colour to learn or restore (colour: {colour})")
    return levels if colour == "rgb" else lab_of(levels)


def lab_of(levels: Picture) -> Picture:
    """L* from 0 to 100, a* and b*, of grey levels [3, rows, columns] in sRGB, D65."""
    lab = color.rgb2lab(np.moveaxis(levels, 0, -1) / WHITE)
    return np.moveaxis(lab, -1, 0).astype(np.float32)


def lightness_of(levels: Picture) -> Picture:
    """L* [1, rows, columns] of 1 or 3 channels."""
    return lab_of(np.repeat(levels, 3, axis=0) if len(levels) == 1 else levels)[:1]


def levels_of(picture: Picture, colour: Colour) -> Picture:
    """The inverse of in_colour: levels within 0 and WHITE."""
    if colour == "lab":
        # L* is clipped here: beyond sRGB's gamut skimage clips, and warns.
        lab = np.moveaxis(picture, 0, -1).astype(np.float64)
        xyz = color.lab2xyz(np.where([True, False, False], lab.clip(0, 100), lab))
        picture = np.moveaxis(color.xyz2rgb(xyz), -1, 0) * WHITE
    return np.clip(picture, 0, WHITE).astype(np.float32)


def chroma_error(output: Picture, target: Picture) -> float:
    """Mean distance in (a*, b*) of two pictures [3, rows, columns] in L*a*b*."""
    return float(np.hypot(*(output[1:] - target[1:])).mean())


def _luma(levels: Picture) -> Picture:
    grey = color.rgb2gray(np.moveaxis(levels, 0, -1) / WHITE) * WHITE
    return grey[None].astype(np.float32)
