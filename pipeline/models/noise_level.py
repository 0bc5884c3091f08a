"""Noise of unknown strength, estimated from the whole image.

A convolutional network by itself judges the noise from a pixel's surroundings, where fine texture
looks like noise: of a photograph without any it takes its foliage. The whole image says it better,
since some place in it is nearly always smooth.
"""

from __future__ import annotations

import torch
from torch.nn import functional

#: 0 on every plane and of norm 1 on white noise (Immerkaer, Computer Vision and Image
#: Understanding 64 (1996) 300), which averages over the image; here smooth blocks are what counts.
_SECOND_DIFFERENCES = torch.tensor([[1.0, -2, 1], [-2, 4, -2], [1, -2, 1]])[None, None] / 6
#: Pixels along a block, the share of the blocks that are smoother than the one that is taken, and
#: what of white noise that one has.
BLOCK, SHARE, OF_WHITE_NOISE = 8, 0.1, 0.794


@torch.no_grad()
def noise_level(image: torch.Tensor) -> torch.Tensor:
    """The standard deviation of white noise in [batch, channels, rows, columns], [batch], in the
    image's own units; images of 10 x 10 pixels and more.

    Blocks that hold the least or greatest value of their image are left out where others are: what
    is clipped has no noise. Coloured noise is taken for weaker than it is.
    """
    planes = image.float().flatten(0, 1)[:, None]
    strength = functional.avg_pool2d(
        functional.conv2d(planes, _SECOND_DIFFERENCES.to(planes)).square(), BLOCK
    ).sqrt()
    inner = planes[..., 1:-1, 1:-1]
    highest = functional.max_pool2d(inner, BLOCK) >= inner.amax(dim=(2, 3), keepdim=True)
    lowest = functional.max_pool2d(-inner, BLOCK) >= (-inner).amax(dim=(2, 3), keepdim=True)
    of_image = strength.reshape(image.shape[0], -1)
    clipped = (highest | lowest).reshape(of_image.shape)
    clipped &= ~clipped.all(dim=1, keepdim=True)
    return _quantile(of_image.masked_fill(clipped, torch.inf), ~clipped) / OF_WHITE_NOISE


def _quantile(values: torch.Tensor, sound: torch.Tensor) -> torch.Tensor:
    """[rows]: the SHARE quantile of each row's sound values, the others being infinite; written
    out, since torch.nanquantile is another one in ONNX."""
    ordered, last = values.sort(dim=1).values, sound.sum(dim=1, keepdim=True) - 1
    place = SHARE * last
    below = place.floor().long()
    above = torch.minimum(below + 1, last)
    low, high = ordered.gather(1, below), ordered.gather(1, above)
    return torch.lerp(low, high, place - below)[:, 0]
