"""Drawing one synthetic patient: habitus, contrast phase, organs, vessel trees, nodules.

Everything random is drawn here, before anything is painted, so a patient does not change with the
matrix or the noise. Sizes and positions are those of an adult supine torso with the arms up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.physics.phantoms.canvas import Ellipsoid, Image, Label, Texture, Tissue, grow_tree
from pipeline.physics.phantoms.tissues import PHASES, draw_tissues

LENGTH_MM = 255.0  # anatomy shown: from the tracheal bifurcation to the middle of the kidneys

# centre (x, y, level), half axes and tilt in degrees of an average adult
_ORGANS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float], float]] = {
    "heart": ((20, -24, 88), (62, 45, 56), -32),
    "left_ventricle": ((45, -29, 94), (33, 18, 30), -38),
    "right_ventricle": ((8, -46, 96), (36, 16, 32), -22),
    "right_atrium": ((-27, -20, 86), (18, 24, 32), 10),
    "left_atrium": ((4, 6, 72), (31, 14, 22), 5),
    "liver_right": ((-68, -4, 182), (78, 92, 88), 0),
    "liver_left": ((-2, -48, 162), (76, 36, 52), -12),
    "spleen": ((98, 38, 178), (32, 55, 54), 30),
    "stomach": ((60, -22, 168), (31, 40, 50), 28),
    "antrum": ((22, -44, 204), (42, 15, 20), -12),
    "gallbladder": ((-40, -50, 222), (13, 20, 24), 25),
    "kidney_right": ((-64, 42, 238), (26, 31, 55), 32),
    "kidney_left": ((66, 41, 225), (27, 31, 56), -32),
    "hepatic_flexure": ((-88, -42, 252), (20, 25, 26), 20),
    "splenic_flexure": ((94, -16, 208), (18, 27, 34), -15),
    "descending_colon": ((102, 14, 250), (15, 18, 42), 10),
}

# these keep their places within each other
_HEART = ("heart", "left_ventricle", "right_ventricle", "right_atrium", "left_atrium")
# leaves a side, radius of the last branch, reach as a share of the cage, root (y, level) in mm
_LUNG_TREES: dict[str, tuple[int, float, float, float, float]] = {
    "artery": (600, 0.75, 0.94, -2, 30),
    "vein": (380, 0.75, 0.94, 6, 62),
    "bronchus": (60, 0.9, 0.75, 2, 30),
}


@dataclass(frozen=True)
class Gut:
    """A piece of stomach or bowel: wall and content by tissue name, ``gas`` as a share of it."""

    shape: Ellipsoid
    wall: str
    content: str
    gas: float
    wall_mm: float = 2.5


@dataclass(frozen=True)
class Patient:
    """What makes one patient; lengths in mm, tissues by name."""

    phase: str
    cage_mm: tuple[float, float]  # half width and half depth inside the ribs
    fat_mm: float  # mean subcutaneous thickness
    muscle_mm: float
    breast_mm: float  # 0: none
    rib_phase: float
    spine_phase: float
    dome_mm: tuple[float, float]  # level of the top of the right and left diaphragm
    tissues: dict[str, Tissue]
    organs: dict[str, Ellipsoid]
    gut: tuple[Gut, ...]
    nodules: tuple[tuple[Ellipsoid, Tissue], ...]
    lesions: tuple[Ellipsoid, ...]
    trees: dict[str, Image]
    texture: Texture

    @property
    def couch_y_mm(self) -> float:
        """Where the back rests: a little inside its surface, as it is pressed flat."""
        return self.cage_mm[1] + self.muscle_mm + 22 + 0.6 * self.fat_mm


def draw_patient(generator: np.random.Generator, *, levels_mm: Image) -> Patient:
    """Draw a patient; nodules and lesions are centred near one of ``levels_mm`` [slices]."""
    phase = str(generator.choice(list(PHASES)))
    fat = generator.uniform(6, 22)
    cage = (generator.uniform(124, 137) + 0.25 * fat, generator.uniform(79, 88) + 0.4 * fat)
    organs = _draw_organs(generator, cage_mm=cage)
    liver = organs["liver_right"]
    dome = liver.centre_mm[2] - liver.half_axes_mm[2] + 12  # the diaphragm lies on the liver
    return Patient(
        phase=phase,
        cage_mm=cage,
        fat_mm=fat,
        muscle_mm=generator.uniform(9, 14),
        breast_mm=float(generator.choice([0, 1]) * generator.uniform(35, 50)),
        rib_phase=generator.uniform(),
        spine_phase=generator.uniform(),
        dome_mm=(dome, dome + generator.normal(11, 4)),
        tissues=draw_tissues(generator, phase=phase),
        organs=organs,
        gut=_draw_gut(generator, organs=organs),
        nodules=_draw_nodules(generator, cage_mm=cage, levels_mm=levels_mm),
        lesions=_draw_lesions(generator, liver=organs["liver_right"], levels_mm=levels_mm),
        trees=_draw_trees(generator, cage_mm=cage),
        texture=Texture(generator),
    )


def _draw_organs(
    generator: np.random.Generator, *, cage_mm: tuple[float, float]
) -> dict[str, Ellipsoid]:
    stretch = np.array([cage_mm[0] / 132, cage_mm[1] / 88, 1])
    trunk = generator.normal(0, (2, 2, 7))  # organs ride up and down together
    heart = generator.normal(0, (4, 3, 3)), generator.normal(0, 3), generator.normal(1, 0.04)
    organs = {}
    for name, (centre, half_axes, tilt) in _ORGANS.items():
        own = generator.normal(0, (4, 3, 6)), generator.normal(0, 6), generator.normal(1, 0.07)
        move, turn, scale = heart if name in _HEART else own
        place = np.array(centre) * stretch + trunk + move
        size = np.array(half_axes) * stretch * scale
        organs[name] = Ellipsoid(_triple(place), _triple(size), math.radians(tilt + turn))
    return organs


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, level = values.tolist()
    return x, y, level


def _draw_gut(generator: np.random.Generator, *, organs: dict[str, Ellipsoid]) -> tuple[Gut, ...]:
    """Small bowel to the left, transverse colon in front of it, both flexures and the stomach."""
    gut = []
    for _ in range(int(generator.integers(26, 36))):
        centre = _triple(generator.uniform((-38, -44, 218), (84, 12, 285)))
        size = _triple(generator.uniform((13, 9, 12), (24, 13, 18)))
        shape = Ellipsoid(centre, size, generator.uniform(0, math.pi))
        gut.append(Gut(shape, "bowel", "chyme", max(0.0, generator.uniform(-0.8, 0.35))))
    for x in np.linspace(-62, 78, 6) + generator.normal(0, 4, 6):
        centre = (float(x), generator.normal(-62, 4), generator.normal(240 - x / 6, 6))
        size = _triple(generator.uniform((17, 13, 16), (22, 18, 24)))
        shape = Ellipsoid(centre, size, generator.normal(0, 0.3))
        gut.append(Gut(shape, "bowel", "stool", generator.uniform(0.1, 0.7)))
    for name in ("hepatic_flexure", "splenic_flexure", "descending_colon"):
        gut.append(Gut(organs[name], "bowel", "stool", generator.uniform(0.1, 0.6)))
    for name in ("antrum", "stomach"):
        gut.append(Gut(organs[name], "stomach", "meal", generator.uniform(0.1, 0.45), 4.0))
    return tuple(gut)


def _snap(level_mm: float, levels_mm: Image) -> float:
    """The slice nearest to a level: wide slice gaps would miss small findings otherwise."""
    return float(levels_mm[np.argmin(np.abs(levels_mm - level_mm))])


def _draw_nodules(
    generator: np.random.Generator, *, cage_mm: tuple[float, float], levels_mm: Image
) -> tuple[tuple[Ellipsoid, Tissue], ...]:
    """Solid and ground-glass nodules in both lungs, clear of the heart and the diaphragm."""
    solid, ground_glass = Tissue(Label.NODULE, 35, 10, 2.0), Tissue(Label.NODULE, -520, 60, 2.0)
    nodules = []
    for _ in range(int(generator.integers(3, 7))):
        right = generator.uniform() < 0.5
        x, y = generator.uniform((0.45, -0.45 if right else 0.2), (0.82, 0.62)) * cage_mm
        size = generator.uniform(2.5, 9) * generator.uniform(0.8, 1.2, 3)
        level = _snap(generator.uniform(5, 95), levels_mm) + generator.normal(0, 0.15) * size[2]
        shape = Ellipsoid(
            (-x if right else x, y, level), _triple(size), generator.uniform(0, math.pi)
        )
        nodules.append((shape, solid if generator.uniform() < 0.75 else ground_glass))
    return tuple(nodules)


def _draw_lesions(
    generator: np.random.Generator, *, liver: Ellipsoid, levels_mm: Image
) -> tuple[Ellipsoid, ...]:
    lesions = []
    for _ in range(int(generator.integers(1, 4))):
        x, y, level = np.array(liver.centre_mm) + generator.uniform((-28, -42, -45), (28, 40, 40))
        size = generator.uniform(5, 14) * generator.uniform(0.8, 1.2, 3)
        lesions.append(
            Ellipsoid((x, y, _snap(level, levels_mm)), _triple(size), generator.uniform(0, math.pi))
        )
    return tuple(lesions)


def _draw_trees(
    generator: np.random.Generator, *, cage_mm: tuple[float, float]
) -> dict[str, Image]:
    """Vessels and bronchi of both lungs from the hila, portal and hepatic veins of the liver."""
    trees = {}
    for kind, (count, leaf_radius_mm, reach, y, level) in _LUNG_TREES.items():
        for side, name in ((-1, "right"), (1, "left")):
            box = generator.uniform((0.2, -reach, -45), (reach, reach, 185), (2 * count, 3))
            box = box[np.hypot(box[:, 0], box[:, 1]) < reach][:count]
            leaves = (box * (side * cage_mm[0], cage_mm[1], 1)).astype(np.float32)
            root = (side * 27, y, level)
            trees[f"{kind}_{name}"] = grow_tree(root, leaves, leaf_radius_mm=leaf_radius_mm)
    for name, root in (("portal", (-22, -8, 205)), ("hepatic", (-14, 24, 128))):
        leaves = generator.uniform((-135, -75, 110), (20, 75, 260), (60, 3)).astype(np.float32)
        trees[name] = grow_tree(root, leaves, leaf_radius_mm=1.15)
    return trees
