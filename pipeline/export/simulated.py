"""Stage export: a simulated low-dose copy of one source, for rehearsal; never for diagnosis."""

from __future__ import annotations

import numpy as np

from pipeline.core.versions import VERSION
from pipeline.core.volume import Volume
from pipeline.dicom.derived.write import DOSE_SIMULATED, Operation
from pipeline.export.series import Derived, Export, Exported, export_whole
from pipeline.io.discover import Source
from pipeline.physics.calibration import Calibration
from pipeline.physics.lowdose import LowDoseCT


def export_simulated(physics: LowDoseCT, source: Source, to: Export, *, seed: int) -> Exported:
    """Write a simulated low-dose copy of a source; the same seed gives the same noise.

    The report's detail "calibration" is the scanner's setting, configured or measured. Raises
    CalibrationError where it had to be measured and could not be, and LdctError as
    export_denoised does.
    """

    return export_whole(source, to, lambda volume: simulated_volume(physics, volume, seed=seed))


def simulated_volume(physics: LowDoseCT, volume: Volume, *, seed: int) -> Derived:
    """The volume with noise inserted. Raises CalibrationError as export_simulated does."""
    scan = physics.calibration(volume)
    image_hu = physics(volume, np.random.default_rng(seed), scan)
    operation = _simulation(physics, scan, seed)
    return Derived(image_hu, operation, {"calibration": scan.facts()})


def _simulation(physics: LowDoseCT, scan: Calibration, seed: int) -> Operation:
    noise = physics.description
    if physics.photons_per_ray is None:
        noise += f" ({scan.photons_per_ray:.3g} measured, {scan.measured_noise_hu:.1f} HU of noise)"
    return Operation(
        label=low_dose_label(physics),
        description=f"{low_dose_description(physics, noise)}, seed {seed}. Not for diagnosis.",
        code=DOSE_SIMULATED,
        equipment="dose simulation",
        equipment_version=VERSION,
        identity=f"{physics!r}/{seed}",
    )


def low_dose_label(physics: LowDoseCT) -> str:
    """How the series description of a simulated image begins."""
    return f"SIMULATED {physics.dose_fraction:.0%} DOSE"


def low_dose_description(physics: LowDoseCT, noise: str) -> str:
    """What was done, as text for a header, to which the draw is added. noise: how it was set."""
    return (
        f"Simulated at dose fraction {physics.dose_fraction:g} by noise insertion (Yu et al. "
        f"2012), {noise}"
    )
