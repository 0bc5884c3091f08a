"""Apply a restoration model to picture files; each result has its source's relative path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.refusals import Refusal
from pipeline.core.types import Picture
from pipeline.inference.restore import restored_frame, restored_levels
from pipeline.io.image_formats import NIFTI
from pipeline.io.picture_files import PictureFile, find_pictures, read_picture, write_picture
from pipeline.models.adapters.restorer import Restorer


def targets(
    root: Path, out: Path, left_out: list[Refusal] | None = None
) -> list[tuple[Path, Path]]:
    """(source, target) of each picture below `root`: targets have the same relative path in `out`.

    left_out: gets the Refusal of every file that is no picture. What lies in `out`, results of an
    earlier run, is no source. Raises ConfigError where `out` is
    the pictures' own folder: they would be overwritten.
    """
    folder = root.parent if root.is_file() else root
    if folder.resolve() == out.resolve():
        raise ConfigError(f"--out {out} is the folder of the pictures: choose another one")
    inside = out.resolve()
    others: list[Refusal] = []
    found = find_pictures(root, others.append)
    if left_out is not None:
        left_out += [one for one in others if not one.path.resolve().is_relative_to(inside)]
    return [
        (path, out / path.relative_to(folder))
        for path in found
        if inside not in path.resolve().parents
    ]


def export_picture(
    model: Restorer, source: Path, to: Path, *, style: torch.Tensor | None = None
) -> dict[str, int]:
    """Restore one file; returns the result's channels, rows, columns and bits a channel.

    style: [1, styles], of a model that has styles (pipeline.inference.style). For a model of
    sequences, the folder's other pictures are the frames before and after. Raises Unreadable for a
    file that cannot be used, and LdctError for a result that cannot be written.
    """
    picture = read_picture(source)
    if source.name.lower().endswith(NIFTI) and (model.enlarges > 1 or model.channels > 1):
        raise LdctError(f"{source.name}: NIfTI keeps neither colour nor more pixels; use PNG")
    if model.neighbours:
        levels = restored_frame(
            model, frames_around(source, picture, model.neighbours), style=style
        )
    else:
        levels = restored_levels(model, picture.levels, unknown=picture.unknown, style=style)
    write_picture(picture.with_levels(levels), to)
    return {
        "channels": len(levels),
        "rows": levels.shape[1],
        "columns": levels.shape[2],
        "bits": picture.depth.itemsize * 8,
    }


def frames_around(source: Path, picture: PictureFile, reach: int) -> list[Picture]:
    """Levels of a frame and its `reach` neighbours on each side, in the order of their names;
    beyond the ends the first or last frame is repeated.

    The slices of a NIfTI file are a sequence of their own. Raises LdctError where neighbours
    differ in size or channels.
    """
    if source.name.lower().endswith(NIFTI):
        last = len(picture.levels) - 1
        places = [np.clip(np.arange(last + 1) + step, 0, last) for step in steps(reach)]
        return [picture.levels[place] for place in places]
    paths = [path for path in find_pictures(source.parent) if path.parent == source.parent]
    middle = paths.index(source)
    chosen = [paths[min(max(middle + step, 0), len(paths) - 1)] for step in steps(reach)]
    frames = [picture.levels if path == source else read_picture(path).levels for path in chosen]
    if len({frame.shape for frame in frames}) > 1:
        raise LdctError(f"{source.name}: the frames beside it are of another size")
    return frames


def steps(reach: int) -> range:
    """Offsets of a frame's neighbours and itself: -reach to reach."""
    return range(-reach, reach + 1)
