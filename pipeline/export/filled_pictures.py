"""Export of pictures whose holes, marked by masks, a generator of grey pictures fills."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config.task_runs import GenerateRun
from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.types import Progress
from pipeline.generative.fill import Fill, filled
from pipeline.io.colour import WHITE
from pipeline.io.picture_files import PictureFile, find_pictures, read_picture, write_picture
from pipeline.models.adapters.generative import Generative

#: The white of what generators learn from (pipeline.ingest.bundled_pictures).
WHITE_OF = {"digits": 16.0, "faces": WHITE, "idx": WHITE, "photographs": WHITE}


@dataclass(frozen=True)
class Masks:
    """Masks of the holes in pictures: white is a hole, black is known, and nothing in between.

    path: one mask for all pictures, or a folder with a mask for each, of the same relative path
    as the picture has below `root`; only the suffix may be another. Raises ConfigError where
    `path` does not exist.
    """

    path: Path
    root: Path

    def __post_init__(self) -> None:
        if not self.path.exists():
            raise ConfigError(
                f"--region {self.path}: for pictures, give a mask picture (white: hole), or a "
                "folder of masks of the same names"
            )

    def of(self, picture: Path, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """The holes of a picture of `shape`: [rows, columns], True in the holes.

        Raises Unreadable for a damaged mask, and LdctError where there is not one mask, or it has
        another size or grey levels.
        """
        levels = read_picture(self._path_of(picture)).levels
        hole = levels[0] == WHITE
        if not ((levels == levels[:1]).all() and (hole | (levels[0] == 0)).all()):
            raise LdctError(
                f"{picture.name}: its mask has more than white (hole) and black (known)"
            )
        if hole.shape != shape:
            raise LdctError(f"{picture.name}: its mask is of {hole.shape}, the picture of {shape}")
        return hole

    def _path_of(self, picture: Path) -> Path:
        if self.path.is_file():
            return self.path
        place = self.path / picture.relative_to(self.root)
        found = [
            path
            for path in find_pictures(self.path)
            if path.with_suffix("") == place.with_suffix("")
        ]
        if len(found) != 1:
            raise LdctError(f"{picture.name}: {len(found)} masks of that name in {self.path}")
        return found[0]


def white_of(config: GenerateRun) -> float:
    """The generator's white level; raises ConfigError for a generator of CT, not pictures."""
    source = config.generation.source
    if source not in WHITE_OF:
        raise ConfigError(f"{config.name} draws CT in HU and takes CT, not pictures")
    return WHITE_OF[source]


def fill_pictures(
    model: Generative,
    pairs: list[tuple[Path, Path]],
    masks: Masks,
    fill: Fill,
    *,
    white: float,
    progress: Progress = lambda pictures: None,
) -> list[dict[str, object]]:
    """Fill the holes of pictures and write each to its target; (source, target) in `pairs`.

    Several pictures are a sequence of frames. Known pixels, depth and orientation stay. white:
    the generator's white level. Returns a row of report.json for each picture. Raises Unreadable
    and LdctError, and then has written none.
    """
    files = [read_picture(source) for source, _ in pairs]
    for (source, _), file in zip(pairs, files, strict=True):
        if len(file.levels) > 1:
            raise LdctError(f"{source.name}: the generator draws grey levels; convert it to grey")
        if file.levels.shape != files[0].levels.shape:
            raise LdctError(f"{source.name}: the frames of a sequence are of one size")
    regions = [
        masks.of(source, file.levels.shape[1:])
        for (source, _), file in zip(pairs, files, strict=True)
    ]
    images = np.stack([file.levels[0] for file in files]) * np.float32(white / WHITE)
    done = filled(
        model, images, np.stack(regions), fill, sequence=len(pairs) > 1, progress=progress
    )
    reached = {row["slice"] - 1: row for row in done.facts()["slices"]}
    rows = []
    for number, ((_, to), file) in enumerate(zip(pairs, files, strict=True)):
        made = done.images[number] * np.float32(WHITE / white)
        levels = np.where(regions[number], made, file.levels[0])[None]
        write_picture(file.with_levels(levels), to)
        figures = {name: reached.get(number, {}).get(name) for name in ("loss", "explained")}
        rows.append({**_size(file), "pixels": int(regions[number].sum()), **figures})
    return rows


def _size(file: PictureFile) -> dict[str, int]:
    _, rows, columns = file.levels.shape
    return {"rows": rows, "columns": columns, "bits": file.depth.itemsize * 8}
