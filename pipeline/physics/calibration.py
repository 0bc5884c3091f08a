"""A scanner's photons per ray and kernel, estimated from the noise of its own image.

The header gives the tube current but not how many quanta a detector cell counted, which also
depends on collimation, filters, the detector, interpolation along z and the kernel. So the
image's noise is measured where tissue is flat, noise of known strength is sent through the same
anatomy and reconstruction, and the photons are those that make the two equal.

Limits: the kernel is one family (a Hann window over the ramp), so edge-enhancing kernels and
iterative reconstruction, whose noise has another spectrum, are matched only in strength; noise
below about 0.1 cycles per mm is predicted, never measured, as anatomy lives there; the isocentre
is taken to be the image's centre, and the photons are those of one slice as it was reconstructed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from pipeline.core.errors import LdctError
from pipeline.core.units import hu_to_mu_per_mm, mu_per_mm_to_hu_difference
from pipeline.core.volume import Volume
from pipeline.physics.detector import Exposure
from pipeline.physics.fan_beam_geometry import FanBeam, FloatArray, kernel_window, padded_length
from pipeline.physics.image_noise import evenly_spread
from pipeline.physics.noise_patches import Patches, bands, flat_patches
from pipeline.physics.projector import projector_on

#: Slices that are measured, evenly spread; between them the photons are interpolated, which
#: follows a tube current that changes along the patient.
SLICES = 12

#: Of these, the ones from which the kernel is estimated.
_KERNEL_SLICES = 3

#: A slice with fewer flat patches gives no reliable estimate.
MIN_PATCHES = 10

#: Less noise than this is rounding: there is nothing to continue.
MIN_NOISE_HU = 0.5

#: Views that are enough for the strength of noise: image noise of all views is that of these
#: over the root of how many times more there are.
_VIEWS = 288

#: Of a million photons, this line integral leaves six; more attenuation (metal) adds nothing.
_MAX_LINE_INTEGRAL = np.float32(12.0)

#: Kernels that are tried, softest first.
CUTOFFS = (0.5, 0.6, 0.7, 0.8, 1.0, 1.25, 1.6, 2.0, 3.0, math.inf)

#: Photons per ray, mA and mm of slice: 130 to 900 on the scanners of our development data.
_PLAUSIBLE_PER_MA_MM = (20.0, 8000.0)


class CalibrationError(LdctError):
    """The image's noise cannot be measured: too little flat tissue, or no noise in it."""


@dataclass(frozen=True)
class Calibration:
    """A scanner's setting for one volume.

    slice_photons_per_ray: N0 of each slice; photons_per_ray: their geometric mean. cutoff: the
    kernel. measured_noise_hu: the median standard deviation in flat tissue above 0.1 cycles per
    mm, 0 where nothing was measured. patches: how many it was measured in. notes: warnings.
    """

    photons_per_ray: float
    slice_photons_per_ray: tuple[float, ...]
    cutoff: float
    measured_noise_hu: float = 0.0
    patches: int = 0
    notes: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """For report.json; the cutoff of the bare ramp, which is infinite, is None."""
        return {
            "measured": self.patches > 0,
            "photons_per_ray": self.photons_per_ray,
            "slice_photons_per_ray": [
                min(self.slice_photons_per_ray),
                max(self.slice_photons_per_ray),
            ],
            "kernel_cutoff": self.cutoff if math.isfinite(self.cutoff) else None,
            "measured_noise_hu": self.measured_noise_hu if self.patches else None,
            "flat_patches": self.patches,
            "notes": list(self.notes),
        }

    @classmethod
    def known(cls, photons_per_ray: float, *, slices: int, cutoff: float) -> Calibration:
        """A setting that is known, the same for every slice."""
        return cls(photons_per_ray, (photons_per_ray,) * slices, cutoff)


