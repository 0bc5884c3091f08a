"""Stage export: a denoiser over one source, at the dose asked for; a series slice by slice."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.config.names import digest
from pipeline.core.refusals import SeriesRefusedError
from pipeline.core.types import Progress
from pipeline.core.volume import Volume
from pipeline.dicom.derived.write import Operation
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import Slice, SliceReader, read_slices
from pipeline.export.audit import SeriesAudit
from pipeline.export.series import (
    Derived,
    Export,
    Exported,
    ExportReport,
    export_image,
    publish,
    require_identifiers,
)
from pipeline.export.structured_report import write_series_report
from pipeline.export.uncertainty import SeriesUncertainty, require_uncertainty
from pipeline.inference.denoise import apply_model, apply_to_slices
from pipeline.inference.dose_choice import choose_dose_of
from pipeline.inference.drift import NOT_KNOWN, Drift, drift
from pipeline.inference.traits import TrainingTraits, measured_slices, traits
from pipeline.io.discover import Source
from pipeline.models.adapters.any_dose import AnyDoseModel, at_dose_ratio
from pipeline.models.adapters.base import ModelAdapter
from pipeline.models.adapters.card import ModelCard
from pipeline.models.computing.choice import checked, choose
from pipeline.models.computing.ways import FP32, computed_by

#: Of the 1,024 characters of DerivationDescription (PS3.5, VR ST), those for the drift.
MAX_DRIFT_CHARACTERS = 400


def export_denoised(
    model: nn.Module,
    card: ModelCard,
    source: Source,
    to: Export,
    progress: Progress = lambda slices: None,
    *,
    operation: Operation | None = None,
) -> Exported:
    """Denoise a source: write a derived series, or an image file of the source's format.

    operation: what the model does, where that is no denoising. A series is processed as a stream:
    only some slices are in memory, which are decoded, denoised, written and checked in parallel.
    The report's details "drift" and "drift_line" hold what is unlike the series that the model
    learned from (inference.drift), with which the derived header's description begins; "dose"
    what a dose-conditioned model made up for, and why (inference.dose_choice); "audit", of a
    denoiser, where it changed more than noise (export.audit); "computing", unless `to` asks for
    fp32, in which way it was computed and why (models.computing.choice), which the header says too.
    Raises LdctError for a derived series that fails its check, which is then not written.
    """

    def compute(volume: Volume) -> Derived:
        """The denoised volume."""
        applied = _applied(model, card, lambda: volume, operation)
        applied = _computed(applied, model, card, lambda: volume, volume.image_hu.shape, to)
        beside = _uncertainty(card, applied) if to.uncertainty else None
        return _derived(applied, volume, progress, beside, audited=operation is None)

    if not isinstance(source, Series):
        return export_image(source, to, compute)
    try:
        sample = cache(lambda: _sample(source))
        applied = _applied(model, card, sample, operation)
        if to.skip_unneeded and applied.unneeded:
            return Exported(None, [], skipped=applied.unneeded)
        header = source.header
        shape = (len(source.instances), int(header.Rows), int(header.Columns))
        applied = _computed(applied, model, card, sample, shape, to)
        audit = SeriesAudit() if operation is None else None
        beside = _uncertainty(card, applied) if to.uncertainty else None
        report, reader = _stream_series(source, to, applied, audit, beside, progress)
    except SeriesRefusedError as refused:
        return Exported(None, refused.refusals)
    warnings = [*reader.series.warnings, *reader.values.remarks()]
    report = report.warned(warnings).with_details(**applied.details)
    if to.structured_report and operation is None:
        row = write_series_report(reader.series, to.folder, applied.operation, report.details)
        report = report.with_details(structured_report=row)
    return Exported(report, reader.refusals)


def denoised_volume(
    model: nn.Module,
    card: ModelCard,
    volume: Volume,
    progress: Progress = lambda slices: None,
    *,
    sampled: bool,
    uncertainty: bool = False,
) -> Derived:
    """A volume in memory denoised, with the operation and details of export_denoised.

    sampled: the dose and the drift are measured on some slices, as of a DICOM series; else on all,
    as of an image file. uncertainty: how far each voxel may be off, too. Raises LdctError where the
    noise has to be measured and cannot be, and ConfigError for a model whose uncertainty is asked
    for and was not calibrated.
    """
    if uncertainty:
        require_uncertainty(card)

    def sample() -> Volume:
        """What is measured."""
        if not sampled:
            return volume
        return volume.slices(measured_slices(len(volume.image_hu)))

    applied = _applied(model, card, sample, None)
    beside = _uncertainty(card, applied) if uncertainty else None
    return _derived(applied, volume, progress, beside, audited=True)


def _derived(
    applied: _Applied,
    volume: Volume,
    progress: Progress,
    uncertainty: SeriesUncertainty | None,
    *,
    audited: bool,
) -> Derived:
    """The volume after the model, with what it changed beyond noise if `audited`."""
    output_hu = apply_model(applied.model, volume.image_hu, progress=progress)
    audit: dict[str, object] = {}
    if audited:
        audit = {"audit": SeriesAudit.of_volume(volume, output_hu).to_dict()}
    if uncertainty is not None:
        uncertainty.add_volume(volume, output_hu)
    return Derived(output_hu, applied.operation, {**applied.details, **audit}, uncertainty)


def _sample(series: Series) -> Volume:
    """Some slices, on which a series is measured."""
    return read_slices(series, measured_slices(len(series.instances)))


class _Applied(NamedTuple):
    """A model as it is applied to one source, what that is called, and details for the report.

    unneeded: why the source comes out as it goes in, where it does. dose_ratio: None for a model
    that is not dose-conditioned.
    """

    model: nn.Module
    operation: Operation
    details: dict[str, object]
    unneeded: str = ""
    dose_ratio: float | None = None


def _applied(
    model: nn.Module,
    card: ModelCard,
    sample: Callable[[], Volume],
    operation: Operation | None,
) -> _Applied:
    """The model as it is; a dose-conditioned one at the ratio for this source. sample: slices of
    the source."""
    if not isinstance(model, AnyDoseModel) or card.dose is None:
        found = _drift(card, sample)
        return _Applied(model, with_drift(operation or card.operation(), found), found.to_dict())
    choice = choose_dose_of(model, card.dose, sample())
    found = _drift(card, sample)
    details = {**found.to_dict(), "dose": choice.to_dict()}
    conditioned = at_dose_ratio(model, choice.dose_ratio)
    unneeded = choice.why if choice.leaves_alone else ""
    described = with_drift(card.operation(choice), found)
    return _Applied(conditioned, described, details, unneeded, choice.dose_ratio)


def _computed(
    applied: _Applied,
    model: nn.Module,
    card: ModelCard,
    sample: Callable[[], Volume],
    shape: tuple[int, ...],
    to: Export,
) -> _Applied:
    """The same, computed as it is asked for, of a source [slices, rows, columns]."""
    if to.compute == "fp32":
        return applied
    slices, *size = shape
    choice = choose(
        model,
        network=digest([card.weights_sha256, card.config_digest]),
        shape=(size[0], size[1]),
        slices=slices,
        asked="fp32" if applied.unneeded else to.compute,
    )

    def conditioned(model: nn.Module) -> nn.Module:
        """The model at the dose of this source."""
        return model if applied.dose_ratio is None else at_dose_ratio(model, applied.dose_ratio)

    used = applied.model
    if isinstance(model, ModelAdapter) and choice.way != FP32:
        seen_hu = sample().image_hu
        choice = checked(choice, model, seen_hu[len(seen_hu) // 2], conditioned)
        used = conditioned(computed_by(model, choice.way))
    return applied._replace(
        model=used,
        operation=applied.operation.computed(choice.sentence, choice.way.identity),
        details={**applied.details, "computing": choice.to_dict()},
    )


def _uncertainty(card: ModelCard, applied: _Applied) -> SeriesUncertainty:
    """What collects the uncertainty; ConfigError where it is not known."""
    calibration = require_uncertainty(card)
    assert applied.dose_ratio is not None, "only dose-conditioned models are calibrated"
    return SeriesUncertainty(calibration, applied.dose_ratio)


def _drift(card: ModelCard, sample: Callable[[], Volume]) -> Drift:
    """Not known for a model without a record, and for slices that cannot be decoded, which the
    export itself then reports."""
    if card.seen is None:
        return NOT_KNOWN
    try:
        return drift(traits(sample()), TrainingTraits.from_dict(card.seen))
    except SeriesRefusedError:
        return NOT_KNOWN


def with_drift(operation: Operation, found: Drift) -> Operation:
    """The operation whose description begins with the drift; what training saw may be named in
    another character set than the source's."""
    line = found.line
    if len(line) > MAX_DRIFT_CHARACTERS:
        line = f"{line[: MAX_DRIFT_CHARACTERS - 3]}..."
    line = line.encode("ascii", "replace").decode("ascii")
    return replace(operation, description=f"{line} {operation.description}")


def _stream_series(
    series: Series,
    to: Export,
    applied: _Applied,
    audit: SeriesAudit | None,
    uncertainty: SeriesUncertainty | None,
    progress: Progress,
) -> tuple[ExportReport, SliceReader]:
    """Decode, infer and write in parallel; the reader has then read all slices."""
    require_identifiers(series)
    reader = SliceReader(series)
    denoised = _denoised(applied.model, reader, progress)
    return publish(denoised, series, applied.operation, to, audit, uncertainty), reader


def _denoised(model: nn.Module, reader: SliceReader, progress: Progress) -> Iterator[Slice]:
    """Each slice with the model's output; the model works on a few slices at a time."""
    in_progress: deque[Slice] = deque()

    def inputs() -> Iterator[NDArray[np.float32]]:
        """Each slice in HU, kept until its output is there."""
        for slice_ in reader.slices():
            in_progress.append(slice_)
            yield slice_.image_hu

    for output_hu in apply_to_slices(model, inputs(), progress=progress):
        yield replace(in_progress.popleft(), image_hu=output_hu)
