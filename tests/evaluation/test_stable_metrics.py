"""The names that models are ranked by: a contract, so they are written out here."""

from __future__ import annotations

from pipeline.evaluation.aggregate import DenoisingOverall
from pipeline.evaluation.generation import GenerationOverall
from pipeline.evaluation.latent import LowerBound
from pipeline.evaluation.per_patient import WindowFigures
from pipeline.evaluation.restoration import RestorationOverall
from pipeline.evaluation.segmentation import ClassFigures, SegmentationOverall
from pipeline.evaluation.stable_metrics import (
    denoising_metrics,
    generation_metrics,
    restoration_metrics,
    segmentation_metrics,
)


def test_denoising() -> None:
    window = WindowFigures(
        centre_hu=40,
        width_hu=400,
        input={"psnr": 20.0, "ssim": 0.5, "rmse_hu": 50.0},
        output={"psnr": None, "ssim": 0.9, "rmse_hu": 10.0},
        change={"psnr": None, "ssim": 0.4, "rmse_hu": -40.0},
    )
    bias = {"input": {"lung": 1.0}, "output": {"lung": -0.5, "bone": None, "fat": float("nan")}}
    overall = DenoisingOverall(
        windows={"soft tissue/2": window}, hu_bias=bias, patients=3, slices=90
    )
    assert denoising_metrics(overall) == {
        "test.soft_tissue_2.input.psnr": 20,
        "test.soft_tissue_2.input.ssim": 0.5,
        "test.soft_tissue_2.input.rmse_hu": 50,
        "test.soft_tissue_2.output.ssim": 0.9,
        "test.soft_tissue_2.output.rmse_hu": 10,
        "test.soft_tissue_2.change.ssim": 0.4,
        "test.soft_tissue_2.change.rmse_hu": -40,
        "test.bias_hu.lung": -0.5,
        "test.patients": 3,
        "test.slices": 90,
    }


def segmented(dice: float) -> SegmentationOverall:
    rest = dict.fromkeys(ClassFigures.model_fields, None)
    liver = ClassFigures(**rest | {"dice": dice, "hd95_mm": 4.0, "volume_ml": 900.0, "missed": 1})
    return SegmentationOverall(patients=2, dice=dice, surface_dice=0.5, classes={"liver": liver})


def test_segmentation_with_the_doses_beside() -> None:
    doses = {"full dose": segmented(0.8), "low dose": segmented(0.6)}
    overall = segmented(0.8).model_copy(update={"doses": doses})
    own = {
        "dice": 0.8,
        "surface_dice": 0.5,
        "patients": 2,
        "class.liver.dice": 0.8,
        "class.liver.hd95_mm": 4,
        "class.liver.missed": 1,
    }
    low = own | {"dice": 0.6, "class.liver.dice": 0.6}
    expected = {f"test.{name}": value for name, value in own.items()}
    expected |= {f"test.low_dose.{name}": value for name, value in low.items()}
    assert segmentation_metrics(overall) == expected


def test_generation_and_restoration() -> None:
    bound = LowerBound(reconstruction=-90.0, kl=10.0, elbo=-100.0, bits_per_dim=0.2)
    likeness = {"psnr": 25.0, "ssim": 0.8, "centre": 0.0, "width": 1.0}
    overall = GenerationOverall(images=7, windows={"all": likeness}, bound=bound)
    assert generation_metrics(overall) == {
        "test.images": 7,
        "test.all.output.psnr": 25,
        "test.all.output.ssim": 0.8,
        "test.reconstruction": -90,
        "test.kl": 10,
        "test.elbo": -100,
        "test.bits_per_dim": 0.2,
    }
    windows = {"all": {"centre": 0, "width": 1, "input": {"psnr": 20.0}, "bicubic": {"ssim": 0.7}}}
    restored = RestorationOverall.from_dict({"images": 3, "aggregation": "", "windows": windows})
    assert restoration_metrics(restored) == {
        "test.images": 3,
        "test.all.input.psnr": 20,
        "test.all.bicubic.ssim": 0.7,
    }