def calibrate(
    volume: Volume,
    *,
    geometry: FanBeam | None = None,
    electronic_noise: float = 10.0,
    exposure: Exposure | None = None,
    cutoff: float | None = None,
    slices: tuple[int, ...] | None = None,
) -> Calibration:
    """N0 and the kernel from a volume's own noise; the same volume gives the same numbers.

    cutoff: the kernel, if it is known. slices: which to measure (default: SLICES of them,
    evenly spread). Raises CalibrationError where too little flat tissue or no noise is found.
    """
    count = volume.image_hu.shape[0]
    if slices is None:
        slices = tuple(evenly_spread(count, SLICES))
    scan = measured_scan(volume, slices, geometry or FanBeam(), exposure or Exposure())
    notes: tuple[str, ...] = ()
    if cutoff is None:
        cutoff, notes = _fitted_cutoff(scan)
    photons = _photons(scan, cutoff, electronic_noise)
    by_slice = np.exp(np.interp(np.arange(count), scan.slices, np.log(photons)))
    mean = float(np.exp(np.log(by_slice).mean()))
    return Calibration(
        photons_per_ray=mean,
        slice_photons_per_ray=tuple(float(each) for each in by_slice),
        cutoff=cutoff,
        measured_noise_hu=_noise_hu(scan),
        patches=sum(len(each) for each in scan.patches),
        notes=(*notes, *_header_notes(volume.provenance, mean)),
    )


@dataclass(frozen=True)
class _Scan:
    """The slices with enough flat tissue: their patches, and their rays in `geometry`.

    attenuation: exp(p) over the relative photons, [slices, views, detectors]: the variance that
    one photon per ray would give each line integral.
    """

    slices: tuple[int, ...]
    image_hu: FloatArray
    patches: list[Patches]
    attenuation: FloatArray
    spacing_mm: tuple[float, float]
    geometry: FanBeam
    exposure: Exposure
    full_views: int

    def select(self, numbers: NDArray[np.integer]) -> _Scan:
        """The scan of some of its slices, by their position in `slices`."""
        return replace(
            self,
            slices=tuple(self.slices[n] for n in numbers),
            image_hu=self.image_hu[numbers],
            patches=[self.patches[n] for n in numbers],
            attenuation=self.attenuation[numbers],
        )

    def noise_hu(self, deviation: FloatArray, *cutoffs: float, seed: int = 0) -> list[FloatArray]:
        """One draw of noise with a deviation on each line integral, as each kernel shows it:
        images [slices, rows, columns]."""
        noise = np.random.default_rng(seed).standard_normal(deviation.shape, dtype=np.float32)
        noise *= deviation * np.float32(math.sqrt(self.geometry.views / self.full_views))
        noise = np.stack([self.exposure.blurred(each) for each in noise])
        # The kernels' windows first, then the ramp for all of them at once: several times faster.
        length = padded_length(self.geometry)
        spectrum = fft.rfft(noise, length, axis=2, workers=-1)
        shown = [
            fft.irfft(spectrum * kernel_window(self.geometry, each), length, axis=2, workers=-1)
            for each in cutoffs
        ]
        noise_mu_per_mm = projector_on("cpu").filtered_backprojection(
            np.concatenate(shown)[..., : self.geometry.detectors],
            shape=(self.image_hu.shape[1], self.image_hu.shape[2]),
            spacing_mm=self.spacing_mm,
            geometry=self.geometry,
        )
        return np.split(mu_per_mm_to_hu_difference(noise_mu_per_mm), len(cutoffs))

    def variances(self, images: FloatArray) -> list[tuple[FloatArray, FloatArray, FloatArray]]:
        """Of each slice: variance in its patches of the fine band, the coarser, and their sum."""
        found = []
        for image, patches in zip(images, self.patches, strict=True):
            fine, coarse = bands(image, self.spacing_mm)
            found.append(tuple(patches.variances(each) for each in (fine, coarse, fine + coarse)))
        return found  # type: ignore[return-value]


