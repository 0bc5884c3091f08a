"""The last stage: a model over a source, and the result back as it came: DICOM, or an image."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.core.ordered_pool import map_in_order
from pipeline.core.refusals import Disposition, Refusal, SeriesRefusedError, Unreadable
from pipeline.core.types import Progress
from pipeline.core.versions import VERSION
from pipeline.core.volume import Volume
from pipeline.dicom.derived.difference import write_slice_difference
from pipeline.dicom.derived.encode import UNCOMPRESSED, require_syntax
from pipeline.dicom.derived.publish import SeriesWriter, Write, derived_series
from pipeline.dicom.derived.write import DOSE_SIMULATED, Operation, write_slice
from pipeline.dicom.read.pixels import read_slice
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import Slice, SliceReader, read_some, read_volume
from pipeline.inference.denoise import apply_model, apply_to_slices
from pipeline.inference.drift import drift, measured_slices, traits
from pipeline.io.discover import Source
from pipeline.io.volume_files import read_image, write_image, written_suffix
from pipeline.models.adapters.card import ModelCard
from pipeline.physics.calibration import Calibration
from pipeline.physics.lowdose import LowDoseCT

Exported = tuple[dict[str, Any] | None, list[Refusal]]
#: Slices that wait to be written while the next ones are computed: two batches.
UNWRITTEN = 8


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
    of the source's format. operation: what was done, where it was no denoising. Of a series no
    more than some slices are in memory: they are decoded, denoised, written and checked at once.

    Returns what to report of it (None if all of it is refused) and what is refused; "drift" tells
    what is unlike the series that the model learned from. Raises LdctError for a derived series
    that fails its check, which is not handed over.
    """
    done = operation or card.operation()

    def unlike(volume: Volume) -> dict[str, Any]:
        return {} if card.seen is None else {"drift": drift(traits(volume), card.seen)}

    def compute(volume: Volume) -> Derived:
        output_hu = apply_model(model, volume.image_hu, progress=progress)
        return Derived(output_hu, done, unlike(volume))

    if not isinstance(source, Series):
        return _export_image(source, to, compute)
    try:
        report, read = _stream_series(source, to, model, done, progress)
    except SeriesRefusedError as refused:
        return None, refused.refusals
    telling = read_some(read.series, measured_slices(len(read.series.instances)))
    return {**report, **unlike(telling)}, read.refusals


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

    if not isinstance(source, Series):
        return _export_image(source, to, compute)
    try:
        return _export_whole(source, to, compute)
    except SeriesRefusedError as refused:
        return None, refused.refusals


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


def _stream_series(
    series: Series, to: Export, model: nn.Module, operation: Operation, progress: Progress
) -> tuple[dict[str, Any], SliceReader]:
    """Decode, infer and write at once; what the reader tells at the end."""
    require_names(series)
    reader = SliceReader(series)
    return publish(_computed(model, reader, progress), series, operation, to), reader


def _computed(model: nn.Module, reader: SliceReader, progress: Progress) -> Iterator[Slice]:
    """What the model makes of each slice; those it has been given wait for its answer."""
    waiting: deque[Slice] = deque()

    def given() -> Iterator[NDArray[np.float32]]:
        for slice_ in reader.slices():
            waiting.append(slice_)
            yield slice_.image_hu

    for output_hu in apply_to_slices(model, given(), progress=progress):
        yield replace(waiting.popleft(), image_hu=output_hu)


def _export_whole(series: Series, to: Export, compute: Compute) -> Exported:
    """For what needs all of a volume at once."""
    require_names(series)
    reading = read_volume(series)
    derived = compute(reading.volume)
    pairs = zip(reading.series.instances, derived.image_hu, strict=True)
    made = (Slice(instance, read_slice(instance), image_hu) for instance, image_hu in pairs)
    report = publish(made, reading.series, derived.operation, to)
    return {**report, **derived.facts}, reading.refusals


def require_names(series: Series) -> None:
    """Raises SeriesRefusedError where there is no SOP instance that a result could refer to."""
    reason = "named by its folder, since it names nobody: for training only, not for export"
    nameless = [
        Refusal(instance.path, Disposition.QUARANTINED, reason, "SOPInstanceUID")
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


def publish(
    made: Iterable[Slice], source: Series, operation: Operation, to: Export
) -> dict[str, Any]:
    """Write and check the derived series, and its difference, while `made` is being computed."""
    with ExitStack() as stack:

        def begin(folder: Path, write: Write) -> SeriesWriter:
            return stack.enter_context(
                derived_series(folder, source, operation, write, syntax=to.syntax)
            )

        # Left in reverse: the derived series is in its place before its difference is judged.
        beside = to.folder.with_name(f"{to.folder.name}-difference")
        difference = begin(beside, write_slice_difference) if to.difference else None
        derived = begin(to.folder, write_slice)
        series = [derived] if difference is None else [derived, difference]

        def take(one: Slice) -> None:
            for going in series:
                going.take(one)

        for _ in map_in_order(take, made, threads=1, max_ahead=UNWRITTEN):
            pass
    if difference is None:
        return derived.report
    told = {name: difference.report[name] for name in ("folder", "instances", "check")}
    return {**derived.report, "difference": told}
