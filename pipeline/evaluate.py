"""How well, in physical units: per slice, per patient, beside the undenoised input."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.config import Gate, RunConfig
from pipeline.dataset import degradation_digest
from pipeline.dicom.read import read_volume
from pipeline.dicom.series import Series
from pipeline.errors import LdctError, NothingUsableError
from pipeline.infer import Progress, apply_model
from pipeline.masks import body_mask
from pipeline.metrics import psnr_db, rmse_hu, ssim, tissue_masks
from pipeline.store import Store
from pipeline.units import TISSUE_RANGES_HU, Window

AGGREGATION = "mean over slices within a patient, then over patients"
#: Slices of a pair may lie this far apart and still be the same.
SAME_PLACE_MM = 0.05
FIGURES = ("psnr", "ssim", "rmse_hu")
KINDS = ("input", "output")
Images = NDArray[np.float32]


@dataclass
class PatientFigures:
    """Figures of one patient's slices, as they come in."""

    windows: dict[str, Window]
    slices: int = 0
    rows: dict[tuple[str, str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    voxels: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(
        self, *, input_hu: Images, output_hu: Images, target_hu: Images, valid: NDArray
    ) -> None:
        """Add a series, each [slices, rows, columns]. Slices without a body do not count."""
        for index in range(len(target_hu)):
            mask = body_mask(target_hu[index]) & valid[index]
            if not mask.any():
                continue
            self.slices += 1
            target = np.asarray(target_hu[index], dtype=np.float32)
            tissues = tissue_masks(target, mask)
            for name, voxels in tissues.items():
                self.voxels[name].append(int(voxels.sum()))
            for kind, images in zip(KINDS, (input_hu, output_hu), strict=True):
                # Padding holds no measurement: whatever a model makes of it is no error.
                image = np.where(valid[index], images[index], target).astype(np.float32)
                self._add_slice(kind, image, target, mask)
                for name, voxels in tissues.items():
                    error = float((image - target)[voxels].sum()) if voxels.any() else 0.0
                    self.errors[name, kind].append(error)

    def _add_slice(self, kind: str, image: Images, target: Images, mask: NDArray) -> None:
        body_rmse_hu = rmse_hu(image, target, mask)
        for name, window in self.windows.items():
            self.rows[name, kind, "psnr"].append(psnr_db(image, target, window))
            self.rows[name, kind, "ssim"].append(ssim(image, target, window))
            self.rows[name, kind, "rmse_hu"].append(body_rmse_hu)

    def summary(self) -> dict[str, Any]:
        """Means over the slices; bias over all voxels of a tissue, None where it has none."""
        return {
            "slices": self.slices,
            "windows": {
                name: {
                    "centre_hu": window.centre,
                    "width_hu": window.width,
                    **{
                        kind: {figure: _mean(self.rows[name, kind, figure]) for figure in FIGURES}
                        for kind in KINDS
                    },
                    "hu_bias": self._bias("output"),
                }
                for name, window in self.windows.items()
            },
            "hu_bias": {kind: self._bias(kind) for kind in KINDS},
        }

    def _bias(self, kind: str) -> dict[str, float | None]:
        return {
            name: sum(self.errors[name, kind]) / sum(self.voxels[name])
            if sum(self.voxels[name])
            else None
            for name in TISSUE_RANGES_HU
        }


def evaluate_store(
    model: nn.Module,
    store: Store,
    keys: list[str],
    config: RunConfig,
    progress: Progress = lambda slices: None,
) -> dict[str, Any]:
    """{"overall", "patients"} for stored series, the cached degraded image as the input."""
    records = store.records()
    figures: dict[str, PatientFigures] = {}
    for key in keys:
        volume = store.load(key)
        input_hu = store.load_degraded(key, degradation_digest(config, 0))
        patient = figures.setdefault(records[key]["patient"], PatientFigures(config.windows))
        patient.add(
            input_hu=input_hu,
            output_hu=apply_model(model, input_hu, progress=progress),
            target_hu=volume.image_hu,
            valid=volume.valid,
        )
    return summarise(figures)


def evaluate_pair(
    model: nn.Module,
    input_: Series,
    target: Series,
    *,
    windows: dict[str, Window],
    progress: Progress = lambda slices: None,
) -> dict[str, Any]:
    """{"overall", "patients"} for a real pair of series, which must show the same places.

    Raises LdctError where a slice of one has no partner in the other.
    """
    low, full = read_volume(input_).volume, read_volume(target).volume
    if low.image_hu.shape != full.image_hu.shape or not np.allclose(
        low.slice_origins_mm, full.slice_origins_mm, atol=SAME_PLACE_MM
    ):
        raise LdctError(
            f"the two series do not show the same places: {low.image_hu.shape} from "
            f"{low.slice_origins_mm[0].tolist()} mm against {full.image_hu.shape} from "
            f"{full.slice_origins_mm[0].tolist()} mm"
        )
    patient = PatientFigures(windows)
    patient.add(
        input_hu=low.image_hu,
        output_hu=apply_model(model, low.image_hu, progress=progress),
        target_hu=full.image_hu,
        valid=low.valid & full.valid,
    )
    return summarise({"pair": patient})


def summarise(figures: dict[str, PatientFigures]) -> dict[str, Any]:
    """{"overall", "patients"}; raises NothingUsableError where no slice showed a body."""
    patients = {name: p.summary() for name, p in figures.items() if p.slices}
    if not patients:
        raise NothingUsableError("no slice to evaluate shows a body")
    return {"overall": over_patients(patients), "patients": patients}


def over_patients(patients: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The mean of several patients' summaries, each patient counting the same."""
    summaries = list(patients.values())
    return {
        "aggregation": AGGREGATION,
        "psnr_and_ssim": "whole slice, clipped to the window; data range = the window's width",
        "rmse": "within the body, HU not clipped",
        "patients": len(summaries),
        **_mean_tree([{k: s[k] for k in ("windows", "hu_bias")} for s in summaries]),
    }


def _mean_tree(trees: list[Any], *, may_lack: bool = False) -> Any:
    """Mean of equally shaped trees of numbers, None where one of them is None.

    Only a tissue may be lacking: not every patient shows lung. A figure that one patient
    lacks would be a mean over other patients than its neighbour's.
    """
    if isinstance(trees[0], dict):
        return {
            key: _mean_tree([tree[key] for tree in trees], may_lack=may_lack or key == "hu_bias")
            for key in trees[0]
        }
    numbers = [number for number in trees if number is not None]
    return _mean(numbers) if may_lack or len(numbers) == len(trees) else None


def _mean(numbers: list[float]) -> float | None:
    """The mean, or None where there is none: no numbers, or an infinite PSNR among them."""
    mean = float(np.mean(numbers)) if numbers else math.nan
    return mean if math.isfinite(mean) else None


def judge(overall: dict[str, Any], gate: Gate) -> dict[str, Any]:
    """Does a model pass? Each check with its figure and its limit, for the record.

    The gain must be reached in the first window; the bias holds in every tissue.
    """
    window, figures = next(iter(overall["windows"].items()))
    before_db, after_db = figures["input"]["psnr"], figures["output"]["psnr"]
    gain_db = None if before_db is None or after_db is None else after_db - before_db
    checks = [
        {
            "check": f"PSNR gain in window {window}, dB",
            "figure": gain_db,
            "limit": f">= {gate.psnr_gain_db}",
            "passed": gain_db is not None and gain_db >= gate.psnr_gain_db,
        }
    ]
    for tissue, bias_hu in overall["hu_bias"]["output"].items():
        limit_hu = gate.max_abs_bias_hu(tissue)
        if bias_hu is not None and limit_hu is not None:
            checks.append(
                {
                    "check": f"HU bias in {tissue}",
                    "figure": bias_hu,
                    "limit": f"|bias| <= {limit_hu}",
                    "passed": abs(bias_hu) <= limit_hu,
                }
            )
    return {"passed": all(check["passed"] for check in checks), "checks": checks}