def measured_scan(
    volume: Volume,
    slices: tuple[int, ...],
    geometry: FanBeam,
    exposure: Exposure,
) -> _Scan:
    """The slices with flat tissue enough, projected. Raises CalibrationError if there is none."""
    spacing_mm = volume.spacing_mm[1:]
    found = {n: flat_patches(volume.image_hu[n], volume.valid[n], spacing_mm) for n in slices}
    kept = tuple(n for n in slices if len(found[n]) >= MIN_PATCHES)
    if not kept:
        raise CalibrationError(
            f"no slice has {MIN_PATCHES} flat patches of tissue from which its noise could be "
            "measured: give photons_per_ray (--photons)"
        )
    image_hu = volume.image_hu[list(kept)]
    fewer = replace(geometry, views=min(_VIEWS, geometry.views))
    line_integrals = projector_on("cpu").forward_project(
        hu_to_mu_per_mm(image_hu), spacing_mm=spacing_mm, geometry=fewer
    )
    attenuation = np.stack(
        [
            np.exp(np.minimum(each, _MAX_LINE_INTEGRAL)) / exposure.relative_photons(each, fewer)
            for each in line_integrals
        ]
    )
    patches = [found[n] for n in kept]
    scan = _Scan(kept, image_hu, patches, attenuation, spacing_mm, fewer, exposure, geometry.views)
    if _noise_hu(scan) < MIN_NOISE_HU:
        raise CalibrationError(
            f"flat tissue shows less than {MIN_NOISE_HU} HU of noise, none that a scanner makes: "
            "give photons_per_ray (--photons)"
        )
    return scan


def _noise_hu(scan: _Scan) -> float:
    whole = np.concatenate([each[2] for each in scan.variances(scan.image_hu)])
    return float(np.sqrt(np.median(whole)))


def _fitted_cutoff(scan: _Scan) -> tuple[float, tuple[str, ...]]:
    """The kernel whose noise is as fine as the image's: the fine band over the coarser one."""
    richest = np.argsort([-len(each) for each in scan.patches], kind="stable")[:_KERNEL_SLICES]
    scan = scan.select(np.sort(richest))
    deviation = np.sqrt(scan.attenuation)
    fineness = [_fineness(scan, noise) for noise in scan.noise_hu(deviation, *CUTOFFS)]
    measured = _fineness(scan, scan.image_hu)
    # Between two kernels tried, in the reciprocal: it is finite for the bare ramp too.
    softness = float(np.interp(measured, fineness, 1 / np.array(CUTOFFS)))
    notes: tuple[str, ...] = ()
    if not fineness[0] <= measured <= fineness[-1]:
        kind = "softer" if measured < fineness[0] else "sharper"
        notes = (f"the noise is {kind} than that of any kernel tried",)
    return (1 / softness if softness else math.inf), notes


def _fineness(scan: _Scan, images: FloatArray) -> float:
    found = scan.variances(images)
    fine, coarse = (np.median(np.concatenate([each[n] for each in found])) for n in (0, 1))
    return float(np.log(fine / coarse))


def _photons(scan: _Scan, cutoff: float, electronic_noise: float) -> NDArray[np.float64]:
    """N0 of each slice: the median over its patches of the N0 that explains each.

    The variance is A / N0 + Ne B / N0^2, A from the quanta and B from the electronics.
    """
    measured = scan.variances(scan.image_hu)
    quanta = scan.variances(*scan.noise_hu(np.sqrt(scan.attenuation), cutoff))
    electronics = scan.variances(*scan.noise_hu(scan.attenuation, cutoff, seed=1))
    photons = []
    for here, one, two in zip(measured, quanta, electronics, strict=True):
        a, b = one[2].astype(np.float64), 4 * electronic_noise * two[2].astype(np.float64)
        # The root for N0 of variance N0^2 - A N0 - Ne B = 0.
        photons.append(np.median((a + np.sqrt(a**2 + b * here[2])) / (2 * here[2])))
    return np.array(photons)


def _header_notes(provenance: dict[str, Any], photons_per_ray: float) -> tuple[str, ...]:
    """The header as a cross-check: photons per mA and mm of slice that no scanner has."""
    current, thickness = provenance.get("XRayTubeCurrent"), provenance.get("SliceThickness")
    if not (isinstance(current, float) and isinstance(thickness, float) and current * thickness):
        return ()
    ratio = photons_per_ray / (current * thickness)
    low, high = _PLAUSIBLE_PER_MA_MM
    if low <= ratio <= high:
        return ()
    return (f"{ratio:.3g} photons per ray, mA and mm: has the image's noise been processed?",)
