"""Classes over a slice: outlines, so that what they enclose can still be read."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.config.segmentation import IGNORED
from pipeline.core.units import Window

#: Hues by steps of the golden section: neighbours in number differ most.
_HUE_STEP = 0.618034
#: How much of the colour the inside of a class takes.
TINT = 0.2


def colour_of(number: int) -> tuple[int, int, int]:
    """A class's colour, the same in every picture, from 0 to 255."""
    red, green, blue = colorsys.hsv_to_rgb(number * _HUE_STEP % 1, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def overlay(
    image_hu: NDArray[np.float32], classes: NDArray[np.uint8], window: Window
) -> NDArray[np.uint8]:
    """A slice [rows, columns] in a display window, its classes tinted and outlined: RGB
    [rows, columns, 3]. Background and IGNORED stay grey."""
    grey = np.clip((image_hu - window.low_hu) / window.width, 0, 1) * 255
    picture = np.repeat(grey[..., None], 3, axis=-1)
    for number in np.setdiff1d(np.unique(classes), (0, IGNORED)):
        inside = classes == number
        outline = inside & ~ndimage.binary_erosion(inside, border_value=1)
        colour = np.array(colour_of(int(number)))
        picture[inside] += TINT * (colour - picture[inside])
        picture[outline] = colour
    return np.rint(picture).astype(np.uint8)
