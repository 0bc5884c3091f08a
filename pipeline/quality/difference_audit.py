"""Is the difference of two images noise? What a denoiser erased or invented, place by place.

Where only noise was removed, the difference is a Gaussian field with a spectrum of its own and a
level that changes slowly over the slice. Both are measured in the difference itself, robustly; the
difference is brought to one level, whitened and correlated with discs, lines and edges (the
prewhitening matched filter: North, Proc. IEEE 1963; ICRU Report 54). Each result, as a multiple of
its own standard deviation about the place, is noise unless it passes a threshold that the largest
of all places, sizes and directions passes in fewer than one slice of a hundred of noise: the
expected Euler characteristic of a Gaussian field (noise_threshold), raised where the slice's
results have longer tails than a Gaussian field has.

What changed in the same way all over a slice is not distinguished from noise by this; a network's
own noise at edges, which is neither Gaussian nor of an even level, can pass (benchmarks/audit.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from pipeline.core.masks import body_mask
from pipeline.core.types import ImageHU
from pipeline.quality.audit_templates import Kind, Spacing, Template, templates
from pipeline.quality.local_level import Field, block_maxima, block_sums, local_level, neighbours
from pipeline.quality.noise_threshold import noise_threshold
from pipeline.quality.noise_whitening import MIN_POWER, both_halves, noise_power, whitening_of

#: What thresholds are raised by, since levels and spectra are estimates.
SAFETY = 1.05
#: The share of a slice's blocks below TAIL_AT standard deviations in Gaussian noise (measured);
#: where it lies higher, so does the threshold.
TAIL, TAIL_AT = 0.98, 3.9

#: Pixels along a block, in which levels are estimated and places distinguished.
BLOCK = 8
#: Neighbourhoods (standard deviation) of the level of the difference, and of each filter's result.
NEAR_MM, WIDE_MM = 8.0, 14.0
#: Differences are rounded to whole HU at best: the least level.
MIN_LEVEL_HU = 0.5
#: Over about twice this the difference falls off to 0 at the rim of the body.
RIM_MM = 3.0
#: Room beside the body for the filters, in pixels.
_MARGIN = 24


@dataclass(frozen=True)
class Place:
    """Where a difference is not noise.

    kind: disc, line or edge, whichever fits best; size_mm: a disc's diameter, or the width.
    height_hu: what was added there, below 0 what was taken away; of an edge the height of its two
    ridges. row, column: its centre in pixels, from 0. times_noise: its result in standard
    deviations of noise.
    """

    kind: str
    size_mm: float
    height_hu: float
    row: int
    column: int
    times_noise: float


@dataclass(frozen=True)
class SliceAudit:
    """What was found in a slice: its places, strongest first, and the threshold in standard
    deviations; 0 where nothing was changed, None where too little of a patient is to be seen."""

    places: tuple[Place, ...]
    threshold: float | None


def audit_slice(
    source_hu: ImageHU, result_hu: ImageHU, valid: NDArray[np.bool_], spacing_mm: Spacing
) -> SliceAudit:
    """Where a result differs from its source by more than noise, within the patient.

    All [rows, columns]; valid: where the scanner measured; spacing_mm: of rows and of columns.
    """
    body = body_mask(source_hu) & valid
    return audit_difference(result_hu - source_hu, body, spacing_mm)


def audit_difference(
    difference_hu: Field, body: NDArray[np.bool_], spacing_mm: Spacing
) -> SliceAudit:
    """As audit_slice, of a difference [rows, columns] in HU within `body`, of the same shape."""
    view = _around(body)
    if view is None:
        return SliceAudit((), None)
    if not difference_hu[view].any():
        return SliceAudit((), 0.0)
    padded = _Padded.of(difference_hu[view], body[view], spacing_mm)
    levelled, level_hu = _levelled(padded, spacing_mm)
    power = noise_power(levelled, padded.share)
    if power is None:
        return SliceAudit((), None)
    whitening = whitening_of(power, levelled.shape, spacing_mm)
    searched = templates(levelled.shape, spacing_mm)
    whitened = fft.rfft2(levelled) * whitening
    window = _blocks(WIDE_MM, spacing_mm)
    search = _Search(
        {"disc": whitened, "line": whitened, "edge": whitened * np.complex64(-1j)},
        both_halves(whitening),
        both_halves(whitening) * whitening,
        window,
        neighbours(padded.counts, window),
    )
    results = [_Result.of(template, search, padded) for template in searched]
    times_noise = np.stack([result.times_noise for result in results])
    tail = np.quantile(times_noise.max(axis=0)[padded.counts > BLOCK**2 / 2], TAIL) / TAIL_AT
    gaussian = noise_threshold(searched, whitening, spacing_mm, padded.inside)
    threshold = float(SAFETY * gaussian * max(1.0, tail))
    corner = view[0].start, view[1].start
    places = tuple(_places(results, times_noise, level_hu, threshold, corner))
    return SliceAudit(places, threshold)


def _around(body: NDArray[np.bool_]) -> tuple[slice, slice] | None:
    """The rectangle about the body."""
    rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
    if not len(rows):
        return None
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


@dataclass(frozen=True)
class _Padded:
    """A part of a slice with room for the filters beside it, in whole blocks.

    difference_hu: falls off to 0 at the body's rim, by `share`, since a step there is none of the
    noise. inside: where it is nearly whole. counts: pixels inside, of each block.
    """

    difference_hu: Field
    share: Field
    inside: NDArray[np.bool_]
    counts: Field

    @classmethod
    def of(cls, difference_hu: Field, body: NDArray[np.bool_], spacing_mm: Spacing) -> _Padded:
        """A difference and the body in it, both [rows, columns]."""
        rows, columns = (_padded_side(side) for side in body.shape)
        margin = ((0, rows - body.shape[0]), (0, columns - body.shape[1]))
        sigma = RIM_MM / spacing_mm[0], RIM_MM / spacing_mm[1]
        near = ndimage.gaussian_filter(body.astype(np.float32), sigma, mode="constant", truncate=3)
        share = np.pad(np.maximum(2 * near - 1, 0), margin)
        padded = np.pad(np.asarray(difference_hu, np.float32), margin) * share
        inside = share > 0.5
        return cls(padded, share, inside, block_sums(inside.astype(np.float32), BLOCK))


def _padded_side(side: int) -> int:
    """At least _MARGIN pixels more, in whole blocks, quick to transform."""
    return BLOCK * fft.next_fast_len(-(-(side + _MARGIN) // BLOCK), real=True)


def _levelled(padded: _Padded, spacing_mm: Spacing) -> tuple[Field, Field]:
    """The difference over its own level nearby, and that level in HU, for each pixel."""
    absolute = block_sums(np.abs(padded.difference_hu), BLOCK)
    counts = block_sums(padded.share, BLOCK)
    level = local_level(absolute, counts, window=_blocks(NEAR_MM, spacing_mm))
    level_hu = ndimage.zoom(
        np.maximum(level, MIN_LEVEL_HU), BLOCK, order=1, grid_mode=True, mode="nearest"
    )
    return padded.difference_hu / level_hu, level_hu


def _blocks(mm: float, spacing_mm: Spacing) -> tuple[float, float]:
    return mm / (BLOCK * spacing_mm[0]), mm / (BLOCK * spacing_mm[1])


@dataclass(frozen=True)
class _Search:
    """What all templates of a slice have in common.

    whitened: the slice's whitened transform, by the kind of template, since an edge is odd.
    of_itself, of_white: what a template's power is weighed with at each frequency, for its result
    where it stands itself and for the variance that white noise has in it. window, weights: of the
    neighbourhood of a block (local_level).
    """

    whitened: dict[Kind, NDArray[np.complex64]]
    of_itself: Field
    of_white: Field
    window: tuple[float, float]
    weights: Field


@dataclass(frozen=True)
class _Result:
    """A slice filtered for one template, [rows, columns]. of_one: the result where a template of
    height 1 stands. times_noise: in blocks, how many standard deviations of noise the largest
    is."""

    template: Template
    filtered: Field
    of_one: float
    times_noise: Field

    @classmethod
    def of(cls, template: Template, search: _Search, padded: _Padded) -> _Result:
        """The result for one template of a search."""
        spectrum = search.whitened[template.kind] * template.spectrum
        filtered = fft.irfft2(spectrum, s=padded.share.shape, overwrite_x=True)
        absolute = np.abs(filtered)
        absolute *= padded.inside
        sums = block_sums(absolute, BLOCK)
        level = local_level(sums, padded.counts, window=search.window, weights=search.weights)
        # Where hardly anything was changed there is still the rounding.
        of_white = np.vdot(template.power, search.of_white) / filtered.size
        times_noise = block_maxima(absolute, BLOCK) / np.maximum(
            level, np.sqrt(MIN_POWER * of_white)
        )
        of_one = float(np.vdot(template.power, search.of_itself)) / filtered.size
        return cls(template, filtered, of_one, times_noise)

    def heights(self, rows: slice, columns: slice) -> Field:
        """The heights of the template, in levels, that fit best at each pixel of a part."""
        return self.filtered[rows, columns] / np.float32(self.of_one)


def _places(
    results: list[_Result],
    times_noise: Field,
    level_hu: Field,
    threshold: float,
    corner: tuple[int, int],
) -> Iterator[Place]:
    """Each connected group of blocks above the threshold, by its strongest, strongest first.

    times_noise: [templates, rows, columns] of blocks. corner: the pixel where the part begins.
    """
    most, which = times_noise.max(axis=0), times_noise.argmax(axis=0)
    groups, _ = ndimage.label(most > threshold, structure=np.ones((3, 3)))
    seen: set[int] = set()
    for block in np.argsort(most, axis=None)[::-1][: int((groups > 0).sum())]:
        row, column = divmod(int(block), groups.shape[1])
        group = int(groups[row, column])
        if group in seen:
            continue
        seen.add(group)
        best = results[which[row, column]]
        rows, columns = row * BLOCK, column * BLOCK
        heights = best.heights(slice(rows, rows + BLOCK), slice(columns, columns + BLOCK))
        down, right = divmod(int(np.abs(heights).argmax()), BLOCK)
        place = rows + down, columns + right
        yield Place(
            kind=best.template.kind,
            size_mm=best.template.size_mm,
            height_hu=float(heights[down, right] * level_hu[place]),
            row=place[0] + int(corner[0]),
            column=place[1] + int(corner[1]),
            times_noise=float(most[row, column]),
        )
