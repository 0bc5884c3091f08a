"""Where the patient is in a slice, and where the lungs are in a volume, by threshold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

#: Between air and fat: what is denser belongs to a body, or to the table.
BODY_THRESHOLD_HU = -300.0
#: A piece beside the body that is somewhere thicker than twice this is an arm or a leg; what
#: couches are made of is thinner.
LIMB_RADIUS_MM = 12.0
#: The patient is looked for also in a slice that is smoothed by a Gaussian of so much: with the
#: noise of a low dose, pixels within the body lie on both sides of the threshold.
PATIENT_SMOOTH_MM = 2.0
#: Between aerated lung and soft tissue (Hu, Hoffman & Reinhardt, IEEE TMI 2001 find it by
#: iteration near this).
LUNG_THRESHOLD_HU = -500.0
#: Smaller pieces of gas are bowel, or airways outside of the lungs.
MIN_LUNG_ML = 100.0
#: Vessels and bronchial walls this wide are filled in as lung.
LUNG_VESSEL_MM = 8.0
#: What the lungs enclose in a slice is filled in up to this: a vessel, a nodule, a tumour of 4 cm.
#: Where both lungs touch in front of it, the heart is enclosed too, and stays out.
MAX_HOLE_MM2 = 1500.0


def body_mask(image_hu: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The largest connected body of a slice [rows, columns], its lungs and gas filled in.

    image_hu in HU. The opening removes the thin surface of the couch below the back.
    """
    labels = _pieces(image_hu)
    return ndimage.binary_fill_holes((labels == _largest(labels)) & (labels > 0))


def patient_mask(image_hu: NDArray[np.float32], row_mm: float) -> NDArray[np.bool_]:
    """The body of a slice [rows, columns] as body_mask has it, and the arms and legs beside it.

    image_hu in HU, of any dose. row_mm: from row to row. Beside the body counts what is somewhere
    thicker than twice LIMB_RADIUS_MM, which fingers are not. Of noise, which tears holes into what
    is above the threshold, a smoothed slice is free, and its outline lies up to 1 mm further in: so
    the patient is what either shows.
    """
    smooth_hu = ndimage.gaussian_filter(image_hu, PATIENT_SMOOTH_MM / row_mm, output=np.float32)
    return _body_and_limbs(image_hu, row_mm) | _body_and_limbs(smooth_hu, row_mm)


def _body_and_limbs(image_hu: NDArray[np.float32], row_mm: float) -> NDArray[np.bool_]:
    labels = _pieces(image_hu)
    radius = ndimage.distance_transform_edt(labels > 0, sampling=row_mm)
    limbs = np.unique(labels[(radius >= LIMB_RADIUS_MM) & (labels > 0)])
    return ndimage.binary_fill_holes(np.isin(labels, [*limbs, _largest(labels)]) & (labels > 0))


def _pieces(image_hu: NDArray[np.float32]) -> NDArray[np.int32]:
    """The connected dense pieces of a slice, numbered from 1; surfaces of a few pixels are none."""
    dense = ndimage.binary_opening(image_hu > BODY_THRESHOLD_HU, iterations=3)
    return ndimage.label(dense)[0]


def _largest(labels: NDArray[np.int32]) -> int:
    """The number of the largest piece; 1 where there is none."""
    sizes = np.bincount(labels.ravel(), minlength=2)[1:]
    return 1 + int(np.argmax(sizes))


def lung_mask(
    image_hu: NDArray[np.float32], spacing_mm: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """Lungs of a CT [slices, rows, columns] by threshold and fill; no learning.

    What is below LUNG_THRESHOLD_HU within the body, in connected pieces of SMALLEST_LUNG_ML and
    more, closed over vessels, small holes filled in slice by slice. The trachea is cut off where
    it is narrow; gas in the bowel that touches no lung and is smaller is left out. After Hu,
    Hoffman & Reinhardt, IEEE TMI 2001, for normally aerated lungs: a consolidation is no lung here.
    """
    body = np.stack([body_mask(plane) for plane in image_hu])
    gas = body & (image_hu < LUNG_THRESHOLD_HU)
    row_mm = spacing_mm[1]
    core = ndimage.binary_opening(gas, _disc(LUNG_VESSEL_MM / 2 / row_mm))
    labels, _ = ndimage.label(core)
    sizes_ml = np.bincount(labels.ravel()) * float(np.prod(spacing_mm)) / 1000
    large = sizes_ml >= MIN_LUNG_ML
    large[0] = False
    # Back from the opened core to the whole of each piece, but not down the airways.
    reach = _disc(LUNG_VESSEL_MM / row_mm)
    lungs = gas & ndimage.binary_dilation(large[labels], reach)
    closed = _closed(lungs, _disc(LUNG_VESSEL_MM / row_mm))
    max_hole_pixels = MAX_HOLE_MM2 / (spacing_mm[1] * spacing_mm[2])
    return np.stack([_filled(plane, max_hole_pixels) for plane in closed & body])


def _filled(plane: NDArray[np.bool_], max_hole_pixels: float) -> NDArray[np.bool_]:
    """A slice with its holes of at most `max_hole_pixels` pixels filled in."""
    holes, _ = ndimage.label(ndimage.binary_fill_holes(plane) & ~plane)
    small = np.bincount(holes.ravel()) <= max_hole_pixels
    small[0] = False
    return plane | small[holes]


def _disc(radius: float) -> NDArray[np.bool_]:
    """A disc in a slice, [1, rows, columns]."""
    reach = max(1, int(radius))
    rows, columns = np.indices((2 * reach + 1, 2 * reach + 1)) - reach
    return (np.hypot(rows, columns) <= max(1.0, radius))[None]


def _closed(mask: NDArray[np.bool_], disc: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Binary closing; the rim of the slice is no wall."""
    reach = disc.shape[1] // 2
    padded = np.pad(mask, ((0, 0), (reach, reach), (reach, reach)))
    inside = (slice(None), slice(reach, -reach), slice(reach, -reach))
    return ndimage.binary_closing(padded, disc)[inside]


def bounding_box(mask: NDArray[np.bool_], min_size: tuple[int, int]) -> tuple[slice, slice] | None:
    """The mask's box in a slice, grown to `min_size` where the image allows; None if empty."""
    if not mask.any():
        return None
    sides = []
    for axis, min_side in enumerate(min_size):
        places = np.flatnonzero(mask.any(axis=1 - axis))
        first, last = int(places[0]), int(places[-1]) + 1
        missing = max(0, min_side - (last - first))
        first = max(0, min(first - missing // 2, mask.shape[axis] - min_side))
        sides.append(slice(first, max(last, first + min_side)))
    return sides[0], sides[1]
