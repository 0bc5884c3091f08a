"""Which slices a report shows: the worst first, then a few spread over each patient's body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from pipeline.config.task_runs import DenoiseRun
from pipeline.core.masks import body_mask
from pipeline.core.units import Window
from pipeline.degradations.digest import degradation_digest
from pipeline.evaluation.aggregate import DenoisingOverall, WorstSlices
from pipeline.evaluation.per_patient import WindowFigures
from pipeline.inference.denoise import apply_model
from pipeline.metrics.image import psnr_db, rmse_hu, ssim
from pipeline.report.slice_images import Panel
from pipeline.store.store import Store

SLICES_PER_SERIES = 2
MAX_PANELS = 4
#: Why a slice is among the worst.
LOWEST_PSNR, LEAST_GAIN = "lowest PSNR of all", "least gain of all"


@dataclass(frozen=True)
class _Place:
    """A slice to show, counted from 0, and why."""

    series: str
    index: int
    remark: str = ""


def choose_panels(
    model: nn.Module, store: Store, keys: list[str], config: DenoiseRun, overall: DenoisingOverall
) -> list[Panel]:
    """Panels of what evaluate_store measured: the slices of the lowest PSNR and of the least gain
    in the first window, then others at even distances along each series; each in the window that
    is named for its anatomy, else in the first."""
    name = next(iter(overall.windows))
    chosen: dict[tuple[str, int], _Place] = {}
    for place in (*_worst(overall.worst_slices[name]), *_spread(store, keys)):
        chosen.setdefault((place.series, place.index), place)
    places = list(chosen.values())[:MAX_PANELS]
    return [_panel(model, store, config, place, overall.windows) for place in places]


def _worst(worst: WorstSlices) -> list[_Place]:
    """One slice of each list of worst_slices; the lists may agree."""
    remarks: dict[tuple[str, int], list[str]] = {}
    for rows, why in ((worst.output_psnr, LOWEST_PSNR), (worst.psnr_change, LEAST_GAIN)):
        for row in rows[:1]:
            remarks.setdefault((row.series, row.slice), []).append(why)
    return [_Place(series, index, ", ".join(why)) for (series, index), why in remarks.items()]


def _spread(store: Store, keys: list[str]) -> list[_Place]:
    places = []
    for key in keys:
        count = store.record(key).shape[0]
        found = np.linspace(0, count, SLICES_PER_SERIES + 2)[1:-1].astype(int)
        places += [_Place(key, int(index)) for index in np.unique(found)]
    return places


def _panel(
    model: nn.Module,
    store: Store,
    config: DenoiseRun,
    place: _Place,
    windows: dict[str, WindowFigures],
) -> Panel:
    volume = store.load(place.series)
    window_name, window = _window(windows, volume.provenance.get("anatomy", ""))
    target_hu = np.array(volume.image_hu[place.index], dtype=np.float32)
    degraded = store.load_degraded(place.series, degradation_digest(config, 0))
    input_hu = np.array(degraded[place.index], dtype=np.float32)
    valid = np.array(volume.valid[place.index])
    output_hu = np.where(valid, apply_model(model, input_hu[None])[0], target_hu)
    mask = body_mask(target_hu) & valid
    patient, count = store.record(place.series).patient, len(volume.image_hu)
    return Panel(
        title=f"{patient}, slice {place.index + 1} of {count}",
        target_hu=target_hu,
        input_hu=input_hu,
        output_hu=output_hu.astype(np.float32),
        figures={
            kind: {
                "psnr": psnr_db(image_hu, target_hu, window),
                "ssim": ssim(image_hu, target_hu, window),
                "rmse_hu": rmse_hu(image_hu, target_hu, mask),
            }
            for kind, image_hu in (("input", input_hu), ("output", output_hu))
        },
        window_name=window_name,
        window=window,
        pixel_mm=volume.spacing_mm[2],
        remark=place.remark,
    )


def _window(windows: dict[str, WindowFigures], anatomy: str) -> tuple[str, Window]:
    """That of the anatomy where it has one, else the first."""
    name = anatomy if anatomy in windows else next(iter(windows))
    return name, Window(windows[name].centre_hu, windows[name].width_hu)
