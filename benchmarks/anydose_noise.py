"""The noise of real scans for benchmarks/anydose.py: before and after, and by kernel."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
from anydose_scans import Denoise, Images, ingested, scan_of

from pipeline.core.volume import Volume
from pipeline.physics.calibration import Calibration, calibrate
from pipeline.physics.fan_beam_geometry import FanBeam
from pipeline.physics.image_noise import FlatTissue
from pipeline.physics.lowdose import LowDoseCT
from pipeline.quality.nps import noise_power

#: Series of one scan with a smooth and a sharp kernel.
TWO_KERNELS = (
    ("chest-philips-lungpetctdx-a0001", "b", "l"),
    ("chest-siemens-lungpetctdx-a0002", "b40f", "b70f"),
)


def before_and_after(folder: Path, work: Path, denoise: Denoise) -> dict[str, Any]:
    """Noise and its spectrum in flat tissue of a real scan, at several ratios."""
    store = ingested(folder, work / "noisy")
    (key,) = store.records()
    scan = scan_of(store, key, "no twin")
    tissue = FlatTissue.of(scan.volume)
    images = {1.0: scan.volume.image_hu}
    images |= {ratio: denoise(scan.volume.image_hu, ratio) for ratio in (2.0, 4.0, 10.0)}
    return {
        "label": scan.label,
        "at_ratio": {f"{ratio:g}": texture(tissue, image_hu) for ratio, image_hu in images.items()},
    }


def texture(tissue: FlatTissue, image_hu: Images) -> dict[str, Any]:
    """Level and spectrum of the noise in flat patches of [slices, rows, columns]."""
    regions = [
        patches.regions(image_hu[number])
        for number, patches in zip(tissue.slices, tissue.patches, strict=True)
    ]
    spectrum = noise_power(np.concatenate(regions), pixel_mm=tissue.spacing_mm)
    found = tissue.noise([image_hu[number] for number in tissue.slices])
    assert found is not None
    return {
        "noise_hu": found.noise_hu,
        "mean_frequency_per_mm": spectrum.mean_frequency_per_mm,
        "frequency_per_mm": spectrum.radial_per_mm.tolist(),
        "power_hu2_mm2": spectrum.radial_hu2_mm2.tolist(),
    }


def two_kernels(folder: Path, work: Path) -> list[dict[str, Any]]:
    """The noise of a scan with a sharp kernel, predicted from the photons of the smooth series.

    Both series are of one scan, so the photons are the same; the kernel's spectrum is the sharp
    series' own. gain: see there; it is what the spectrum above 0.1 per mm does not show.
    """
    rows = []
    for name, smooth, sharp in TWO_KERNELS:
        pair = [folder / f"{name}-{kernel}" for kernel in (smooth, sharp)]
        stores = [ingested(each, work / each.name) for each in pair]
        volumes = [store.load(key) for store in stores for key in store.records()]
        scans = [calibrate(volume) for volume in volumes]
        tissue = FlatTissue.of(volumes[1])
        chosen = list(tissue.slices)
        own = tissue.noise([volumes[1].image_hu[n] for n in chosen])
        # At half the dose as much noise comes in as there is.
        from_smooth = dataclasses.replace(scans[0], cutoff=scans[1].cutoff)
        half_hu = LowDoseCT(0.5)(volumes[1], np.random.default_rng(5), from_smooth)
        added = tissue.noise([(half_hu - volumes[1].image_hu)[n] for n in chosen])
        assert own is not None
        assert added is not None
        rows.append(
            {
                "scan": f"{smooth} and {sharp}",
                "measured_hu": [each.measured_noise_hu for each in scans],
                "predicted_sharp_hu": added.noise_hu,
                "measured_sharp_hu": own.noise_hu,
                "fineness": {"predicted": added.fineness, "measured": own.fineness},
                "gain": gain(tissue, volumes, scans[0]),
            }
        )
    return rows


def gain(tissue: FlatTissue, volumes: list[Volume], smooth: Calibration) -> dict[str, float]:
    """What the sharp kernel does to the lowest frequency that flat patches show, over what no
    kernel at all would do; the smooth kernel's part is that of its calibrated window."""
    found = [texture(tissue, volume.image_hu) for volume in volumes]
    at_per_mm = found[0]["frequency_per_mm"][0]
    powers = [each["power_hu2_mm2"][0] for each in found]
    end_per_mm = smooth.cutoff * FanBeam().nyquist_per_mm
    window = 0.5 + 0.5 * math.cos(math.pi * min(1.0, at_per_mm / end_per_mm))
    return {"at_per_mm": at_per_mm, "gain": math.sqrt(powers[1] / powers[0]) * window}
