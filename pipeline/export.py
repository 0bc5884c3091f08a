"""The last stage: a model over a source, and the result back as it came: DICOM, or an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.dicom.derived.check import check_series
from pipeline.dicom.derived.difference import write_difference
from pipeline.dicom.derived.encode import UNCOMPRESSED, require_syntax
from pipeline.dicom.derived.write import DENOISED, DOSE_SIMULATED, Operation, write_slices
from pipeline.dicom.findings import Fate, Refusal, SeriesRefusedError, Unreadable
from pipeline.dicom.read import read_volume
from pipeline.dicom.series import Series
from pipeline.discover import Source
from pipeline.drift import drift, traits
from pipeline.files import replacing_folder
from pipeline.image_files import read_image, write_image, written_suffix
from pipeline.infer import Progress, apply_model
from pipeline.physics.calibrate import Calibration
from pipeline.physics.lowdose import LowDoseCT
from pipeline.versions import VERSION
from pipeline.volume import Volume

Exported = tuple[dict[str, Any] | None, list[Refusal]]


@dataclass(frozen=True)
class ModelCard:
    """Which model, at which strength: what a derived series must be able to tell.

    seen: what its training saw, by pipeline.drift; None where nobody wrote it down.
    """

    name: str
    version: int
    weights_sha256: str
    config_digest: str
    data_digest: str
    parameters: int
    strength: float = 1.0
    seen: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def uri(self) -> str:
        """As the registry takes it; version 0 is the one that comes with the software."""
        return f"models:/{self.name}/{self.version}" if self.version else f"{self.name}@pretrained"

    @property
    def slug(self) -> str:
        """Tells models and strengths apart in the name of a folder."""
        return f"{self.name}-v{self.version}{self._partly('-strength{:g}')}"

    def operation(self) -> Operation:
        mixed = self._partly(
            " Strength {:g}: output = input + {:g} * (denoised - input), so that part of the "
            "source's noise stays."
        )
        return Operation(
            label=f"AI DENOISED {self.name} v{self.version}{self._partly(' STRENGTH {:g}')}",
            description=(
                f"Noise reduction by neural network. Model {self.name} version {self.version}, "
                f"weights SHA-256 {self.weights_sha256}.{mixed} AI-derived, not for primary "
                "diagnosis; HU by the source's rescale, geometry of the source."
            ),
            code=DENOISED,
            equipment=self.name,
            equipment_version=f"{self.version} sha256:{self.weights_sha256[:16]}",
            identity=f"{self.name}/{self.version}/{self.weights_sha256}{self._partly('/{:g}')}",
        )

    def _partly(self, told: str) -> str:
        """`told` of a strength below 1; nothing of the whole."""
        return "" if self.strength == 1 else told.format(self.strength, self.strength)


@dataclass(frozen=True)
class Export:
    """How to hand over: where, how DICOM pixels are encoded (a key of encode.SYNTAXES, all
    lossless), and whether what was changed follows as a series of its own, in
    `folder`-difference; labels of a series in which form (export_labels.FORMS)."""

    folder: Path
    syntax: str = UNCOMPRESSED
    difference: bool = False
    labels: str = "seg"

    def __post_init__(self) -> None:
        require_syntax(self.syntax)


def export_denoised(
    model: nn.Module,
    card: ModelCard,
    source: Source,
    to: Export,
    progress: Progress = lambda slices: None,
    *,
    operation: Operation | None = None,
) -> Exported:
    """Read the source, denoise it, and hand the result over: a derived series, or an image file
    of the source's format. operation: what was done, where it was no denoising.

    Returns what to report of it (None if all of it is refused) and what is refused; "drift" tells
    what is unlike the series that the model learned from. Raises LdctError for a derived series
    that fails its check, which is not handed over.
    """
    done = operation or card.operation()

    def compute(volume: Volume) -> Derived:
        facts = {} if card.seen is None else {"drift": drift(traits(volume), card.seen)}
        return Derived(apply_model(model, volume.image_hu, progress=progress), done, facts)

    return _export(source, to, compute)


def export_simulated(physics: LowDoseCT, source: Source, to: Export, *, seed: int) -> Exported:
    """A low-dose copy of a source as export_denoised's; the same seed gives the same noise.

    What is reported includes "calibration": the scanner's setting, given or measured. Raises
    CalibrationError where it had to be measured and could not be.
    """

    def compute(volume: Volume) -> Derived:
        scan = physics.calibration(volume)
        image_hu = physics(volume, np.random.default_rng(seed), scan)
        operation = _simulation(physics, scan, seed)
        return Derived(image_hu, operation, {"calibration": scan.facts()})

    return _export(source, to, compute)


def _simulation(physics: LowDoseCT, scan: Calibration, seed: int) -> Operation:
    told = physics.description
    if physics.photons_per_ray is None:
        told += f" ({scan.photons_per_ray:.3g} measured, {scan.measured_noise_hu:.1f} HU of noise)"
    return Operation(
        label=f"SIMULATED {physics.dose_fraction:.0%} DOSE",
        description=(
            f"Simulated at dose fraction {physics.dose_fraction:g} by noise insertion (Yu et al. "
            f"2012), {told}, seed {seed}. Not for diagnosis."
        ),
        code=DOSE_SIMULATED,
        equipment="dose simulation",
        equipment_version=VERSION,
        identity=f"{physics!r}/{seed}",
    )


@dataclass(frozen=True)
class Derived:
    """What was made of a volume: image_hu [slices, rows, columns], by what, and what to tell."""

    image_hu: NDArray[np.float32]
    operation: Operation
    facts: dict[str, Any] = field(default_factory=dict)


Compute = Callable[[Volume], Derived]


def _export(source: Source, to: Export, compute: Compute) -> Exported:
    if isinstance(source, Series):
        return _export_series(source, to, compute)
    return _export_image(source, to, compute)


def _export_series(series: Series, to: Export, compute: Compute) -> Exported:
    try:
        require_names(series)
        reading = read_volume(series)
    except SeriesRefusedError as refused:
        return None, refused.refusals
    derived = compute(reading.volume)
    written = (derived.image_hu, reading.series, derived.operation)
    report = hand_over(
        to.folder, reading.series, lambda folder: write_slices(*written, folder, syntax=to.syntax)
    )
    if to.difference:
        report["difference"] = hand_over(
            to.folder.with_name(f"{to.folder.name}-difference"),
            reading.series,
            lambda folder: write_difference(*written, folder, syntax=to.syntax),
        )
    return {**report, **derived.facts}, reading.refusals


def require_names(series: Series) -> None:
    """Raises SeriesRefusedError where there is no SOP instance that a result could refer to."""
    reason = "named by its folder, since it names nobody: for training only, not for export"
    nameless = [
        Refusal(instance.path, Fate.QUARANTINED, reason, "SOPInstanceUID")
        for instance in series.instances
        if instance.is_unidentified
    ]
    if nameless:
        raise SeriesRefusedError(nameless)


def _export_image(path: Path, to: Export, compute: Compute) -> Exported:
    try:
        volume = read_image(path)
    except Unreadable as fault:
        return None, [fault.refusal(path)]
    derived = compute(volume)
    # The source's own name may be a patient's; the label keeps the result apart from it.
    name = derived.operation.label.lower().replace(" ", "-").replace("%", "")
    changed = replace(volume, image_hu=derived.image_hu)
    write_image(changed, to.folder / f"{name}{written_suffix(path)}")
    return {
        "folder": to.folder.name,
        "instances": len(volume.image_hu),
        "clipped_pixels": 0,
        **derived.facts,
    }, []


def hand_over(
    folder: Path, source: Series, write: Callable[[Path], dict[str, Any]]
) -> dict[str, Any]:
    """Write a derived series, check it, and only then let it take its place, whole."""
    with replacing_folder(folder) as partial:
        counts = write(partial)
        checked = check_series(partial, source, name=folder.name)
        checked.require()
    return {"folder": folder.name, **counts, "check": checked.summary()}
