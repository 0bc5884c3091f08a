"""Parts of a report made to order."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.core.units import Window
from pipeline.report.slice_images import Panel

WINDOW = Window(40, 400)


def a_panel(**changes: Any) -> Panel:
    rows, columns = np.mgrid[:80, :100]
    body = (rows - 40) ** 2 + (columns - 50) ** 2 < 30**2
    target_hu = np.where(body, 40.0, -1000.0).astype(np.float32)
    parts: dict[str, Any] = {
        "title": "p-bbb slice 2 of 3",
        "target_hu": target_hu,
        "input_hu": target_hu + 20,
        "output_hu": target_hu - 5,
        "figures": {
            "input": {"psnr": 18.824, "ssim": 0.717, "rmse_hu": 93.9},
            "output": {"psnr": 29.481, "ssim": 0.863, "rmse_hu": 25.4},
        },
        "window_name": "soft_tissue",
        "window": WINDOW,
        "pixel_mm": 0.8,
    }
    return Panel(**{**parts, **changes})


def some_figures() -> dict[str, Any]:
    bias = {"lung": None, "fat": -0.81, "soft_tissue": 1.2, "bone": -3.4}
    window = {"centre_hu": 40.0, "width_hu": 400.0, **a_panel().figures}
    return {"windows": {"soft_tissue": window}, "hu_bias": {"input": bias, "output": bias}}


def a_curve(points: int) -> list[dict[str, Any]]:
    return [
        {"iteration": 20 * k, "loss": 1 / (k + 1), "learning_rate": 1e-3, "patches_per_s": 130.0}
        for k in range(points)
    ]


def a_run() -> dict[str, Any]:
    """What report.json has of a run of which all went well."""
    return {
        "name": "denoise_redcnn",
        "task": "denoise",
        "started": "2026-11-21T08:00:00+00:00",
        "seconds": 612.3,
        "stages": [{"stage": "ingest", "seconds": 3.1}, {"stage": "train", "seconds": 402.0}],
        "model": {"name": "redcnn", "version": 3, "aliases": ["champion"], "parameters": 74593}
        | {"weights_sha256": "9f2c", "uri": "models:/redcnn/3"},
        "data_digest": "ab12",
        "config_digest": "77de",
        "versions": {"ldct": "0.1.0"},
        "split": {"p-aaa": "train", "p-bbb": "test"},
        "series": [
            {"series": "s-1", "patient": "p-aaa", "side": "train", "slices": 52}
            | {"description": {"Manufacturer": "GE"}, "warnings": ["uneven spacing"]}
        ],
        "quarantined": [],
        "excluded": [],
        "metrics": {
            "overall": {"aggregation": "mean over slices", "patients": 1, **some_figures()}
            | {"psnr_and_ssim": "clipped to the window", "rmse": "within the body"},
            "patients": {"p-bbb": {"slices": 51, **some_figures()}},
        },
        "gate": {
            "passed": True,
            "checks": [{"check": "gain", "figure": 10.66, "limit": ">= 1.0", "passed": True}],
        },
        "exported": [
            {"series": "s-2", "patient": "p-bbb", "folder": "derived/s-2", "instances": 51}
        ],
        "config": {"name": "denoise_redcnn", "source": "dicomweb+http://pacs:8042/dicom-web"},
    }
