"""Published conventions: their windows, what they measure, and that they differ."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from helpers.images import body_slice
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from pipeline.config.task_runs import DenoiseRun
from pipeline.core.errors import ConfigError
from pipeline.core.masks import body_mask
from pipeline.core.units import Window
from pipeline.metrics.conventions import ALWAYS, CONVENTIONS, ON_REQUEST, convention
from pipeline.metrics.image import psnr_db, rmse_hu, ssim
from pipeline.metrics.perceptual import vif


def noisy(deviation_hu: float = 40.0) -> NDArray[np.float32]:
    noise = np.random.default_rng(0).standard_normal((64, 64)) * deviation_hu
    return (body_slice() + noise).astype(np.float32)


def figures(name: str, window: Window, **also: list[str]) -> dict[str, float]:
    return CONVENTIONS[name].figures(noisy(), body_slice(), body_mask(body_slice()), window, **also)


@pytest.mark.parametrize(
    ("name", "limits_hu"),
    [
        # DICOM's linear window function with centre -600 and width 1500, and so on.
        ("chest", (-600.5 - 1499 / 2, -600.5 + 1499 / 2)),
        ("abdomen", (49.5 - 399 / 2, 49.5 + 399 / 2)),
        ("neuro", (39.5 - 79 / 2, 39.5 + 79 / 2)),
    ],
)
def test_the_windows_of_eulig(name: str, limits_hu: tuple[float, float]) -> None:
    window = CONVENTIONS["eulig2024"].windows[name]
    assert (window.low_hu, window.high_hu) == limits_hu


def by_ldct_benchmark(centre: float, width: float) -> dict[str, float]:
    """What the published protocol says, in its own terms: values from -1024 HU, windows to
    0 ... 1, SSIM by scikit-image, RMSE and VIF on 0 ... 2924."""
    stored = [body_slice().astype(float) + 1024, noisy().astype(float) + 1024]
    shown = [np.clip((s - (1024 + centre - 0.5)) / (width - 1) + 0.5, 0.0, 1.0) for s in stored]
    clipped = [np.clip(s, 0, 2924) for s in stored]
    return {
        "psnr": -10 * np.log10(np.mean((shown[0] - shown[1]) ** 2)),
        "ssim": structural_similarity(*shown, data_range=1.0),
        "rmse_hu": float(np.sqrt(np.mean((clipped[0] - clipped[1]) ** 2))),
    }


@pytest.mark.parametrize(
    ("name", "centre", "width"),
    [
        ("chest", -600, 1500),
        ("abdomen", 50, 400),
        ("neuro", 40, 80),
    ],
)
def test_eulig_s_figures_are_those_of_the_published_protocol(
    name: str, centre: float, width: float
) -> None:
    found = figures("eulig2024", CONVENTIONS["eulig2024"].windows[name])
    assert found == pytest.approx(by_ldct_benchmark(centre, width), rel=1e-6)


def test_eulig_s_vif_is_on_the_whole_range_whatever_the_window() -> None:
    windows = CONVENTIONS["eulig2024"].windows
    found = {name: figures("eulig2024", w, also=["vif"])["vif"] for name, w in windows.items()}
    expected = vif(noisy(), body_slice(), Window(438, 2924), peak=2924)
    assert found == dict.fromkeys(windows, expected)


def test_the_others_cover_their_ranges() -> None:
    (soft,) = CONVENTIONS["redcnn"].windows.values()
    (twelve_bits,) = CONVENTIONS["range4096"].windows.values()
    assert (soft.low_hu, soft.high_hu) == (-160, 240)
    assert (twelve_bits.low_hu, twelve_bits.high_hu) == (-1024, 3072)


def test_rmse_is_clipped_where_the_convention_clips() -> None:
    image, target = noisy(), body_slice()
    clipped = [np.clip(i, -160, 240) for i in (image, target)]
    expected = float(np.sqrt(np.mean((clipped[0] - clipped[1]) ** 2)))
    assert figures("redcnn", Window(40, 400))["rmse_hu"] == pytest.approx(expected, rel=1e-6)
    own = figures("ldct", Window(40, 400))["rmse_hu"]
    assert own == rmse_hu(image, target, body_mask(target))
    assert own > expected + 5


def test_one_slice_has_as_many_decibels_as_conventions() -> None:
    shown = [
        figures(name, window)["psnr"]
        for name in ("redcnn", "range4096")
        for window in CONVENTIONS[name].windows.values()
    ]
    assert shown[1] > shown[0] + 10


def test_within_the_body_no_air_flatters() -> None:
    window = Window(40, 400)
    whole, body = figures("ldct", window), figures("ldct_body", window)
    mask = body_mask(body_slice())
    assert body["psnr"] == psnr_db(noisy(), body_slice(), window, mask=mask)
    assert body["ssim"] == ssim(noisy(), body_slice(), window, mask=mask)
    assert body["psnr"] < whole["psnr"] - 1
    assert body["rmse_hu"] == whole["rmse_hu"]


def test_only_what_is_asked_for_is_computed() -> None:
    assert tuple(figures("ldct", Window(40, 400))) == ALWAYS
    everything = figures("ldct", Window(40, 400), also=["hu_bias", *ON_REQUEST])
    assert tuple(everything) == (*ALWAYS, *ON_REQUEST)


def test_a_run_names_any_of_them() -> None:
    assert set(get_args(DenoiseRun.model_fields["convention"].annotation)) == set(CONVENTIONS)


def test_an_anatomy_has_its_own_window_and_no_other() -> None:
    run = {"w": Window(1, 2)}
    assert list(CONVENTIONS["eulig2024"].windows_for(run, "neuro")) == ["neuro"]
    assert CONVENTIONS["eulig2024"].windows_for(run, "") == {}
    assert CONVENTIONS["ldct"].windows_for(run, "") == run
    assert list(CONVENTIONS["redcnn"].windows_for(run, "neuro")) == ["abdomen"]


def test_each_says_what_its_figures_are() -> None:
    stated = {name: tuple(c.stated().values()) for name, c in CONVENTIONS.items()}
    assert len(set(stated.values())) == len(CONVENTIONS)
    assert "[-1024, 1900] HU" in CONVENTIONS["eulig2024"].stated()["rmse"]


def test_a_report_says_ssim_s_window_and_constants() -> None:
    said = {c.ssim: c.stated()["psnr_and_ssim"] for c in CONVENTIONS.values()}
    assert said["uniform"].endswith("SSIM in a uniform window of 7 x 7 pixels, K1 0.01, K2 0.03")
    assert "a Gaussian window of 11 x 11 pixels, sigma 1.5" in said["padded"]
    assert all(c.name == name and c.source for name, c in CONVENTIONS.items())


def test_a_convention_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"eulig2025.*eulig2024"):
        convention("eulig2025")
    assert convention("eulig2024") is CONVENTIONS["eulig2024"]
