"""Resample volumes onto an even or upright grid, if the user chose it, with a note in provenance.

Slices interpolated across a gap are not measured: they are masked like padding. Resampling is
SimpleITK's, in index space, since its images cannot hold a sheared affine.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from pipeline.core.units import AIR_HU
from pipeline.core.volume import Volume
from pipeline.dicom.read.ingest_options import IngestOptions

#: Rounding of positions moves slices by less than this from an even grid.
TOLERANCE_MM = 0.01
SHEAR_TOLERANCE = 1e-3


def apply_intake(volume: Volume, intake: IngestOptions) -> Volume:
    """The volume with the user's choices for gaps, uneven spacing and tilt applied in turn."""
    if intake.gaps == "fill":
        volume = fill_gaps(volume)
    if intake.uneven == "resample":
        volume = resample_even(volume)
    if intake.tilt == "unshear":
        volume = unshear(volume)
    return volume


def fill_gaps(volume: Volume) -> Volume:
    """Fill in slices missing from an otherwise even series, interpolated linearly and masked.

    A series whose steps are no multiples of the smallest is returned unchanged.
    """
    along_mm = _along_mm(volume)
    steps = np.diff(along_mm)
    if len(steps) == 0:
        return volume
    whole = np.rint(steps / steps.min())
    if whole.max() == 1 or np.abs(steps - whole * steps.min()).max() > TOLERANCE_MM * whole.max():
        return volume
    present = np.concatenate([[0], np.cumsum(whole)]).astype(int)
    places = np.linspace(along_mm[0], along_mm[-1], present[-1] + 1)
    filled = _interpolated(volume, places)
    filled.valid[np.setdiff1d(np.arange(len(places)), present)] = False
    count = len(places) - len(present)
    return _noted(filled, f"{count} missing slices filled by linear interpolation, masked")


def resample_even(volume: Volume) -> Volume:
    """Resample an unevenly spaced series to even steps of at most its median step.

    Linear interpolation between the two nearest slices; valid where both are. An even series is
    returned unchanged.
    """
    along_mm = _along_mm(volume)
    steps = np.diff(along_mm)
    if len(steps) == 0 or np.ptp(steps) <= TOLERANCE_MM:
        return volume
    intervals = int(np.ceil(along_mm[-1] / np.median(steps) - 1e-6))
    places = np.linspace(0.0, along_mm[-1], intervals + 1)
    evened = _interpolated(volume, places)
    return _noted(
        evened,
        f"resampled from steps of {steps.min():.2f} to {steps.max():.2f} mm to an even "
        f"{places[1]:.3f} mm, linear",
    )


def _along_mm(volume: Volume) -> NDArray[np.float64]:
    """Each slice's distance from the first one [slices]."""
    return np.linalg.norm(volume.slice_origins_mm - volume.slice_origins_mm[0], axis=1)


def _interpolated(volume: Volume, places_mm: NDArray[np.float64]) -> Volume:
    """Slices at these distances from the first one, on the line through the slices' origins."""
    along_mm = _along_mm(volume)
    after = np.clip(np.searchsorted(along_mm, places_mm), 1, len(along_mm) - 1)
    weight = (places_mm - along_mm[after - 1]) / (along_mm[after] - along_mm[after - 1])
    weight = np.where(np.abs(weight - np.rint(weight)) < 1e-6, np.rint(weight), weight)
    shape = (len(places_mm), *volume.image_hu.shape[1:])
    image_hu, valid = np.empty(shape, np.float32), np.empty(shape, bool)
    for number, (right, share) in enumerate(zip(after, weight.astype(np.float32), strict=True)):
        below, above = (right - 1 + (share == 1), right - (share == 0))  # one slice if on it
        lower, upper = volume.image_hu[below], volume.image_hu[above]
        image_hu[number] = lower + share * (upper - lower)
        valid[number] = volume.valid[below] & volume.valid[above]
    image_hu[~valid] = AIR_HU
    first, last = volume.slice_origins_mm[0], volume.slice_origins_mm[-1]
    direction = (last - first) / along_mm[-1]
    affine = volume.affine_lps.copy()
    affine[:3, 2] = direction * places_mm[-1] / (len(places_mm) - 1)
    origins = first + places_mm[:, None] * direction
    return Volume(
        image_hu=image_hu,
        valid=valid,
        affine_lps=affine,
        slice_origins_mm=origins,
        provenance={**volume.provenance, "evenly_spaced": True},
    )


