"""Painting one level of a patient: the order of the layers, and what the chest holds.

Later organs cover earlier ones.
"""

from __future__ import annotations

import numpy as np

from pipeline.physics.phantoms.abdomen import paint_abdomen
from pipeline.physics.phantoms.canvas import (
    Canvas,
    Ellipsoid,
    Image,
    disc_mm,
    ellipsoid_mm,
    paint_tree,
    tube_mm,
)
from pipeline.physics.phantoms.patient_sampling import Patient
from pipeline.physics.phantoms.trunk_wall import (
    SPINE_Y_MM,
    measure_wall,
    paint_body,
    paint_ribs,
    paint_scapulae,
    paint_spine,
    paint_sternum,
)

# (x, y, level) of the centre lines, and radius at each point
_AORTA_DOWN = ((21, 33, -20), (21, 34, 60), (12, 27, 150), (5, 24, 200), (3, 23, 280))
_AORTA_DOWN_MM = (12.5, 12.5, 11.5, 10.5, 9.5)
_AORTA_UP = ((-12, -34, -20), (-14, -32, 25), (-4, -24, 62), (6, -20, 80))
_AORTA_UP_MM = (15.5, 16, 15, 13)
_CAVA_UP = ((-29, -22, -20), (-31, -20, 30), (-29, -18, 70))
_CAVA_DOWN = ((-24, -8, 100), (-20, 16, 130), (-20, 20, 190), (-19, 24, 280))
_OESOPHAGUS = ((4, 24, -20), (4, 24, 60), (14, 18, 120), (30, 8, 160))
_TRUNK = ((16, -36, 48), (22, -30, 28), (18, -12, 18))
_ARTERIES = (
    ((18, -14, 18), (-8, -8, 22), (-34, -4, 30)),
    ((20, -14, 16), (34, -2, 22), (42, 4, 34)),
)
_BRONCHI = (((0, 2, -30), (0, 3, -2), (0, 4, 0)), ((0, 4, 0), (-22, 6, 22), (-34, 8, 60)),
            ((0, 4, 0), (26, 6, 26), (38, 10, 55)))  # fmt: skip


def paint_patient(canvas: Canvas, patient: Patient) -> None:
    """Paint one level of the patient on a canvas of air."""
    wall = measure_wall(canvas, patient)
    paint_body(canvas, patient, wall)
    sunk = diaphragm_mm(canvas, patient)
    lung = np.maximum(np.maximum(wall.inside_mm + 1.5, sunk), 1 - _mediastinum_mm(canvas, patient))
    abdomen = np.maximum(wall.inside_mm + 4, 3 - sunk)
    _paint_lungs(canvas, patient, lung)
    canvas.paint(np.maximum(np.abs(sunk - 1.2) - 1.2, wall.inside_mm), patient.tissues["wall"])
    paint_abdomen(canvas, patient, abdomen)
    paint_ribs(canvas, patient, wall)
    paint_sternum(canvas, patient, wall)
    paint_scapulae(canvas, patient, wall)
    paint_spine(canvas, patient)
    _paint_heart(canvas, patient)
    _paint_great_vessels(canvas, patient)


def diaphragm_mm(canvas: Canvas, patient: Patient) -> Image:
    """In-plane distance to the diaphragm: negative above it, where the lungs are."""
    width, depth = patient.cage_mm
    left = 1 / (1 + np.exp(-canvas.x_mm / 12))
    x = np.abs(canvas.x_mm) - np.float32(0.47 * width)
    x = np.where(x < 0, 0.45 * x, x)  # flat in the middle, below the heart
    y = canvas.y_mm + 6
    rho = np.hypot(x / (0.53 * width), y / (0.98 * depth))
    top = patient.dome_mm[0] + left * np.float32(patient.dome_mm[1] - patient.dome_mm[0])
    surface = top + 66 * rho**2.2 + 24 * y / depth
    return (canvas.level_mm - surface) / np.maximum(1.6 * rho, 0.35)


