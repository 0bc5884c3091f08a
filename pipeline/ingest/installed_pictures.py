"""Photographs of Debian packages under open licences, where they are installed.

`bash .ci/install-pictures` installs them. No run needs them: a restorer learns better from more.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from pipeline.config.restoration import PackageName
from pipeline.core.refusals import Disposition, Refusal
from pipeline.core.types import Picture

#: Where Debian's packages of pictures put them.
BACKGROUNDS = Path("/usr/share/backgrounds")
#: The photographs of each package, below BACKGROUNDS; drawings and patterns are left out. CC-BY,
#: CC-BY-SA or CC0; those of mate-backgrounds GPL-2+.
PHOTOGRAPHS: dict[PackageName, tuple[str, ...]] = {
    "lomiri-wallpapers-16.04": (
        "Dragonfly_by_Bolly.jpg",
        "Picture_0B_by_freespace.jpg",
        "Picture_1A_by_freespace.jpg",
        "Wine_by_Jakkub_Mede.jpg",
        "aitzgorri_by_Aitzol_Berasategi.jpg",
        "free_by_Peter_Nerlich.jpg",
        "friends_by_Aitzol_Berasategi.jpg",
        "greentock_by_Peter_Nerlich.jpg",
        "life_by_Aitzol_Berasategi.jpg",
        "picosdeeuropa_by_Aitzol_Berasategi.jpg",
        "seeding_by_Clements_Engelhardt.jpg",
        "sunset_by_Aitzol_Berasategi.jpg",
    ),
    "lomiri-wallpapers-20.04": ("Kleiber_by_Lukas_Baubkus.jpg",),
    "mate-backgrounds": (
        "mate/nature/Aqua.jpg",
        "mate/nature/Blinds.jpg",
        "mate/nature/Dune.jpg",
        "mate/nature/FreshFlower.jpg",
        "mate/nature/Garden.jpg",
        "mate/nature/GreenMeadow.jpg",
        "mate/nature/LadyBird.jpg",
        "mate/nature/RainDrops.jpg",
        "mate/nature/Storm.jpg",
        "mate/nature/TwoWings.jpg",
        "mate/nature/Wood.jpg",
        "mate/nature/YellowFlower.jpg",
    ),
}
#: Pixels along the longer side, at most: the traces of camera and JPEG in single pixels are lost.
LONGEST_SIDE = 1024


@dataclass(frozen=True)
class InstalledPackage:
    """A package's photographs that are on this machine, in the order of their names."""

    name: PackageName
    pictures: list[Path]

    def missing(self) -> Refusal:
        """What a report says of a package that is not installed."""
        reason = f"{self.name} is not installed; bash .ci/install-pictures installs it"
        return Refusal(BACKGROUNDS / PHOTOGRAPHS[self.name][0], Disposition.EXCLUDED, reason)


def find_installed(name: PackageName) -> InstalledPackage:
    """The package's photographs as they are on this machine."""
    places = [BACKGROUNDS / picture for picture in PHOTOGRAPHS[name]]
    return InstalledPackage(name, [path for path in places if path.is_file()])


def installed_picture(path: Path, longest_side: int = LONGEST_SIDE) -> Picture:
    """Grey levels [3, rows, columns] of a photograph, at most so many pixels along a side."""
    with PillowImage.open(path) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail(
        (longest_side, longest_side), PillowImage.Resampling.LANCZOS, reducing_gap=3.0
    )
    return np.moveaxis(np.asarray(picture, dtype=np.float32), -1, 0).copy()
