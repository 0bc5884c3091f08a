"""What a model must do before it may serve patients, whatever its figures: synthetic images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import nn

from pipeline.config.sections import Component
from pipeline.config.task_runs import DenoiseRun
from pipeline.core.errors import LdctError
from pipeline.core.leftovers import scratch_folder
from pipeline.core.verdicts import Check
from pipeline.dicom.read.pixels import read_pixels
from pipeline.dicom.read.series import Series, find_series
from pipeline.dicom.synthetic.phantom_series import write_phantom_series
from pipeline.evaluation.phantoms import REPORT_SLICES, measure_on_phantoms
from pipeline.export.denoised import export_denoised
from pipeline.export.series import Export
from pipeline.inference.denoise import apply_model
from pipeline.models.adapters.any_dose import at_dose_ratio
from pipeline.models.adapters.base import build_model
from pipeline.models.adapters.card import ModelCard
from pipeline.physics.phantoms.patient import patient_phantom
from pipeline.promotion.compare import within_bounds

#: Sides that no stride divides.
ODD_SIZES = ((63, 77), (101, 64))
IDENTITY = Component(target="pipeline.models.adapters.base.Identity")
#: Rounding of 32-bit floats through the normalisation.
_ROUNDING_HU = 0.01


def acceptance_checks(model: nn.Module, card: ModelCard, config: DenoiseRun) -> list[Check]:
    """A check each of odd sizes, the adapter's identity, and an exported series with padding."""
    return [
        check("odd sizes", lambda: odd_sizes(model)),
        check("identity in the model's adapter", lambda: identity(config)),
        check("export, its conformance and its padding", lambda: _export(model, card)),
    ]


def phantom_checks(model: nn.Module, champion: nn.Module | None, config: DenoiseRun) -> list[Check]:
    """Noise power and HU bias, of both at the challenger's dose, with the same noise."""
    figures = measure_on_phantoms(model, config, slices=REPORT_SLICES)
    theirs = None
    if champion is not None:
        theirs = measure_on_phantoms(champion, config, slices=REPORT_SLICES)
    return within_bounds(figures, config.register_.gate, theirs)


def check(name: str, attempt: Callable[[], None]) -> Check:
    """Passed if the attempt raises nothing; else the limit says what it raised."""
    try:
        attempt()
        fault = ""
    except (LdctError, RuntimeError, ValueError) as error:
        fault = " ".join(str(error).split())[:300]
    return Check(name, None, fault or "passes", passed=not fault)


def odd_sizes(model: nn.Module) -> None:
    """Raises for an output of another shape than its image, or that is not finite."""
    for rows, columns in ODD_SIZES:
        image_hu = np.random.default_rng(rows).normal(40, 200, (1, rows, columns))
        apply_model(model, image_hu.astype(np.float32))  # raises for a shape or what is no number


def identity(config: DenoiseRun) -> None:
    """Raises LdctError where the run's adapter changes HU although its network changes nothing."""
    built = build_model(config.model_copy(update={"model": IDENTITY}))
    # At a ratio of 1 a dose-conditioned model changes nothing, whatever its network does.
    adapter = at_dose_ratio(built, 1.0)
    image_hu = np.linspace(-1024, 3071, 64 * 64, dtype=np.float32).reshape(1, 64, 64)
    change_hu = float(np.abs(apply_model(adapter, image_hu) - image_hu).max())
    if change_hu > _ROUNDING_HU:
        raise LdctError(f"an identity network changes values by {change_hu:.3g} HU")


def _export(model: nn.Module, card: ModelCard) -> None:
    phantom = patient_phantom(np.random.default_rng(0), slices=2, matrix=96)
    with scratch_folder() as scratch:
        write_phantom_series(phantom, scratch / "source", patient_number=1, seed=0)
        (source,) = find_series(scratch / "source").series
        made, refused, _ = export_denoised(model, card, source, Export(scratch / "derived"))
        if made is None or refused:
            raise LdctError(f"{len(refused)} slices of the synthetic series were refused")
        (derived,) = find_series(scratch / "derived").series
        _same_padding(source, derived)


def _same_padding(source: Series, derived: Series) -> None:
    for before, after in zip(source.instances, derived.instances, strict=True):
        original, made = read_pixels(before.load()), read_pixels(after.load())
        padded = original.padded
        if not np.array_equal(original.value[padded], made.value[padded]):
            raise LdctError("padding is not restored exactly")
