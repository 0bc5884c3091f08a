"""Whether a model passes: every figure against its limit, for each kind of task.

A run's YAML sets the limits; what a version must do beyond them to be promoted is in
pipeline.promotion, as checks of the same kind.
"""

from __future__ import annotations

from pipeline.config.sections import DenoiseGate
from pipeline.config.task_runs import GenerateRun, RestoreRun
from pipeline.core.json_numbers import Figures
from pipeline.core.verdicts import QUALIFIED_AT, READER_STUDY, Check, Verdict
from pipeline.evaluation.aggregate import DenoisingOverall
from pipeline.evaluation.generation import GenerationOverall
from pipeline.evaluation.per_patient import difference
from pipeline.evaluation.restoration import INPUT, OUTPUT, RestorationOverall
from pipeline.evaluation.segmentation import SegmentationOverall

FRECHET_SHARE = "Frechet distance, as a share of the least other"


def judge_denoising(overall: DenoisingOverall, gate: DenoiseGate) -> Verdict:
    """The gain in PSNR in every window, the HU bias in every tissue, and where they are asked for
    readers and a hospital's qualification, which come later."""
    checks = [
        Check.at_least(f"PSNR gain in window {name}, dB", window.psnr_gain_db, gate.psnr_gain_db)
        for name, window in overall.windows.items()
    ]
    for tissue, bias_hu in overall.hu_bias["output"].items():
        limit_hu = gate.max_abs_bias_hu(tissue)
        if bias_hu is not None and limit_hu is not None:
            checks.append(Check.bias_within(f"HU bias in {tissue}", bias_hu, limit_hu))
    if gate.reader_study:
        checks.append(Check(READER_STUDY, None, "non-inferior in every criterion", passed=False))
    if gate.qualified:
        limit = f"ldct qualify --site {gate.qualified}"
        checks.append(Check(f"{QUALIFIED_AT}{gate.qualified}", None, limit, passed=False))
    return Verdict.of(checks)


def judge_restoration(overall: RestorationOverall, config: RestoreRun) -> Verdict:
    """PSNR and SSIM in the first window, against the input and the best of the references, and
    the Frechet distance of texture against the least of theirs; those that have a limit."""
    name, _ = config.first_window
    answers = overall.windows[name].answers
    limits = config.restoration.limits
    references = [of for name, of in answers.items() if name not in (INPUT, OUTPUT)]
    best_db, best_ssim = limits.min_psnr_above_references_db, limits.min_ssim_above_references
    compared = [
        ("PSNR gain over the input, dB", [answers[INPUT]], limits.min_psnr_gain_db, "psnr"),
        ("PSNR above the best reference, dB", references, best_db, "psnr"),
        ("SSIM above the best reference", references, best_ssim, "ssim"),
    ]
    checks = [
        Check.at_least(name, _above_best(answers[OUTPUT], others, of), bound, spec="g")
        for name, others, bound, of in compared
        if others and bound is not None
    ]
    if limits.max_frechet_share is not None:
        share = frechet_share(overall)
        checks.append(Check.at_most(FRECHET_SHARE, share, limits.max_frechet_share, spec="g"))
    return Verdict.of(checks)


def frechet_share(overall: RestorationOverall) -> float | None:
    """The output's Frechet distance as a share of the least of the input's and the references';
    None where it was not measured."""
    found = {} if overall.texture is None else dict(overall.texture.frechet)
    output = found.pop(OUTPUT, None)
    known = [distance for distance in found.values() if distance is not None]
    return output / min(known) if output is not None and known and min(known) > 0 else None


def _above_best(output: Figures, others: list[Figures], figure: str) -> float | None:
    """The output's figure less the best of the others; None where one of them has none, as an
    exact reference cannot be beaten, nor an exact output."""
    own, theirs = output[figure], [other[figure] for other in others]
    known = [value for value in theirs if value is not None]
    return None if own is None or len(known) < len(theirs) else own - max(known)


def judge_generation(overall: GenerationOverall, config: GenerateRun) -> Verdict:
    """Reconstruction, samples and file size, by the run's limits.

    A figure that was not measured fails its check, unless its limit is a default: a model that
    cannot draw has no copies to fear. (A run's settings are written out whole before they get
    here, so a default is known by its value.)
    """
    limits = config.generation.limits
    figures = _limited_figures(overall, config.first_window[0])
    chosen = limits.model_dump(exclude_defaults=True)
    return Verdict.of(
        _limit_check(limit, figures[limit], bound)
        for limit, bound in limits.model_dump(exclude_none=True).items()
        if limit in chosen or figures[limit] is not None
    )


def _limited_figures(overall: GenerationOverall, window: str) -> dict[str, float | None]:
    """The figure of each limit; None where it was not measured."""
    psnr = overall.windows[window].psnr if window in overall.windows else None
    pca = overall.pca.psnr if overall.pca else None
    samples, files = overall.samples, overall.files
    return {
        "min_psnr_db": psnr,
        "min_psnr_above_pca_db": difference(psnr, pca),
        "min_diversity": samples.relative_diversity if samples else None,
        "min_precision": samples.precision if samples else None,
        "max_copies": samples.copies if samples else None,
        "max_bits_per_pixel": files.bits_per_pixel if files else None,
    }


def _limit_check(limit: str, figure: float | None, bound: float) -> Check:
    bounded, _, figure_name = limit.partition("_")
    compare = Check.at_least if bounded == "min" else Check.at_most
    return compare(figure_name.replace("_", " "), figure, bound, spec="g")


def judge_segmentation(overall: SegmentationOverall, min_dice: float | dict[str, float]) -> Verdict:
    """The mean Dice against one limit, or the Dice of each class that has a limit of its own."""
    if not isinstance(min_dice, dict):
        return Verdict.of([Check.at_least("Dice, mean", overall.dice, min_dice, decimals=4)])
    return Verdict.of(
        Check.at_least(f"Dice, {name}", _dice(overall, name), limit, decimals=4)
        for name, limit in min_dice.items()
    )


def _dice(overall: SegmentationOverall, name: str) -> float | None:
    return overall.classes[name].dice if name in overall.classes else None
