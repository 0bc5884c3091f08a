"""A restorer over pictures: arrays, and what files hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.config.restoration import CHANNELS
from pipeline.core.errors import LdctError
from pipeline.core.types import Picture
from pipeline.io.colour import lab_of, levels_of, lightness_of
from pipeline.models.adapters.restorer import Restorer

#: Pixels in a network at once; larger pictures are processed in overlapping pieces.
MAX_PIXELS = 2**20
PIECE, OVERLAP = 512, 0.25


def restored(model: Restorer, picture: Picture, *, style: torch.Tensor | None = None) -> Picture:
    """The model's picture for one [channels, rows, columns] as the model sees them.

    style: [1, styles], of a model that has styles; by default the mean of them. Runs where the
    model's weights are, in fp32. Raises LdctError where the output is not finite.
    """
    device = next((weights.device for weights in model.parameters()), torch.device("cpu"))
    image = torch.from_numpy(np.array(picture, dtype=np.float32))[None].to(device)
    restore = partial(_in_pieces, model, style=style)
    with torch.inference_mode():
        output = mean_of_turns(restore, image) if model.self_ensemble else restore(image)
    found = output[0].cpu().numpy()
    if not np.isfinite(found).all():
        raise LdctError("the model's output holds values that are not numbers; nothing was kept")
    return found


def _in_pieces(model: Restorer, image: torch.Tensor, *, style: torch.Tensor | None) -> torch.Tensor:
    """The model's output for [1, channels, rows, columns]; of a large picture piece by piece."""
    if image.shape[-2] * image.shape[-1] <= MAX_PIXELS:
        return model(image, style)
    # MONAI takes seconds to import
    from monai.inferers import sliding_window_inference

    output: torch.Tensor = sliding_window_inference(
        image,
        (PIECE, PIECE),
        1,
        partial(model, of_whole=model.of_whole(image) if style is None else style),
        overlap=OVERLAP,
        mode="gaussian",
    )
    return output


def mean_of_turns(
    restore: Callable[[torch.Tensor], torch.Tensor], image: torch.Tensor
) -> torch.Tensor:
    """The mean of what `restore` makes of the four quarter turns of [..., rows, columns] and of
    their mirror images, each turned back."""
    outputs = []
    for quarter in range(4):
        turned = torch.rot90(image, quarter, (-2, -1))
        both = restore(turned) + restore(turned.flip(-1)).flip(-1)
        outputs.append(torch.rot90(both, -quarter, (-2, -1)))
    return torch.stack(outputs).sum(dim=0) / 8


def restored_levels(
    model: Restorer,
    levels: Picture,
    *,
    unknown: NDArray[np.bool_] | None = None,
    style: torch.Tensor | None = None,
) -> Picture:
    """The same for any picture in grey levels [channels, rows, columns], and back in them.

    A model of grey pictures restores each channel by itself; one of colour gives a grey picture
    back as grey, unless it makes colour. unknown: [rows, columns], for a model that fills holes.
    """
    if model.hides and unknown is not None:
        levels = np.where(unknown, np.float32(np.nan), levels)
    channels = CHANNELS[model.colour]
    if channels == 1:
        each = [restored(model, one[None], style=style) for one in levels]
        return levels_of(np.concatenate(each), "grey")
    if model.keeps_lightness:
        return levels_of(restored(model, lightness_of(levels), style=style), "lab")
    if model.input_channels == 1:
        grey = levels.mean(axis=0, keepdims=True)
        return levels_of(restored(model, grey, style=style), model.colour)
    seen = np.repeat(levels, channels, axis=0) if len(levels) == 1 else levels
    seen = lab_of(seen) if model.colour == "lab" else seen
    found = levels_of(restored(model, seen, style=style), model.colour)
    return found.mean(axis=0, keepdims=True) if len(levels) == 1 else found


def restored_frame(
    model: Restorer, frames: Sequence[Picture], *, style: torch.Tensor | None = None
) -> Picture:
    """The middle one of `frames`, each [channels, rows, columns], channel by channel."""
    stacks = np.stack(frames, axis=1)
    return levels_of(
        np.concatenate([restored(model, stack, style=style) for stack in stacks]), "grey"
    )
