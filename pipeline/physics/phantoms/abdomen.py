"""Painting the abdomen: liver, spleen, kidneys, pancreas, stomach, gut, and the muscles behind.

A rim of fat painted before an organ separates it from its neighbour.
"""

from __future__ import annotations

import numpy as np

from pipeline.physics.phantoms.canvas import (
    Canvas,
    Ellipsoid,
    Image,
    Line,
    disc_mm,
    ellipsoid_mm,
    paint_tree,
    tube_mm,
)
from pipeline.physics.phantoms.patient_sampling import Gut, Patient

# lines of points (x, y, level) in mm
_KIDNEY_VEINS: tuple[Line, ...] = (
    ((-18, 22, 226), (-52, 40, 234)),
    ((-16, 14, 218), (6, 8, 217), (50, 36, 222)),
)
_PORTAL: Line = ((-34, -8, 196), (-8, -2, 212), (2, -6, 222), (4, -18, 280))
_SPLENIC: Line = ((-4, -2, 212), (28, 4, 206), (72, 30, 190))
_PANCREAS: Line = ((-30, 0, 226), (-12, -14, 214), (22, -10, 206), (64, 22, 192))
_PANCREAS_MM = (15.0, 12.0, 11.0, 9.0)


def paint_abdomen(canvas: Canvas, patient: Patient, abdomen_mm: Image) -> None:
    """Paint the organs below the diaphragm, clipped to ``abdomen_mm`` < 0 [rows, columns]."""
    if canvas.level_mm < min(patient.dome_mm) - 12:
        return
    _paint_back_muscles(canvas, patient)
    _paint_liver(canvas, patient, abdomen_mm)
    spleen = canvas.around(patient.organs["spleen"])
    view = canvas.view(spleen)
    shape = np.maximum(ellipsoid_mm(view, patient.organs["spleen"]), abdomen_mm[spleen])
    view.paint(np.maximum(shape, -_hollow_mm(view, patient)), patient.tissues["spleen"])
    for name in ("kidney_right", "kidney_left"):
        _paint_kidney(canvas, patient, name=name, within_mm=abdomen_mm + 3)
    _paint_pancreas(canvas, patient)
    for gut in patient.gut:
        _paint_gut(canvas, patient, gut=gut, within_mm=abdomen_mm)


def _hollow_mm(canvas: Canvas, patient: Patient) -> Image:
    """The room of the stomach, into which the spleen does not bulge."""
    stomach = patient.organs["stomach"]
    a, b, c = stomach.half_axes_mm
    return ellipsoid_mm(canvas, Ellipsoid(stomach.centre_mm, (a + 5, b + 5, c + 20)))


def _paint_back_muscles(canvas: Canvas, patient: Patient) -> None:
    """Crura beside the aorta; psoas beside the spine, thicker with every level."""
    muscle = patient.tissues["muscle"]
    thick = float(np.interp(canvas.level_mm, (180, 255), (7, 20)))
    for side in (-1, 1):
        crus = ((side * 6 + 6, 12, 130), (side * 15 + 6, 26, 165), (side * 18, 36, 225))
        canvas.paint(tube_mm(canvas, crus, (5.0, 5.5, 3.0)), muscle)
        if canvas.level_mm > 185:
            psoas = Ellipsoid(
                (side * (20 + thick), 53, 260), (thick, 1.15 * thick, 400), 0.5 * side
            )
            canvas.paint(ellipsoid_mm(canvas, psoas), muscle)


