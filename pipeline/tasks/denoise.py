"""Denoising: a target image gets noise, a model takes it off, figures in HU say how well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from pipeline.config.task_runs import DenoiseRun
from pipeline.core.types import Json, OpenProgress, Progress
from pipeline.core.verdicts import Check, Verdict
from pipeline.data.patches import PatchPairs
from pipeline.degradations.cache import degrade_store
from pipeline.evaluation.aggregate import DenoisingResult
from pipeline.evaluation.contrast_table import ContrastTable, contrast_table, report_request
from pipeline.evaluation.denoising import evaluate_store
from pipeline.evaluation.gates import judge_denoising
from pipeline.evaluation.phantoms import REPORT_SLICES, measure_on_phantoms
from pipeline.evaluation.real_pairs import RealPairs
from pipeline.evaluation.requests import EvaluateRequest, measure_denoiser
from pipeline.evaluation.stable_metrics import Metrics, denoising_metrics
from pipeline.export.denoised import export_denoised
from pipeline.export.series import Export, Exported
from pipeline.inference.traits import seen_by
from pipeline.io.discover import Source
from pipeline.models.adapters.card import ModelCard
from pipeline.promotion.acceptance import acceptance_checks, phantom_checks
from pipeline.promotion.compare import compare
from pipeline.quality.phantom_metrics import PhantomFigures
from pipeline.report.formatting import fixed
from pipeline.store.published_splits import TEST, TRAIN, VALIDATION
from pipeline.store.store import Store
from pipeline.tasks.base import Sides, Task
from pipeline.training.best_weights import BestWeights, best_weights_of, validation_keys

OVERVIEW = "overview.png"


class Denoise(Task[DenoiseRun, DenoisingResult]):
    """A noisy series in, the same series with less noise out."""

    result = DenoisingResult
    denoises = True
    measures = frozenset({"input", "baselines", "sweep", "phantoms", "contrast", "convention"})

    def prepare(
        self,
        store: Store,
        keys: Sides,
        config: DenoiseRun,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Degraded inputs: each realisation of the training side, one of the others."""
        realisations = {key: config.data.realisations for key in keys.get(TRAIN, [])}
        looked_at = self.validation_keys(store, config, keys.get(VALIDATION, []))
        realisations |= dict.fromkeys([*keys.get(TEST, []), *looked_at], 1)
        degrade_store(store, realisations, config, progress)

    def training_data(
        self, store: Store, keys: list[str], config: DenoiseRun, length: int
    ) -> PatchPairs:
        """Random patches of pairs, [1, rows, columns] in HU."""
        return PatchPairs(store, keys, config, length)

    def validation_keys(self, store: Store, config: DenoiseRun, keys: list[str]) -> list[str]:
        """All that choose the weights, else the shortest one."""
        return validation_keys(store, config, keys)

    def selection(self, store: Store, config: DenoiseRun, keys: list[str]) -> BestWeights | None:
        """PSNR and SSIM on validation patients, and the weights of the best SSIM where the run
        asks for it."""
        return best_weights_of(store, config, keys)

    def traits(self, store: Store, keys: list[str], config: DenoiseRun) -> Json:
        """Noise, scanner and anatomy of the training inputs, for the drift watch of later ones."""
        return seen_by(store, keys, config).to_dict()

    def evaluate(
        self,
        model: nn.Module,
        store: Store,
        keys: list[str],
        config: DenoiseRun,
        progress: Progress = lambda slices: None,
    ) -> DenoisingResult:
        """PSNR, SSIM, RMSE and HU bias in each window, by patient (evaluation.denoising)."""
        return evaluate_store(model, store, keys, config, progress)

    def measure(
        self,
        model: nn.Module,
        config: DenoiseRun,
        request: EvaluateRequest,
        *,
        store: Store | None,
        keys: Sides,
        pairs: RealPairs | None,
        progress: OpenProgress,
    ) -> Json:
        """Real pairs, classical denoisers, detectability over doses, and phantoms."""
        return measure_denoiser(
            model, config, request, store=store, keys=keys, pairs=pairs, progress=progress
        )

    def write_evaluation(
        self,
        report: Json,
        model: nn.Module,
        store: Store | None,
        keys: list[str],
        config: DenoiseRun,
        *,
        path: Path,
    ) -> None:
        """Figures, curves, and slices of the stored series where there are any."""
        # matplotlib is of no use to what writes no page
        from pipeline.report.pages import write_evaluation
        from pipeline.report.slice_selection import choose_panels

        panels = []
        if store is not None:
            figures = DenoisingResult.from_dict(report["figures"])
            panels = choose_panels(model, store, keys, config, figures.overall)
        write_evaluation(report, panels=panels, path=path)

    def judge(self, figures: DenoisingResult, config: DenoiseRun) -> Verdict:
        """Gain in PSNR, HU bias by tissue, and readers where asked for."""
        return judge_denoising(figures.overall, config.register_.gate)

    def acceptance(
        self,
        model: nn.Module,
        card: ModelCard,
        config: DenoiseRun,
        *,
        figures: DenoisingResult,
        champion: tuple[nn.Module, DenoisingResult] | None,
    ) -> list[Check]:
        """Synthetic images, phantoms, and the champion's figures on the same patients."""
        rival, theirs = champion if champion is not None else (None, None)
        checks = acceptance_checks(model, card, config)
        checks += phantom_checks(model, rival, config)
        return checks if theirs is None else checks + compare(figures.patients, theirs.patients)

    def metrics(self, figures: DenoisingResult) -> Metrics:
        """Of the held-back patients, by stable names."""
        return denoising_metrics(figures.overall)

    def headline(self, figures: DenoisingResult) -> Json:
        """The figures of the first window."""
        name, window = next(iter(figures.overall.windows.items()))
        before, after = window.input, window.output
        text = (
            f"{window.centre_hu:g}/{window.width_hu:g}: "
            f"{fixed(before['psnr'], 1)} → {fixed(after['psnr'], 1)} dB, "
            f"SSIM {fixed(before['ssim'], 2)} → {fixed(after['ssim'], 2)}"
        )
        kept = {key: value for key, value in window.to_dict().items() if key != "hu_bias"}
        return {"text": text, "window": name, **kept}

    def export(
        self,
        model: nn.Module,
        card: ModelCard,
        source: Source,
        to: Export,
        config: DenoiseRun,
        progress: Progress = lambda slices: None,
    ) -> Exported:
        """A derived CT series, or an image file for an image file (export.series)."""
        return export_denoised(model, card, source, to, progress)

    def on_phantoms(
        self, model: nn.Module, config: DenoiseRun, progress: Progress = lambda images: None
    ) -> PhantomFigures | None:
        """Noise texture and sharpness; None where the run leaves them out."""
        if not config.phantoms:
            return None
        return measure_on_phantoms(model, config, slices=REPORT_SLICES, progress=progress)

    def contrast_kept(
        self, model: nn.Module, config: DenoiseRun, progress: Progress = lambda images: None
    ) -> ContrastTable | None:
        """Of discs at the dose of the training and at full dose; None where phantoms are left
        out."""
        if not config.phantoms:
            return None
        return contrast_table(model, config, report_request(config), progress=progress)

    def write_report(
        self,
        report: Json,
        model: nn.Module,
        store: Store,
        keys: list[str],
        config: DenoiseRun,
        *,
        curve: list[dict[str, float]],
        path: Path,
    ) -> None:
        """report.html with slices before and after, and overview.png beside it."""
        from pipeline.report.pages import write_report
        from pipeline.report.slice_images import save_overview
        from pipeline.report.slice_selection import choose_panels

        figures = DenoisingResult.from_dict(report["metrics"])
        panels = choose_panels(model, store, keys, config, figures.overall)
        write_report(report, panels=panels, curve=curve, path=path)
        if panels:
            save_overview(panels, path.with_name(OVERVIEW))


TASK = Denoise()
