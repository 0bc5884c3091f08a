"""A synthetic patient on a synthetic scanner: a CT-like torso in HU, with labels.

The data of ``ldct demo``: no person's images, and no licence or download.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.core.errors import ConfigError
from pipeline.core.units import AIR_HU
from pipeline.physics.phantoms.canvas import WARP_MM, Canvas, Image, Label
from pipeline.physics.phantoms.patient_sampling import LENGTH_MM, Patient, draw_patient
from pipeline.physics.phantoms.thorax import paint_patient

#: What the values of ``Phantom.labels`` mean.
LABEL_NAMES: dict[int, str] = {label.value: label.name.lower() for label in Label}

_PSF_FWHM_MM = 0.9
_SLAB_STEPS = 3  # sub-slices averaged into one slice: partial volume along the axis
_WARP_STEP = 4  # displacements are smooth: computing every fourth pixel is enough


@dataclass(frozen=True)
class Phantom:
    """image_hu: float32 [slices, rows, columns], the first slice nearest the head, columns to
    the patient's left, rows to the back. labels: uint8, the same shape, see ``LABEL_NAMES``.
    spacing_mm: (slice, row, column), slice_thickness_mm: what one slice averages over.
    """

    image_hu: NDArray[np.float32]
    labels: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]
    slice_thickness_mm: float


def patient_phantom(
    generator: np.random.Generator,
    *,
    slices: int = 12,
    matrix: int = 256,
    field_of_view_mm: float = 380.0,
    slice_thickness_mm: float = 5.0,
    noise_hu: float = 8.0,
) -> Phantom:
    """A patient drawn at random, from the middle of the chest to the kidneys.

    The slices are spread evenly over the same 255 mm of anatomy, as in an axial scan with
    gaps: 12 slices lie 21 mm apart. Tissues: ICRU Report 44 (1989). noise_hu is the standard
    deviation of the scanner's noise at the centre of the body, in HU; the anatomy does not
    depend on it.

    Raises ConfigError for a size or thickness that is not positive, or for negative noise.
    """
    if min(slices, matrix, field_of_view_mm, slice_thickness_mm) <= 0 or noise_hu < 0:
        raise ConfigError(
            "slices, matrix, field_of_view_mm and slice_thickness_mm must be positive and noise_hu "
            f"not negative, got {slices}, {matrix}, {field_of_view_mm}, {slice_thickness_mm}, "
            f"{noise_hu}"
        )
    levels_mm = ((np.arange(slices) + 0.5) * LENGTH_MM / slices).astype(np.float32)
    patient = draw_patient(generator, levels_mm=levels_mm)
    pixel_mm = field_of_view_mm / matrix
    spacing_mm = (LENGTH_MM / slices, pixel_mm, pixel_mm)
    slab_mm = min(slice_thickness_mm, spacing_mm[0])
    image_hu = np.empty((slices, matrix, matrix), np.float32)
    labels = np.empty(image_hu.shape, np.uint8)
    for i, level_mm in enumerate(levels_mm):
        clean_hu, labels[i] = _slab(
            patient, level_mm=level_mm, slab_mm=slab_mm, shape=(matrix, pixel_mm)
        )
        noise = _noise(generator, matrix=matrix, pixel_mm=pixel_mm)
        image_hu[i] = clean_hu + noise_hu * noise * _noise_profile(labels[i], pixel_mm=pixel_mm)
    return Phantom(image_hu, labels, spacing_mm, slab_mm)


def _slab(
    patient: Patient, *, level_mm: float, slab_mm: float, shape: tuple[int, float]
) -> tuple[Image, NDArray[np.uint8]]:
    """One blurred slice of finite thickness, and the labels of its middle."""
    offsets_mm = slab_mm * ((np.arange(_SLAB_STEPS) + 0.5) / _SLAB_STEPS - 0.5)
    middle = _SLAB_STEPS // 2
    mean_hu = np.zeros((shape[0], shape[0]), np.float32)
    for step, offset_mm in enumerate(offsets_mm):
        canvas = _blank(patient, level_mm=float(level_mm + offset_mm), shape=shape)
        paint_patient(canvas, patient)
        mean_hu += canvas.image_hu / _SLAB_STEPS
        if step == middle:
            labels = canvas.labels
    sigma = _PSF_FWHM_MM / math.sqrt(8 * math.log(2)) / shape[1]
    return ndimage.gaussian_filter(mean_hu, sigma), labels


def _blank(patient: Patient, *, level_mm: float, shape: tuple[int, float]) -> Canvas:
    """Air, with coordinates bent by two smooth random displacements: organs are no ellipses."""
    matrix, pixel_mm = shape
    axis_mm = ((np.arange(matrix) - (matrix - 1) / 2) * pixel_mm).astype(np.float32)
    coarse = np.arange(-1, matrix // _WARP_STEP + 2) * _WARP_STEP
    grid = np.stack(np.meshgrid(coarse, coarse)).astype(np.float32) * np.float32(pixel_mm)
    points = np.concatenate([grid, np.full_like(grid[:1], level_mm)])
    fine = np.stack(np.meshgrid(*[np.arange(matrix) / _WARP_STEP + 1] * 2, indexing="ij"))
    moved = []
    for axis, shift in ((axis_mm[None, :], 31.0), (axis_mm[:, None], 47.0)):
        bend = 2.6 * patient.texture.sample(points, scale_mm=24.0, shift=shift)
        bend += 1.3 * patient.texture.sample(points, scale_mm=8.0, shift=shift)
        bend = np.clip(bend, -WARP_MM, WARP_MM)
        moved.append(axis + ndimage.map_coordinates(bend, fine, order=1))
    image_hu = np.full((matrix, matrix), AIR_HU, np.float32)
    labels = np.zeros(image_hu.shape, np.uint8)
    return Canvas(
        x_mm=moved[0],
        y_mm=moved[1],
        level_mm=level_mm,
        pixel_mm=pixel_mm,
        image_hu=image_hu,
        labels=labels,
        texture=patient.texture,
        axis_x_mm=axis_mm,
        axis_y_mm=axis_mm,
    )


def _noise(generator: np.random.Generator, *, matrix: int, pixel_mm: float) -> Image:
    """CT-like noise [matrix, matrix] of standard deviation 1.

    Its power rises like a ramp and rolls off with the kernel, as filtered backprojection makes
    it: Riederer, Pelc & Chesler, Phys Med Biol 23 (1978); Kijewski & Judy, ibid. 32 (1987).
    """
    white = generator.standard_normal((matrix, matrix), dtype=np.float32)
    frequency = np.hypot(
        np.fft.fftfreq(matrix, pixel_mm)[:, None], np.fft.rfftfreq(matrix, pixel_mm)[None, :]
    )
    power = frequency * np.exp(-((frequency / 0.38) ** 2))  # per mm; a standard body kernel
    noise = np.fft.irfft2(np.fft.rfft2(white) * np.sqrt(power), s=white.shape)
    return (noise / noise.std()).astype(np.float32)


def _noise_profile(labels: NDArray[np.uint8], *, pixel_mm: float) -> Image:
    """Noise relative to the centre of the body: rays through the middle meet more matter."""
    body = labels > Label.COUCH
    depth_mm = ndimage.distance_transform_edt(body).astype(np.float32) * np.float32(pixel_mm)
    deepest = max(float(depth_mm.max()), pixel_mm)
    smooth = ndimage.gaussian_filter(np.minimum(depth_mm / (0.8 * deepest), 1), 8 / pixel_mm)
    return 0.5 + 0.5 * smooth
