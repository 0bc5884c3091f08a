"""What of small things survives a denoiser: a table by size, contrast, dose and setting.

`contrast_table` measures it; pipeline.report.contrast shows it, in a model card too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from pipeline.config.dose import DoseRequest
from pipeline.config.run import RunConfig
from pipeline.config.task_runs import DenoiseRun
from pipeline.core.json_numbers import Figure, JsonRecord
from pipeline.core.types import ImageHU, Progress
from pipeline.core.volume import Volume
from pipeline.evaluation.phantoms import SEED, dose_of, scanner_of
from pipeline.inference.denoise import apply_model
from pipeline.inference.dose_choice import choose_dose_of
from pipeline.models.adapters.any_dose import AnyDoseModel, at_dose_ratio
from pipeline.physics.phantoms.image_quality import RodKind, water_phantom
from pipeline.quality.contrast_kept import (
    CONTRASTS_HU,
    DOSES,
    DiscKept,
    DiscScans,
    discs_kept,
    scan_discs,
)
from pipeline.quality.dose_equivalence import DoseSweep, dose_equivalence
from pipeline.quality.dose_sweep import Sweep
from pipeline.quality.phantom_scan import ScanConditions, Scanner

#: Slices of independent noise: for a command of its own, and for a run's report.
REALISATIONS, REPORT_REALISATIONS = 4, 1
#: Discs of the table that an observer is asked for: seen neither always nor never.
OBSERVED = (RodKind(3, 20), RodKind(5, 10), RodKind(7, 10), RodKind(10, 10))
#: A dose-conditioned model's settings; that of a full dose makes up for all that a dose lacks.
FULL, AUTO = "as full dose", "auto"
LEVELS = (1, 2, 3, 4, 5)
#: Shares of its correction at which any other model is measured.
STRENGTHS = (0.25, 0.5, 0.75, 1.0)


class KeptAt(JsonRecord):
    """One setting at one dose. dose_ratio: of a dose-conditioned model; strength: of another.

    noise_hu, noise_left_hu: standard deviation in water before and after.
    """

    setting: str
    dose_fraction: float
    dose_ratio: Figure = None
    strength: Figure = None
    noise_hu: Figure
    noise_left_hu: Figure
    discs: list[DiscKept]


class ContrastTable(JsonRecord):
    """kept: every setting at every dose. observer: d' of some discs over the doses, undenoised and
    as full dose (or at full strength), where it was asked for."""

    scanner: ScanConditions
    realisations: int
    doses: list[float]
    settings: list[str]
    kept: list[KeptAt]
    observer: DoseSweep | None = None

    def at(self, setting: str, dose_fraction: float) -> KeptAt:
        """One setting at one dose that was measured."""
        return next(
            row for row in self.kept if (row.setting, row.dose_fraction) == (setting, dose_fraction)
        )

    @property
    def main_setting(self) -> str:
        """The one to read first: the last of the list, FULL or full strength."""
        return self.settings[-1]


@dataclass(frozen=True)
class TableRequest:
    """What to measure. settings: of a dose-conditioned model, a DoseRequest by name, FULL besides;
    observer: also d', with `regions` of each disc."""

    doses: tuple[float, ...] = DOSES
    contrasts_hu: tuple[float, ...] = CONTRASTS_HU
    realisations: int = REALISATIONS
    levels: tuple[int, ...] = LEVELS
    strengths: tuple[float, ...] = STRENGTHS
    observer: bool = True
    regions: int = 100

    @property
    def sweep(self) -> Sweep:
        """What the observer looks at."""
        return Sweep(doses=self.doses, rods=OBSERVED, regions=self.regions)

    def images(self, model: nn.Module) -> int:
        """How many images the model will see for its figures, those that levels are chosen on
        left out."""
        settings = len(self.levels) + 2 if isinstance(model, AnyDoseModel) else 1
        measured = len(self.doses) * settings * self.realisations * (1 + len(self.contrasts_hu))
        return measured + (self.sweep.images if self.observer else 0)


def report_request(config: RunConfig) -> TableRequest:
    """What a run's report, which must not wait, has of it: the dose of the training and full dose,
    at few settings and without an observer."""
    return TableRequest(
        doses=tuple(sorted({dose_of(config), 1.0})),
        realisations=REPORT_REALISATIONS,
        levels=(),
        strengths=(config.strength,) if isinstance(config, DenoiseRun) else (1.0,),
        observer=False,
    )


