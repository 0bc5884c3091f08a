"""Published conventions of PSNR, SSIM, RMSE and VIF by name, so that papers can be compared.

A figure says nothing without its window, its range, its region and its mean: one and the same
undenoised slice has 30.7 dB in one of these conventions and 48.6 in another. Figures of two
conventions are never to be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from pipeline.core.errors import ConfigError
from pipeline.core.types import ImageHU
from pipeline.core.units import Window
from pipeline.metrics.image import (
    SSIM_GAUSSIAN_RADIUS,
    SSIM_K1,
    SSIM_K2,
    SSIM_SIGMA_PIXELS,
    SSIM_WINDOW_PIXELS,
    Mask,
    psnr_db,
    rmse_hu,
    ssim,
    ssim_padded,
)
from pipeline.metrics.perceptual import EIGHT_BIT_PEAK, gmsd, ms_ssim, vif

#: Computed at every evaluation, and those that a run's `metrics:` asks for.
ALWAYS = ("psnr", "ssim", "rmse_hu")
ON_REQUEST = ("vif", "gmsd", "ms_ssim")

AGGREGATIONS = {
    "patients": "mean over slices within a patient, then over patients",
    "slices": "mean over all slices, so that a patient counts by their number",
}
REGIONS = {"slice": "whole slice", "body": "within the body"}
_GAUSSIAN_PIXELS = 2 * SSIM_GAUSSIAN_RADIUS + 1
SSIM_WINDOWS = {
    "uniform": f"a uniform window of {SSIM_WINDOW_PIXELS} x {SSIM_WINDOW_PIXELS} pixels",
    "padded": f"a Gaussian window of {_GAUSSIAN_PIXELS} x {_GAUSSIAN_PIXELS} pixels, "
    f"sigma {SSIM_SIGMA_PIXELS:g}, zeros around the slice and its rim counted",
}


@dataclass(frozen=True)
class Convention:
    """How a slice becomes figures, and figures of slices one figure.

    windows: by name; empty for those of the run's configuration. by_anatomy: they are named
    for anatomies, and a patient has the one of the anatomy scanned. aggregation: what counts
    the same, patients or slices. region: where PSNR and SSIM are taken. ssim: `ssim` or
    `ssim_padded` of pipeline.metrics.image. rmse_window: RMSE over the whole
    slice, clipped to it; None for RMSE within the body, nothing clipped. vif_window: VIF on
    values counted from its lower end in HU; None for VIF on the display window as 8 bits.
    """

    name: str
    source: str
    windows: dict[str, Window] = field(default_factory=dict)
    by_anatomy: bool = False
    aggregation: Literal["patients", "slices"] = "patients"
    region: Literal["slice", "body"] = "slice"
    ssim: Literal["uniform", "padded"] = "uniform"
    rmse_window: Window | None = None
    vif_window: Window | None = None

    def windows_for(self, run: dict[str, Window], anatomy: str) -> dict[str, Window]:
        """The windows to measure a series in, of a run with windows `run`.

        None of them where the convention goes by anatomy and has none for this one.
        """
        if not self.by_anatomy:
            return self.windows or run
        return {name: window for name, window in self.windows.items() if name == anatomy}

    def figures(
        self,
        image_hu: ImageHU,
        target_hu: ImageHU,
        body: Mask,
        window: Window,
        *,
        also: Sequence[str] = (),
    ) -> dict[str, float]:
        """Figures of one slice [rows, columns] in one window; `also` names some of ON_REQUEST."""
        mask = body if self.region == "body" else None
        similarity = ssim if self.ssim == "uniform" else ssim_padded
        figures = {
            "psnr": psnr_db(image_hu, target_hu, window, mask=mask),
            "ssim": similarity(image_hu, target_hu, window, mask=mask),
            "rmse_hu": self._rmse_hu(image_hu, target_hu, body),
        }
        if "vif" in also:
            shown = self.vif_window or window
            peak = self.vif_window.width if self.vif_window else EIGHT_BIT_PEAK
            figures["vif"] = vif(image_hu, target_hu, shown, peak=peak)
        if "gmsd" in also:
            figures["gmsd"] = gmsd(image_hu, target_hu, window)
        if "ms_ssim" in also:
            figures["ms_ssim"] = ms_ssim(image_hu, target_hu, window)
        return figures

    def _rmse_hu(self, image_hu: ImageHU, target_hu: ImageHU, body: Mask) -> float:
        if self.rmse_window is None:
            return rmse_hu(image_hu, target_hu, body)
        low, high = self.rmse_window.low_hu, self.rmse_window.high_hu
        everywhere = np.ones(image_hu.shape, dtype=bool)
        return rmse_hu(np.clip(image_hu, low, high), np.clip(target_hu, low, high), everywhere)

    def stated(self) -> dict[str, str]:
        """What a reader of the figures must know, for the record."""
        clipped = self.rmse_window
        return {
            "convention": self.name,
            "aggregation": AGGREGATIONS[self.aggregation],
            "psnr_and_ssim": f"{REGIONS[self.region]}, clipped to the window; data range = the "
            f"window's width; SSIM in {SSIM_WINDOWS[self.ssim]}, K1 {SSIM_K1:g}, K2 {SSIM_K2:g}",
            "rmse": "within the body, HU not clipped"
            if clipped is None
            else f"whole slice, clipped to [{clipped.low_hu:g}, {clipped.high_hu:g}] HU",
        }


#: This project's own: the windows of the run, every patient counting the same.
HOUSE = Convention(name="ldct", source="this project")

_RED_CNN_WINDOW = Window(40, 400)
_TWELVE_BITS = Window(1024, 4096)
_EULIG_RANGE = Window(438, 2924)

#: By name:
#:
#: ldct: the run's own windows; PSNR and SSIM over the whole slice, RMSE within the body; mean
#:   within a patient, then over patients.
#: ldct_body: the same, PSNR and SSIM within the body too, so that the air around a thin
#:   patient does not flatter.
#: eulig2024: chest -600/1500, abdomen 50/400, neuro 40/80, of which a patient has the one of
#:   the anatomy scanned; RMSE and VIF on [-1024, 1900] HU over the whole slice; mean over all
#:   slices of an anatomy. Their windows follow DICOM's linear function (PS3.3 C.11.2.1.2),
#:   which takes half a HU off the centre and one off the width.
#: redcnn: everything on [-160, 240] HU, RMSE too, over the whole slice; SSIM with a Gaussian
#:   window and zero padding; mean over all slices: papers on the Mayo 2016 set that measure by
#:   RED-CNN's widespread reimplementation (SSinyu/RED-CNN).
#: range4096: the same measures on [-1024, 3072] HU, 12 bits.
CONVENTIONS: dict[str, Convention] = {
    "ldct": HOUSE,
    "ldct_body": Convention(name="ldct_body", source="this project", region="body"),
    "eulig2024": Convention(
        name="eulig2024",
        source="Eulig et al., Medical Physics 2024 (arXiv 2401.04661) and its code, ldct-benchmark",
        windows={
            "chest": Window(-600.5, 1499),
            "abdomen": Window(49.5, 399),
            "neuro": Window(39.5, 79),
        },
        by_anatomy=True,
        aggregation="slices",
        rmse_window=_EULIG_RANGE,
        vif_window=_EULIG_RANGE,
    ),
    "redcnn": Convention(
        name="redcnn",
        source="Chen et al., IEEE TMI 2017, as reimplemented for the Mayo 2016 set",
        windows={"abdomen": _RED_CNN_WINDOW},
        aggregation="slices",
        ssim="padded",
        rmse_window=_RED_CNN_WINDOW,
    ),
    "range4096": Convention(
        name="range4096",
        source="papers on the Mayo 2016 set that normalise 12 bits",
        windows={"full": _TWELVE_BITS},
        aggregation="slices",
        ssim="padded",
        rmse_window=_TWELVE_BITS,
    ),
}


def convention(name: str) -> Convention:
    """The convention of a name; ConfigError says which there are."""
    try:
        return CONVENTIONS[name]
    except KeyError:
        raise ConfigError(
            f"there is no convention {name}; there are: {', '.join(CONVENTIONS)}"
        ) from None
