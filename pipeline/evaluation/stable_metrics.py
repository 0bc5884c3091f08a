"""Figures of test patients by the names that experiment trackers keep them under.

The names are a contract, since people rank models by them: `test.` and then, joined by dots, the
window or class, whose image it is, and the figure. What was not measured, or is not finite, has
no name. Units are those of the results: dB, HU, mm, ml, nats.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from pipeline.core.json_numbers import finite
from pipeline.core.metric_names import metric_name
from pipeline.core.types import Json
from pipeline.evaluation.aggregate import DenoisingOverall
from pipeline.evaluation.generation import GenerationOverall
from pipeline.evaluation.restoration import RestorationOverall
from pipeline.evaluation.segmentation import SegmentationOverall
from pipeline.evaluation.segmentation_at_dose import FULL_DOSE

TEST = "test"
#: Of a class, what can be ranked by; the volumes themselves say nothing of the model.
CLASS_FIGURES = (
    "dice",
    "iou",
    "surface_dice",
    "hd95_mm",
    "volume_error_ml",
    "volume_error_percent",
    "missed",
)
Metrics = dict[str, float]


def plain_metrics(overall: Json) -> Metrics:
    """test.NAME of each number of an overall itself."""
    numbers = {name: each for name, each in overall.items() if isinstance(each, int | float)}
    return _known((TEST,), numbers)


def denoising_metrics(overall: DenoisingOverall) -> Metrics:
    """test.WINDOW.{input,output,change}.{psnr,ssim,rmse_hu,...}, test.bias_hu.TISSUE of the
    output, test.patients and test.slices."""
    found: Metrics = {}
    for window, figures in overall.windows.items():
        for kind in ("input", "output", "change"):
            found |= _known((TEST, window, kind), getattr(figures, kind))
    found |= _known((TEST, "bias_hu"), overall.hu_bias.get("output", {}))
    return found | _known((TEST,), {"patients": overall.patients, "slices": overall.slices})


def segmentation_metrics(overall: SegmentationOverall) -> Metrics:
    """test.dice, test.surface_dice (means over classes), test.class.NAME.{dice,...} and
    test.patients; the same of other images of the patients below test.low_dose and so on."""
    found = _segmented((TEST,), overall)
    for image, other in overall.doses.items():
        if image != FULL_DOSE:  # the ones without a dose in their name
            found |= _segmented((TEST, image), other)
    return found


def _segmented(place: tuple[str, ...], overall: SegmentationOverall) -> Metrics:
    means = {
        "dice": overall.dice,
        "surface_dice": overall.surface_dice,
        "patients": overall.patients,
    }
    found = _known(place, means)
    for name, figures in overall.classes.items():
        chosen = {figure: getattr(figures, figure) for figure in CLASS_FIGURES}
        found |= _known((*place, "class", name), chosen)
    return found


def generation_metrics(overall: GenerationOverall) -> Metrics:
    """test.WINDOW.output.{psnr,ssim} of reconstructions, test.{elbo,kl,reconstruction,
    bits_per_dim}, test.samples.FIGURE, test.files.FIGURE, test.pca.{psnr,ssim},
    test.active_latents and test.images; of a denoising autoencoder also
    test.WINDOW.{corrupted,restored}.{psnr,ssim}."""
    found = _known((TEST,), {"images": overall.images, "active_latents": overall.active_latents})
    by_kind = {
        "output": overall.windows,
        "corrupted": overall.corrupted,
        "restored": overall.restored,
    }
    for kind, windows in by_kind.items():
        for window, likeness in windows.items():
            found |= _known((TEST, window, kind), {"psnr": likeness.psnr, "ssim": likeness.ssim})
    if overall.pca:
        found |= _known((TEST, "pca"), {"psnr": overall.pca.psnr, "ssim": overall.pca.ssim})
    found |= _numbers((TEST,), overall.bound)
    found |= _numbers((TEST, "samples"), overall.samples)
    return found | _numbers((TEST, "files"), overall.files)


def restoration_metrics(overall: RestorationOverall) -> Metrics:
    """test.WINDOW.{input,output,REFERENCE}.{psnr,ssim,chroma_error,flicker,mean_iou},
    test.frechet.{input,output,REFERENCE} and test.images."""
    found = _known((TEST,), {"images": overall.images})
    for window, figures in overall.windows.items():
        for answer, measured in figures.answers.items():
            found |= _known((TEST, window, answer), measured)
    if overall.texture is not None:
        found |= _known((TEST, "frechet"), overall.texture.frechet)
    return found


def _numbers(place: tuple[str, ...], record: BaseModel | None) -> Metrics:
    """Every number of a record's own fields."""
    return {} if record is None else _known(place, dict(record))


def _known(place: tuple[str, ...], figures: Mapping[str, float | None]) -> Metrics:
    numbers = {name: finite(value) for name, value in figures.items() if value is not None}
    return {metric_name(*place, n): value for n, value in numbers.items() if value is not None}