def unshear(volume: Volume) -> Volume:
    """Resample a tilted series to upright axes: same rows and columns, slices along the normal.

    Slices are shifted within their plane, so the grid grows by the shift; voxels that the scan
    did not reach are air and masked. An upright series is returned unchanged, and so is an uneven
    one, with a note in its provenance.
    """
    column, row, step = volume.affine_lps[:3, :3].T
    normal = np.cross(column, row)
    normal /= np.linalg.norm(normal)
    upright = normal * (step @ normal)
    if np.linalg.norm(step - upright) <= SHEAR_TOLERANCE * np.linalg.norm(step):
        return volume
    if np.ptp(np.diff(_along_mm(volume))) > TOLERANCE_MM:
        return _noted(volume, "not unsheared: unevenly spaced, to be resampled first")
    shear = np.linalg.solve(volume.affine_lps[:3, :3], step - upright)  # in voxels a slice
    affine, shape = _covering(volume, upright)
    to_source = np.linalg.inv(volume.affine_lps) @ affine
    image_hu = _resampled(volume.image_hu, to_source, shape)
    valid = _resampled(volume.valid.astype(np.float32), to_source, shape) > 1 - 1e-4
    image_hu[~valid] = AIR_HU
    upright_volume = Volume(
        image_hu=image_hu,
        valid=valid,
        affine_lps=affine,
        slice_origins_mm=affine[:3, 3] + np.arange(shape[0])[:, None] * upright,
        provenance=volume.provenance,
    )
    moved = float(np.hypot(shear[0] * np.linalg.norm(column), shear[1] * np.linalg.norm(row)))
    return _noted(upright_volume, f"unsheared by {moved:.3f} mm a slice, linear")


def _covering(
    volume: Volume, upright: NDArray[np.float64]
) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """The smallest upright grid of whole voxels that holds every slice: affine and shape."""
    slices, rows, columns = volume.image_hu.shape
    affine = volume.affine_lps.copy()
    affine[:3, 2] = upright
    ends = np.array([[0, 0, 0, 1], [0, 0, slices - 1, 1]], dtype=float)
    shift = (np.linalg.inv(affine) @ volume.affine_lps @ ends.T)[:2]
    low, high = np.floor(shift.min(axis=1) + 1e-6), np.ceil(shift.max(axis=1) - 1e-6)
    affine[:3, 3] += affine[:3, :2] @ low
    grown = (high - low).astype(int)
    return affine, (slices, rows + int(grown[1]), columns + int(grown[0]))


def _resampled(
    array: NDArray[np.float32], to_source: NDArray[np.float64], shape: tuple[int, int, int]
) -> NDArray[np.float32]:
    """Linear interpolation at source index to_source @ target index, both (column, row, slice).

    ITK lets half a voxel beyond the rim count as inside: a rim of zeros takes that share.
    """
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(to_source[:3, :3].ravel().tolist())
    transform.SetTranslation((to_source[:3, 3] + [1, 1, 0]).tolist())
    grid = sitk.Image(shape[2], shape[1], shape[0], sitk.sitkUInt8)
    source = sitk.GetImageFromArray(np.pad(array, ((0, 0), (1, 1), (1, 1))))
    moved = sitk.Resample(source, grid, transform, sitk.sitkLinear, 0.0, sitk.sitkFloat32)
    return sitk.GetArrayFromImage(moved)


def _noted(volume: Volume, note: str) -> Volume:
    notes = [*volume.provenance.get("geometry", []), note]
    return replace(volume, provenance={**volume.provenance, "geometry": notes})