def _mediastinum_mm(canvas: Canvas, patient: Patient) -> Image:
    """What the lungs cannot enter: heart, great vessels, spine and the fat about them."""
    x, y = canvas.x_mm, canvas.y_mm
    half_width = np.interp(y, (-patient.cage_mm[1], -62, -40, -10, 25, 55), (19, 9, 27, 30, 22, 24))
    column = np.abs(x - 2) - half_width.astype(np.float32)
    spine = disc_mm(canvas, x_mm=0, y_mm=SPINE_Y_MM + 6, radius_mm=25)
    heart = ellipsoid_mm(canvas, patient.organs["heart"]) - 2.5
    aorta = tube_mm(canvas, _AORTA_DOWN, _AORTA_DOWN_MM) - 1.5
    arch = disc_mm(canvas, x_mm=0, y_mm=SPINE_Y_MM + 30, radius_mm=22)
    return np.minimum.reduce([column, spine, heart, aorta, arch])


def _paint_lungs(canvas: Canvas, patient: Patient, lung: Image) -> None:
    """Parenchyma denser towards the back, fissures, vessels, bronchi and nodules."""
    tissues = patient.tissues
    canvas.paint(lung, tissues["lung"])
    canvas.image_hu += np.clip(-lung / 3, 0, 1) * (0.32 * canvas.y_mm)  # lying on the back
    oblique = np.abs(0.62 * (canvas.level_mm - 62) + 0.8 * canvas.y_mm)
    canvas.paint(np.maximum(oblique - 0.3, lung), tissues["fissure"])
    for side in ("right", "left"):
        for kind in ("artery", "vein"):
            tree = patient.trees[f"{kind}_{side}"]
            paint_tree(canvas, tree, tissue=tissues["lung_vessel"], within_mm=lung)
        tree = patient.trees[f"bronchus_{side}"]
        for name, wall_mm in (("airway_wall", 0.9), ("airway", 0.0)):
            paint_tree(canvas, tree, tissue=tissues[name], within_mm=lung, wall_mm=wall_mm)
    for shape, tissue in patient.nodules:
        window = canvas.around(shape)
        view = canvas.view(window)
        view.paint(np.maximum(ellipsoid_mm(view, shape), lung[window]), tissue)


def _paint_heart(canvas: Canvas, patient: Patient) -> None:
    """Pericardial fat, the wall of the heart and four chambers of blood."""
    organs, tissues = patient.organs, patient.tissues
    view = canvas.view(canvas.around(organs["heart"]))
    heart = ellipsoid_mm(view, organs["heart"])
    view.paint(heart, tissues["fat"])
    groove = ellipsoid_mm(view, Ellipsoid((-12, -46, 88), (10, 7, 40), 0.7))
    muscle = np.maximum(heart + 4, -groove)
    view.paint(muscle, tissues["myocardium"])
    for name, blood, rim in (
        ("left_atrium", "pulmonary", 2),
        ("right_atrium", "vein", 2),
        ("right_ventricle", "pulmonary", 3),
        ("left_ventricle", "aorta", 8),
    ):
        chamber = ellipsoid_mm(view, organs[name])
        view.paint(np.maximum(chamber, muscle + rim), tissues[blood])


def _paint_great_vessels(canvas: Canvas, patient: Patient) -> None:
    """Aorta, cavae, pulmonary trunk and arteries, airways and oesophagus."""
    tissues, level = patient.tissues, canvas.level_mm
    view = canvas.view(canvas.window(x_mm=0, y_mm=0, reach_mm=70))
    oesophagus = tube_mm(view, _OESOPHAGUS, (7.5,))
    view.paint(oesophagus, tissues["oesophagus"])
    view.paint(oesophagus + 5.5, tissues["gas"] if 20 < level < 75 else tissues["oesophagus"])
    for line, radii, name in (
        (_CAVA_UP, (8.5,), "vein"),
        (_CAVA_DOWN, (11.0,), "vein"),
        (_TRUNK, (13.5, 14, 12), "pulmonary"),
        (_ARTERIES[0], (10.5, 10, 8.5), "pulmonary"),
        (_ARTERIES[1], (11.5, 10, 8), "pulmonary"),
        (_AORTA_UP, _AORTA_UP_MM, "aorta"),
        (_AORTA_DOWN, _AORTA_DOWN_MM, "aorta"),
    ):
        tube = tube_mm(view, line, radii)
        view.paint(tube - 1.5, tissues["fat" if level < 40 else name])
        view.paint(tube, tissues[name])
    airway = np.minimum.reduce([tube_mm(view, line, (8.0, 7.0, 5.0)) for line in _BRONCHI])
    view.paint(airway - 1.5, tissues["airway_wall"])
    view.paint(airway, tissues["airway"])
