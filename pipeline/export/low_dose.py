"""Stage export: a held-back series as a run measured it, the simulated low-dose input and the
model's result on it, so that the run's figures can be computed again from files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.config.component import build
from pipeline.config.dose import DoseChoice
from pipeline.config.sections import Component
from pipeline.config.task_runs import DenoiseRun
from pipeline.core.errors import LdctError
from pipeline.core.types import Progress
from pipeline.core.versions import VERSION
from pipeline.core.volume import Volume
from pipeline.degradations.digest import degradation_digest
from pipeline.dicom.derived.write import DOSE_SIMULATED, Operation
from pipeline.dicom.read.pixels import read_slice
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import Slice, affine_lps
from pipeline.export.series import Derived, Export, Exported, export_image, publish
from pipeline.export.simulated import low_dose_description, low_dose_label
from pipeline.inference.denoise import apply_to_slices
from pipeline.io.discover import Source
from pipeline.models.adapters.any_dose import AnyDoseModel, at_dose_ratio
from pipeline.models.adapters.card import ModelCard
from pipeline.models.adapters.denoiser import dose_ratio_measured
from pipeline.physics.lowdose import LowDoseCT
from pipeline.store.store import Store

#: Of the description, for a degradation that is no low dose.
MAX_DEGRADATION_CHARACTERS = 200


class OtherGridError(LdctError):
    """A series was stored on another grid than its files have, so that none of them can hold what
    was measured."""


class LowDoseSeries(NamedTuple):
    """What was measured of one series: the input as the run made it, and the model's output."""

    input: Exported
    output: Exported


def export_low_dose(
    model: nn.Module,
    card: ModelCard,
    source: Source,
    store: Store,
    key: str,
    config: DenoiseRun,
    folder: Path,
    progress: Progress = lambda slices: None,
) -> LowDoseSeries:
    """Write what a run's figures of a stored series rest on, in its source's form: the slices that
    the store holds, as they were degraded, and as the model makes them.

    folder: its name is the input's, and with the model's appended the output's. Values are rounded
    to those that the source can store. Raises OtherGridError where slices were resampled or filled
    in when they were stored, and LdctError for a series that fails its check.
    """
    stored, digest = store.load(key), degradation_digest(config, 0)
    input_hu = store.load_degraded(key, digest)
    simulated = simulation(config, identity=f"{digest}/{key}")
    measured, choice = model, None
    if isinstance(model, AnyDoseModel) and card.dose is not None:
        ratio = dose_ratio_measured(config)
        measured, choice = at_dose_ratio(model, ratio), DoseChoice(ratio, "as it was measured")
    output_hu = apply_to_slices(measured, input_hu, progress=progress)
    denoised = card.operation(choice).after(simulated)
    beside = folder.with_name(f"{folder.name}-{card.slug}")
    return LowDoseSeries(
        _export(input_hu, source, stored, simulated, folder),
        _export(output_hu, source, stored, denoised, beside).marked(card.missed),
    )


def simulation(config: DenoiseRun, *, identity: str) -> Operation:
    """The operation that made a run's degraded inputs. identity: of the degradation, its draw and
    the series."""
    asked = config.degradation
    assert asked is not None, "real low-dose series are not simulated"
    physics = build(asked, key="degradation", base=object)
    if isinstance(physics, LowDoseCT):
        label, what = low_dose_label(physics), low_dose_description(physics, physics.description)
    else:
        label, what = "SIMULATED DEGRADATION", _described(asked)
    return Operation(
        label=label,
        description=f"{what}, draw 0 of the run's seed {config.train.seed}. Not for diagnosis.",
        code=DOSE_SIMULATED,
        equipment="dose simulation",
        equipment_version=VERSION,
        identity=identity,
    )


def _described(asked: Component) -> str:
    text = f"Simulated by {asked.target} {json.dumps(asked.args)}"
    return text[:MAX_DEGRADATION_CHARACTERS]


def _export(
    images_hu: Iterable[NDArray[np.float32]],
    source: Source,
    stored: Volume,
    operation: Operation,
    folder: Path,
) -> Exported:
    """One image for each stored slice, into a folder of its own."""
    to = Export(folder)
    if not isinstance(source, Series):
        return export_image(source, to, lambda volume: _derived(images_hu, volume, operation))
    series = _stored_part(source, stored)
    processed = (
        Slice(instance, read_slice(instance), np.asarray(image_hu, dtype=np.float32))
        for instance, image_hu in zip(series.instances, images_hu, strict=True)
    )
    return Exported(publish(processed, series, operation, to), [])


def _derived(
    images_hu: Iterable[NDArray[np.float32]], volume: Volume, operation: Operation
) -> Derived:
    image_hu = np.stack([np.asarray(one, dtype=np.float32) for one in images_hu])
    _require(image_hu.shape == volume.image_hu.shape)
    return Derived(image_hu, operation)


def _stored_part(source: Series, stored: Volume) -> Series:
    """The slices of a source that the store holds, in its order."""
    places = {tuple(instance.origin_mm): instance for instance in source.instances}
    found = [places.get(tuple(origin)) for origin in stored.slice_origins_mm]
    kept = tuple(instance for instance in found if instance is not None)
    _require(len(kept) == len(found))
    series = source if kept == source.instances else source.keeping(kept)
    shape = (len(kept), series.header.Rows, series.header.Columns)
    _require(shape == stored.image_hu.shape)
    _require(np.allclose(affine_lps(series), stored.affine_lps))
    return series


def _require(same_grid: bool) -> None:
    if not same_grid:
        raise OtherGridError("stored on another grid than its files have (data.intake)")
