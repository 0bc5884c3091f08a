"""How well a calibration predicts the noise of slices that it has not seen."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.core.volume import Volume
from pipeline.physics.calibration import Calibration, measured_scan
from pipeline.physics.detector import Exposure
from pipeline.physics.fan_beam_geometry import FanBeam
from pipeline.physics.noise_patches import bands


class Agreement(NamedTuple):
    """Measured against predicted noise in the flat tissue of one slice.

    measured_hu: standard deviation above 0.1 cycles per mm, the median over the patches. ratio:
    predicted over measured of these, the median over the patches; whole_ratio: the same of the
    plain standard deviation, of which anatomy adds a part to the measured one.
    """

    slice_number: int
    patches: int
    measured_hu: float
    ratio: float
    whole_ratio: float


def agreement(
    volume: Volume,
    calibration: Calibration,
    slices: tuple[int, ...],
    *,
    geometry: FanBeam | None = None,
    electronic_noise: float = 10.0,
    exposure: Exposure | None = None,
) -> list[Agreement]:
    """Measured against predicted noise, best on slices that the calibration has not seen.

    The prediction is a draw of its own, through the same anatomy. Slices without flat tissue are
    left out.
    """
    scan = measured_scan(volume, slices, geometry or FanBeam(), exposure or Exposure())
    photons = np.array(calibration.slice_photons_per_ray, np.float32)[list(scan.slices)]
    variance = scan.attenuation / photons[:, None, None]
    deviation = np.sqrt(variance + np.float32(electronic_noise) * variance**2)
    (predicted,) = scan.noise_hu(deviation, calibration.cutoff, seed=2)
    rows = []
    for number, patches, image, noise in zip(
        scan.slices, scan.patches, scan.image_hu, predicted, strict=True
    ):
        measured, expected = (
            [patches.variances(each) for each in (np.add(*bands(one, scan.spacing_mm)), one)]
            for one in (image, noise)
        )
        ratios = [
            float(np.sqrt(np.median(two / one)))
            for one, two in zip(measured, expected, strict=True)
        ]
        deviation_hu = float(np.sqrt(np.median(measured[0])))
        rows.append(Agreement(int(number), len(patches), deviation_hu, *ratios))
    return rows
