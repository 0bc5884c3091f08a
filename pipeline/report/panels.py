"""Which slices a report shows: a few of each held-back patient, spread over the body."""

from __future__ import annotations

import numpy as np
from torch import nn

from pipeline.config import RunConfig
from pipeline.dataset import degradation_digest
from pipeline.infer import apply_model
from pipeline.masks import body_mask
from pipeline.metrics import psnr_db, rmse_hu, ssim
from pipeline.report.figures import Panel
from pipeline.store import Store
from pipeline.units import Window

SLICES_PER_SERIES = 2
MOST_PANELS = 4


def choose_panels(
    model: nn.Module, store: Store, keys: list[str], config: RunConfig
) -> list[Panel]:
    """Panels at even distances along each series, in the window that is named for its anatomy,
    else in the run's first."""
    panels: list[Panel] = []
    for key in keys:
        volume = store.load(key)
        input_hu = store.load_degraded(key, degradation_digest(config, 0))
        count = len(volume.image_hu)
        places = np.linspace(0, count, SLICES_PER_SERIES + 2)[1:-1].astype(int)
        for index in sorted(set(places.tolist())):
            if len(panels) == MOST_PANELS:
                return panels
            panels.append(
                _panel(
                    model,
                    window=_window(config, volume.provenance.get("anatomy", "")),
                    title=f"{store.record(key)['patient']}, slice {index + 1} of {count}",
                    target_hu=np.array(volume.image_hu[index], dtype=np.float32),
                    input_hu=np.array(input_hu[index], dtype=np.float32),
                    valid=np.array(volume.valid[index]),
                )
            )
    return panels


def _panel(
    model: nn.Module,
    *,
    window: tuple[str, Window],
    title: str,
    target_hu: np.ndarray,
    input_hu: np.ndarray,
    valid: np.ndarray,
) -> Panel:
    name, shown = window
    output_hu = np.where(valid, apply_model(model, input_hu[None])[0], target_hu)
    mask = body_mask(target_hu) & valid
    figures = {
        kind: {
            "psnr": psnr_db(image_hu, target_hu, shown),
            "ssim": ssim(image_hu, target_hu, shown),
            "rmse_hu": rmse_hu(image_hu, target_hu, mask),
        }
        for kind, image_hu in (("input", input_hu), ("output", output_hu))
    }
    return Panel(
        title=title,
        target_hu=target_hu,
        input_hu=input_hu,
        output_hu=output_hu.astype(np.float32),
        figures=figures,
        window_name=name,
        window=shown,
    )


def _window(config: RunConfig, anatomy: str) -> tuple[str, Window]:
    name = anatomy if anatomy in config.windows else next(iter(config.windows))
    return name, config.windows[name]