def _paint_liver(canvas: Canvas, patient: Patient, abdomen_mm: Image) -> None:
    """Both lobes with the fissure between, vessels, lesions and the gallbladder."""
    tissues, organs = patient.tissues, patient.organs
    right, left = (ellipsoid_mm(canvas, organs[name]) for name in ("liver_right", "liver_left"))
    lobes = 4 - 9 * np.logaddexp(-right / 9, -left / 9)  # a union without a crease
    fissure = (
        np.hypot((canvas.x_mm + 16 + 0.3 * (canvas.y_mm + 60)) / 2.5, (canvas.y_mm + 66) / 20) - 1
    )
    if canvas.level_mm < 155:
        fissure = np.ones_like(fissure)
    hollow = np.maximum(-3 * fissure, -ellipsoid_mm(canvas, organs["gallbladder"]) - 1)
    liver = np.maximum(np.maximum(lobes, abdomen_mm), hollow)
    canvas.paint(liver, tissues["liver"])
    for shape in patient.lesions:
        window = canvas.around(shape)
        view = canvas.view(window)
        view.paint(np.maximum(ellipsoid_mm(view, shape), liver[window] + 2), tissues["lesion"])
    for name in ("portal", "hepatic"):
        paint_tree(canvas, patient.trees[name], tissue=tissues["hepatic"], within_mm=liver + 4)
    window = canvas.around(organs["gallbladder"])
    view = canvas.view(window)
    bladder = np.maximum(ellipsoid_mm(view, organs["gallbladder"]), abdomen_mm[window])
    view.paint(bladder, tissues["wall"])
    view.paint(bladder + 2, tissues["gallbladder"])


def _paint_kidney(canvas: Canvas, patient: Patient, *, name: str, within_mm: Image) -> None:
    """Cortex, pyramids of medulla, and the fat of the sinus towards the spine."""
    shape, tissues = patient.organs[name], patient.tissues
    window = canvas.around(shape)
    view = canvas.view(window)
    inward = -np.sign(shape.centre_mm[0])
    x, y, level = shape.centre_mm
    kidney = np.maximum(ellipsoid_mm(view, shape), within_mm[window])
    hilum = Ellipsoid((x + inward * 14, y - 9, level), (21, 11, 26), 0.6 * inward)
    sinus = ellipsoid_mm(view, hilum)
    view.paint(kidney - 2.5, tissues["fat"])
    view.paint(kidney, tissues["cortex"])
    spokes = np.cos(5 * np.arctan2(view.y_mm - y, view.x_mm - x) + 0.09 * canvas.level_mm)
    view.paint(np.maximum(kidney + 6.5, -8 * spokes - 5), tissues["medulla"])
    view.paint(np.maximum(sinus, kidney - 2), tissues["fat"])
    view.paint(np.maximum(sinus + 7.5, kidney - 2), tissues["vein"])


def _paint_pancreas(canvas: Canvas, patient: Patient) -> None:
    """Pancreas from the duodenum to the spleen, the splenic, portal and renal veins."""
    tissues = patient.tissues
    view = canvas.view(canvas.window(x_mm=15, y_mm=5, reach_mm=75))
    pancreas = tube_mm(view, _PANCREAS, _PANCREAS_MM)
    view.paint(pancreas, tissues["pancreas"])
    for line, radius in ((_PORTAL, 7.5), (_SPLENIC, 4.5), *((v, 4.5) for v in _KIDNEY_VEINS)):
        view.paint(tube_mm(view, line, (radius,)), tissues["vein"])
    mesenteric = disc_mm(view, x_mm=10, y_mm=-8, radius_mm=4.2)
    if canvas.level_mm > 222:
        view.paint(mesenteric - 4, tissues["fat"])
        view.paint(mesenteric, tissues["aorta"])


def _paint_gut(canvas: Canvas, patient: Patient, *, gut: Gut, within_mm: Image) -> None:
    """A loop with wall and contents; its gas floats in front, with a level surface."""
    tissues, shape = patient.tissues, gut.shape
    window = canvas.around(shape)
    view = canvas.view(window)
    outside = np.maximum(ellipsoid_mm(view, shape), within_mm[window] + 1)
    view.paint(outside - 2.5, tissues["fat"])
    view.paint(outside, tissues[gut.wall])
    view.paint(outside + gut.wall_mm, tissues[gut.content])
    surface_y_mm = shape.centre_mm[1] + (2 * gut.gas - 1) * shape.half_axes_mm[1]
    view.paint(np.maximum(outside + gut.wall_mm, view.y_mm - surface_y_mm), tissues["gas"])