def contrast_table(
    model: nn.Module,
    config: RunConfig,
    request: TableRequest | None = None,
    *,
    scanner: Scanner | None = None,
    photons_per_ray: float | None = None,
    progress: Progress = lambda images: None,
) -> ContrastTable:
    """Contrast kept of discs in water at each dose and setting, and d' of an observer.

    scanner: another than that of the model's training (its kernel, `photons_per_ray`). Raises
    LdctError as dose_equivalence does.
    """
    request = request or TableRequest()
    scanner = scanner or scanner_of(config, photons_per_ray=photons_per_ray)
    scans = scan_discs(
        scanner,
        realisations=request.realisations,
        generator=np.random.default_rng(SEED),
        contrasts_hu=request.contrasts_hu,
    )
    rows = [
        row for dose in request.doses for row in _at_dose(model, scans, dose, request, progress)
    ]
    table = ContrastTable(
        scanner=scanner.conditions,
        realisations=request.realisations,
        doses=list(request.doses),
        settings=list(dict.fromkeys(row.setting for row in rows)),
        kept=rows,
    )
    if not request.observer:
        return table
    found = dose_equivalence(
        lambda image_hu, dose: apply_model(
            at_dose_ratio(model, 1 / dose), image_hu, progress=progress
        ),
        scanner=scanner,
        generator=np.random.default_rng(SEED),
        sweep=request.sweep,
    )
    return table.model_copy(update={"observer": found})


def _at_dose(
    model: nn.Module, scans: DiscScans, dose: float, request: TableRequest, progress: Progress
) -> Iterator[KeptAt]:
    """Every setting at one dose."""
    if not isinstance(model, AnyDoseModel):
        yield from _at_strengths(model, scans, dose, request.strengths, progress)
        return
    asked = {f"level {level}": DoseRequest("level", level) for level in request.levels}
    ratios = {
        name: _chosen_ratio(model, scans, dose, by)
        for name, by in ({AUTO: DoseRequest()} | asked).items()
    }
    for name, ratio in {**ratios, FULL: 1 / dose}.items():
        kept, _ = _measured(at_dose_ratio(model, ratio), scans, dose, progress)
        yield kept.model_copy(update={"setting": name, "dose_ratio": ratio})


def _at_strengths(
    model: nn.Module,
    scans: DiscScans,
    dose: float,
    strengths: Sequence[float],
    progress: Progress,
) -> Iterator[KeptAt]:
    """A share of the correction takes the same share of what the whole takes: measured once."""
    whole, output_hu = _measured(model, scans, dose, progress)
    noisy_hu = scans.water.at_dose(dose)
    change_hu = output_hu - noisy_hu
    for strength in strengths:
        share = strength / getattr(model, "strength", 1.0)
        yield whole.model_copy(
            update={
                "setting": f"strength {strength:g}",
                "strength": strength,
                "noise_left_hu": _noise_hu(noisy_hu + np.float32(share) * change_hu, scans),
                "discs": [_partly(disc, share) for disc in whole.discs],
            }
        )


def _partly(disc: DiscKept, share: float) -> DiscKept:
    values = (disc.kept, *disc.interval)
    kept, low, high = (None if value is None else 1 - share * (1 - value) for value in values)
    return disc.model_copy(update={"kept": kept, "interval": (low, high)})


def _measured(
    model: nn.Module, scans: DiscScans, dose: float, progress: Progress
) -> tuple[KeptAt, ImageHU]:
    """One setting, without its name; and the denoised water."""
    noisy_hu = scans.water.at_dose(dose)
    water_hu: list[ImageHU] = []

    def denoise(image_hu: ImageHU) -> ImageHU:
        """Of [slices, rows, columns]; the first are of water alone."""
        output_hu = apply_model(model, image_hu, progress=progress)
        water_hu.append(output_hu)
        return output_hu

    discs = discs_kept(denoise, scans, dose)
    kept = KeptAt(
        setting="",
        dose_fraction=dose,
        noise_hu=_noise_hu(noisy_hu, scans),
        noise_left_hu=_noise_hu(water_hu[0], scans),
        discs=discs,
    )
    return kept, water_hu[0]


def _noise_hu(image_hu: ImageHU, scans: DiscScans) -> float:
    """Standard deviation in a square of 50 mm at the centre of the water."""
    half = round(25 / scans.grid.pixel_mm)
    middle = scans.grid.matrix // 2
    inside = image_hu[:, middle - half : middle + half, middle - half : middle + half]
    return float(np.mean(np.std(inside, axis=(1, 2))))


def _chosen_ratio(model: AnyDoseModel, scans: DiscScans, dose: float, by: DoseRequest) -> float:
    """As an export would choose it for a series of such water."""
    noisy_hu = scans.water.at_dose(dose)
    count = len(noisy_hu)
    one: Volume = water_phantom(replace(scans.grid, slices=count)).volume
    return choose_dose_of(model, by, replace(one, image_hu=noisy_hu)).dose_ratio
