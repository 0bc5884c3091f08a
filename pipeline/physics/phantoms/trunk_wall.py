"""The wall of the trunk: skin, fat, muscle, ribs, sternum, scapulae, spine, and the couch below.

Every layer is a band of distance from the inside of the rib cage, with a thickness that depends on
the direction and the level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.physics.phantoms.canvas import (
    Canvas,
    Ellipsoid,
    Image,
    capsule_mm,
    disc_mm,
    ellipsoid_mm,
)
from pipeline.physics.phantoms.patient_sampling import Patient

SPINE_Y_MM = 50.0  # centre of the vertebral bodies
_CANAL_Y_MM = SPINE_Y_MM + 25
_RIB_PITCH_MM = 29.0
_RIB_DROP_MM = 155.0  # a rib ends in front this much lower than it starts at the spine
_VERTEBRA_MM = 31.0


@dataclass(frozen=True)
class Wall:
    """Distances [rows, columns] that the layers and the organs are cut with."""

    inside_mm: Image  # signed distance to the inside of the rib cage
    front: Image  # cosine of the direction from the centre: 1 in front, -1 at the back
    muscle_mm: Image  # thickness from the cage to the outside of the muscles
    fat_mm: Image

    @property
    def skin_mm(self) -> Image:
        """Signed distance to the outer surface of the body."""
        return self.inside_mm - self.muscle_mm - self.fat_mm


def measure_wall(canvas: Canvas, patient: Patient) -> Wall:
    """Distance to the cage and thickness of the layers over the slice."""
    level = canvas.level_mm
    x, y = canvas.x_mm, canvas.y_mm
    narrow = np.interp(level, (-40, 0, 60, 120, 190, 260), (0.82, 0.9, 0.97, 1, 0.985, 0.94))
    a, b = (np.float32(axis * narrow) for axis in patient.cage_mm)
    radius = np.maximum(np.hypot(x, y), 1)
    norm = (np.abs(x / a) ** 2.4 + np.abs(y / b) ** 2.4) ** np.float32(1 / 2.4)
    inside = radius * (1 - 1 / np.maximum(norm, 1e-3))
    return Wall(
        inside, -y / radius, _muscle_mm(canvas, patient), _fat_mm(canvas, patient, -y / radius)
    )


def _muscle_mm(canvas: Canvas, patient: Patient) -> Image:
    """Ribs and the muscles over them: erectors at the back, pectorals and shoulder high up."""
    x, y, level = np.abs(canvas.x_mm), canvas.y_mm, canvas.level_mm
    behind = 1 / (1 + np.exp(-(y - 20) / 12))
    chest = np.interp(level, (0, 75), (1, 0))
    back = 24 * np.exp(-((x / 80) ** 3)) * behind
    shoulder = 15 * chest * np.exp(-(((x - 95) / 38) ** 2)) * behind
    pectoral = 11 * chest * np.exp(-(((x - 70) / 34) ** 2)) * (1 - behind)
    side = 3.5 * np.exp(-((y / 35) ** 2))
    rest = patient.muscle_mm + np.interp(level, (90, 220), (4, 1))
    return rest + back + shoulder + pectoral + side


def _fat_mm(canvas: Canvas, patient: Patient, front: Image) -> Image:
    belly = float(np.interp(canvas.level_mm, (60, 255), (0.65, 1.15)))
    flank = 1 + 0.25 * front * belly - 0.25 * (1 - front * front)
    midline = 1 - 0.35 * np.exp(-((canvas.x_mm / 16) ** 2))
    return 2.5 + patient.fat_mm * belly * flank * midline


def paint_body(canvas: Canvas, patient: Patient, wall: Wall) -> None:
    """Couch, skin, subcutaneous fat, breasts, muscles and the fat between the muscles."""
    tissues = patient.tissues
    below = _paint_couch(canvas, patient)
    breast = _breast_mm(canvas, patient)
    skin = np.maximum(np.minimum(wall.skin_mm, breast), below)
    canvas.paint(skin, tissues["skin"])
    canvas.paint(skin + 2, tissues["fat"])
    if patient.breast_mm:
        canvas.paint(np.maximum(breast + 9, skin + 5), tissues["gland"])
    muscle = np.maximum(wall.inside_mm - wall.muscle_mm, below + 4)
    canvas.paint(muscle, tissues["muscle"])
    for share in (0.42, 0.7):
        gap = np.abs(wall.inside_mm - share * wall.muscle_mm - 2) - 0.15 - 0.03 * patient.fat_mm
        sides = np.maximum(62 - np.abs(canvas.x_mm), 15 - wall.muscle_mm)
        canvas.paint(np.maximum(gap, sides), tissues["fat"])
    erector = Ellipsoid((30, SPINE_Y_MM + 53, 0), (25, 16, 1e4), -0.25)
    mirrored = Ellipsoid((-30, SPINE_Y_MM + 53, 0), (25, 16, 1e4), 0.25)
    for shape in (erector, mirrored):
        septum = np.abs(ellipsoid_mm(canvas, shape)) + 0.2 - 0.03 * patient.fat_mm
        canvas.paint(np.maximum(septum, muscle + 2), tissues["fat"])
    canvas.paint(wall.inside_mm, tissues["fat"])


def _paint_couch(canvas: Canvas, patient: Patient) -> Image:
    """Two thin shells with foam between; returns the signed distance to the room above them."""
    x, y = canvas.axis_x_mm[None, :], canvas.axis_y_mm[:, None]
    top = np.float32(patient.couch_y_mm) - 22 * (x / 200) ** 2
    end = np.abs(x) - np.float32(205)
    for depth, name in ((0.0, "couch"), (1.5, "foam"), (26.5, "couch"), (28.0, "air")):
        canvas.paint(np.maximum(top + depth - y, end), patient.tissues[name])
    return y - top


def _breast_mm(canvas: Canvas, patient: Patient) -> Image:
    x, y = 0.55 * patient.cage_mm[0], -patient.cage_mm[1] - 8
    size = (1.25 * patient.breast_mm, 0.85 * patient.breast_mm, 62)
    left, right = (Ellipsoid((side * x, y, 52), size, -0.35 * side) for side in (1, -1))
    if not patient.breast_mm:
        return np.full_like(canvas.x_mm, np.inf)
    return np.minimum(ellipsoid_mm(canvas, left), ellipsoid_mm(canvas, right))


def paint_ribs(canvas: Canvas, patient: Patient, wall: Wall) -> None:
    """Oblique ribs: every slice cuts several, long at the back and shorter at the side."""
    drop = _RIB_DROP_MM * (1 - np.arccos(np.clip(wall.front, -1, 1)) / np.float32(np.pi))
    start = canvas.level_mm - drop  # level at which the rib met here left the spine
    pitch = _RIB_PITCH_MM
    offset = (start / pitch + patient.rib_phase) % 1 * pitch - pitch / 2
    slope = _RIB_DROP_MM / np.pi / np.maximum(np.hypot(canvas.x_mm, canvas.y_mm), 40)
    height = offset / np.sqrt(1 + slope * slope) / 6.5
    depth = (wall.inside_mm - 5.5) / 3.8
    rib = (np.hypot(height, depth) - 1) * 3.8
    margin = 118 + 135 * (1 - np.maximum(wall.front, 0)) ** 0.8  # the costal margin
    rib = np.maximum(rib, np.maximum(canvas.level_mm - margin, start - 212))
    rib = np.maximum(rib, 20 - np.abs(canvas.x_mm))
    canvas.paint(np.maximum(rib, 0.72 - wall.front), patient.tissues["cartilage"])
    bone = np.maximum(rib, wall.front - 0.72)
    canvas.paint(bone, patient.tissues["cortical_bone"])
    canvas.paint(bone + 1.7, patient.tissues["marrow"])


def paint_sternum(canvas: Canvas, patient: Patient, wall: Wall) -> None:
    """The sternum and, below it, the tapering xiphoid process, in front of the cage."""
    level = canvas.level_mm
    if level > 135:
        return
    half_width = np.interp(level, (0, 80, 105, 135), (17, 19, 10, 4))
    flat = np.hypot(canvas.x_mm / half_width, (wall.inside_mm - 7.5) / 5.5) - 1
    sternum = np.maximum(flat * 5.5, canvas.y_mm + 30)
    canvas.paint(sternum, patient.tissues["cortical_bone"])
    canvas.paint(sternum + 1.4, patient.tissues["marrow"])


def paint_scapulae(canvas: Canvas, patient: Patient, wall: Wall) -> None:
    """The blades behind the upper ribs, ending at a tip about 55 mm below the bifurcation."""
    reach = np.interp(canvas.level_mm, (0, 40, 58), (30, 17, 0))
    if reach <= 0:
        return
    along = np.abs(canvas.x_mm) - 88
    sheet = np.abs(wall.inside_mm - 16 - 0.1 * along) - 2.2 - 1.5 * np.maximum(along / 30, 0)
    blade = np.maximum(np.maximum(sheet, np.abs(along) - reach), 15 - canvas.y_mm)
    canvas.paint(blade, patient.tissues["cortical_bone"])
    canvas.paint(blade + 1.8, patient.tissues["marrow"])


def paint_spine(canvas: Canvas, patient: Patient) -> None:
    """A vertebra, or the disc between two, with arch, processes and the canal."""
    tissues = patient.tissues
    view = canvas.view(canvas.window(x_mm=0, y_mm=_CANAL_Y_MM, reach_mm=50))
    phase = (canvas.level_mm / _VERTEBRA_MM + patient.spine_phase) % 1  # 0..0.2: disc
    growth = float(np.interp(canvas.level_mm, (0, 255), (0.88, 1.14)))
    canal = disc_mm(view, x_mm=0, y_mm=_CANAL_Y_MM, radius_mm=9.5)
    body = _vertebral_body_mm(view, growth=growth)
    body = np.maximum(body, 1.5 - canal)
    if phase < 0.2:
        view.paint(body, tissues["disc"])
    else:
        view.paint(body, tissues["cortical_bone"])
        view.paint(body + 1.5, tissues["marrow"])
    arch = _arch_mm(view, phase=phase)
    view.paint(arch, tissues["cortical_bone"])
    view.paint(arch + 1.6, tissues["marrow"])
    view.paint(canal + 0.5, tissues["canal"])
    view.paint(canal + 5.5, tissues["cord"])


def _vertebral_body_mm(view: Canvas, *, growth: float) -> Image:
    x, y = view.x_mm / (19.5 * growth), (view.y_mm - SPINE_Y_MM) / (15 * growth)
    norm = (np.abs(x) ** 2.5 + np.abs(y) ** 2.5) ** np.float32(0.4)
    return (norm - 1) * np.float32(16 * growth)


def _arch_mm(view: Canvas, *, phase: float) -> Image:
    """Laminae and spinous process everywhere but at the gap; pedicles and transverses at mid."""
    y0, level = _CANAL_Y_MM, view.level_mm
    ring = np.abs(disc_mm(view, x_mm=0, y_mm=y0, radius_mm=12.0)) - 2.6
    pedicles = 0.3 < phase < 0.7
    arch = ring if pedicles else np.maximum(ring, y0 + 1 - view.y_mm)
    rods = [((0, y0 + 13), (0, y0 + 32 - 8 * phase), 3.2)]
    for side in (-1, 1):
        if pedicles:
            rods.append(((side * 12, y0 + 1), (side * 29, y0 + 7), 4.4))
        else:
            rods.append(((side * 12, y0 + 2), (side * 15, y0 + 5), 5.0))
    for start, end, radius in rods:
        rod = capsule_mm(view, ((*start, level), (*end, level)), (radius, radius))
        arch = np.minimum(arch, rod)
    return arch
