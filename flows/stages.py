"""Each stage of the pipeline as a Prefect task: seen as such in Prefect's UI.

Tasks get keys, paths and digests; nothing that identifies a patient reaches Prefect, whose
task inputs are neither hashed nor persisted here.
"""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from flows.ingest import logged
from flows.runtime.orchestration import stage_task
from flows.runtime.progress import StageProgress
from flows.runtime.progress import log as progress_log
from flows.runtime.run_log import log_facts
from flows.tracking.references import load_named
from pipeline.config.dose import DoseRequest
from pipeline.config.run import RunConfig
from pipeline.config.task_runs import DenoiseRun
from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.core.json_numbers import JsonRecord
from pipeline.core.library_warnings import catch_library_warnings
from pipeline.core.pseudonyms import installation_key
from pipeline.core.refusals import count_of
from pipeline.core.types import Json
from pipeline.dicom.read.series import Series
from pipeline.evaluation.phantoms import REPORT_SLICES, images_on_phantoms
from pipeline.export.low_dose import LowDoseSeries, export_low_dose
from pipeline.export.series import Export, Exported
from pipeline.ingest.ingest import IngestReport
from pipeline.io.discover import Source
from pipeline.models.adapters.base import ModelAdapter
from pipeline.models.adapters.card import LoadedModel, ModelCard
from pipeline.store.splits import patients_of_vendors, split_patients
from pipeline.store.store import Store
from pipeline.tasks.base import task_of
from pipeline.tasks.sides import is_usable, keys_by_side, may_be_no_hu
from pipeline.tasks.training_job import TrainingJob
from pipeline.training.precision import Precision

if TYPE_CHECKING:  # MLflow takes seconds to import: only what writes to it does
    from flows.tracking.mlflow_run import TrackedRun
    from flows.tracking.registration import NewVersion

Curve = list[dict[str, float]]


def on_series(name: str, keys: list[str]) -> str:
    """What works on what, such as `denoise_redcnn on 4 series`."""
    return f"{name} on {len(keys)} series"


@stage_task("ingest", lambda source, store, config: f"for {config.name}")
def run_ingest_stage(source: Path | None, store: Store, config: RunConfig) -> IngestReport:
    """What the run's task learns from; a source may be no folder of the user's."""
    with StageProgress("ingest", unit="files") as stage:
        report = task_of(config).ingest(
            source, store, config, key=installation_key(), progress=stage.show
        )
    return logged(report)


@stage_task("split", lambda store, config, patients: count_of(len(patients), "patient"))
def split_stage(store: Store, config: RunConfig, patients: list[str]) -> dict[str, str]:
    """Side by patient, recorded in the store so that no patient changes sides; one without a series
    that the task can use is on none."""
    records = store.records()
    usable = {record.patient for key, record in records.items() if is_usable(store, key, config)}
    if patients and usable.isdisjoint(patients):
        faults = [record.scale_fault for record in records.values() if may_be_no_hu(record, config)]
        raise NothingUsableError(faults[0] if faults else task_of(config).nothing_usable(config))
    sides = split_patients(
        [patient for patient in patients if patient in usable],
        config.data.split,
        key=installation_key(),
        recorded=store.split(),
        of_test_vendors=patients_of_vendors(records.values(), config.data.split.test_vendors),
    )
    store.record_split(sides)
    log_facts("split", {"patients": Counter(sides.values())})
    return sides


@stage_task("plan", lambda store, config, sides: config.name)
def plan_stage(store: Store, config: RunConfig, sides: dict[str, str]) -> RunConfig:
    """The run with what it leaves to the training data filled in."""
    with StageProgress("plan"):
        return task_of(config).plan(store, keys_by_side(store, config, sides), config)


@stage_task("degrade", lambda store, config, sides: f"for {config.name}")
def degrade_stage(store: Store, config: RunConfig, sides: dict[str, str]) -> None:
    """Make and cache what training and evaluation read (Task.prepare); what is there already, of
    the same series, degradation and seed, is not made again."""
    before = _cached_inputs(store)
    with StageProgress("degrade", unit="series") as stage:
        task_of(config).prepare(store, keys_by_side(store, config, sides), config, stage.count)
    made = _cached_inputs(store) - before
    log_facts("degrade", {"made": made, "present before": before})


def _cached_inputs(store: Store) -> int:
    return len(list((store.path / "degraded").glob("*.npy")))


@stage_task("train", lambda store, config, keys, **rest: on_series(config.name, keys))
def train_stage(
    store: Store,
    config: RunConfig,
    keys: list[str],
    *,
    validation: list[str],
    folder: Path,
    run: TrackedRun,
) -> tuple[ModelAdapter, Curve, Precision]:
    """Train on the series `keys`; returns the model, the curve of logged figures, and what was
    computed in.

    folder: of the checkpoint. validation: keys of the series that choose the weights.
    """
    training = TrainingJob.of(config, store, keys, validation=validation, folder=folder)
    curve: dict[int, dict[str, float]] = {}  # a training that falls back repeats iterations
    precision = Precision("fp32")
    with StageProgress("train", unit="it", total=config.train.iterations) as stage:

        def log(metrics: dict[str, float], iteration: int) -> None:
            curve[iteration] = {"iteration": iteration, **metrics}
            run.log(metrics, iteration)
            stage.at(iteration, f"loss {metrics['loss']:.2e}")

        def on_precision(chosen: Precision) -> None:
            nonlocal precision
            precision = chosen
            run.log_precision(chosen.used)
            progress_log("precision", f"train: in {chosen.used}, {chosen.why}", chosen.to_dict())

        def on_damage(fault: str) -> None:
            progress_log("damaged", f"train: {fault}", {"file": "checkpoint"})

        model = training.run(log, on_precision, on_damage)
    log_facts("train", {"precision": precision.used, **(curve[max(curve)] if curve else {})})
    return model, [curve[iteration] for iteration in sorted(curve)], precision


@stage_task(
    "evaluate",
    lambda model, store, config, keys, reference="": on_series(reference or config.name, keys),
)
def evaluate_stage(
    model: ModelAdapter, store: Store, config: RunConfig, keys: list[str], reference: str = ""
) -> JsonRecord:
    """What the run's task measures of a model on stored series; reference: of a model that is not
    the run's own."""
    task = task_of(config)
    slices = task.passes(config) * sum(store.record(key).shape[0] for key in keys)
    with StageProgress(f"evaluate {reference}".rstrip(), unit="slices", total=slices) as stage:
        figures = task.evaluate(model, store, keys, config, stage.advance)
    log_facts("evaluate", {"series": len(keys), "figures": task.headline(figures)["text"]})
    return figures


def require_denoiser(reference: str, config: RunConfig) -> ModelAdapter:
    """The denoiser that goes before a run's own model; raises ConfigError, before any work is
    done, where there is none, or nothing to denoise."""
    task_of(config).require_denoisable(config)
    denoiser = load_named(reference)
    if not task_of(denoiser.config).denoises:
        raise ConfigError(f"{reference} is no denoiser but of the task {denoiser.config.task}")
    return denoiser.model


def require_comparable(reference: str, config: RunConfig) -> None:
    """Raises ConfigError, before any work is done, where a model to compare with is for another
    task."""
    other = load_named(reference).config
    if other.task != config.task:
        raise ConfigError(f"{reference} is for the task {other.task}, not {config.task}")


@stage_task("downstream")
def downstream_stage(
    model: ModelAdapter,
    reference: str,
    store: Store,
    config: RunConfig,
    keys: list[str],
    figures: JsonRecord,
) -> JsonRecord:
    """A model's figures, with those on degraded images that another model has denoised first."""
    denoiser = require_denoiser(reference, config)
    slices = sum(store.record(key).shape[0] for key in keys)
    with StageProgress("denoise, then evaluate", unit="slices", total=slices) as stage:
        return task_of(config).evaluate_denoised(
            model, denoiser, store, keys, config, figures, stage.advance
        )


@stage_task("phantoms")
def phantoms_stage(model: ModelAdapter, config: RunConfig) -> Json | None:
    """What phantoms show of the model, for the report."""
    with StageProgress("phantoms", unit="images", total=images_on_phantoms(REPORT_SLICES)) as stage:
        found = task_of(config).on_phantoms(model, config, stage.advance)
    return None if found is None else found.to_dict()


@stage_task("contrast kept")
def contrast_stage(model: ModelAdapter, config: RunConfig) -> Json | None:
    """What of small discs survives the model, for the report."""
    with StageProgress("contrast kept", unit="images") as stage:
        found = task_of(config).contrast_kept(model, config, stage.advance)
    return None if found is None else found.to_dict()


@stage_task("register", lambda run, new: new.name)
def register_stage(run: TrackedRun, new: NewVersion) -> ModelCard:
    """Make a new version of the run's model (flows.tracking.registration)."""
    from flows.tracking.registration import register
    from flows.tracking.registry import Registry

    with StageProgress("register"):
        card = register(Registry.default(), run, new)
    log_facts("register", {"model": card.uri, "gate": new.verdict.passed})
    return card


def load(
    reference: str, strength: float | None = None, dose: DoseRequest | None = None
) -> LoadedModel:
    """A registered model; at another strength or dose than its configuration's where asked."""
    with StageProgress("load from the registry"):
        loaded = load_named(reference)
    loaded = loaded if strength is None else loaded.at_strength(strength)
    return loaded if dose is None else loaded.at_dose(dose)


load_stage = stage_task("load", lambda reference, *rest: reference, over_network=True)(load)


def apply(loaded: LoadedModel, source: Source, *, key: str, to: Export) -> Exported:
    """One volume, known by its key, through the model and out in its own format."""
    slices = len(source.instances) if isinstance(source, Series) else 0
    model, card, config = loaded.model, loaded.card, loaded.config
    with StageProgress(f"apply to {key}", unit="slices", total=slices) as stage:
        done = task_of(config).export(model, card, source, to, config, stage.advance)
    facts = {"model": card.uri, "series": key, "exported": done.report is not None}
    log_facts("apply", facts | ({"gate": "failed"} if card.missed else {}))
    return done.marked(card.missed)


apply_stage = stage_task(
    "apply", lambda loaded, source, *, key, to: f"{loaded.card.slug} to {key}"
)(apply)


@stage_task(
    "apply",
    lambda loaded, source, store, key, *rest: f"{loaded.card.slug} to low dose of {key}",
)
def low_dose_stage(
    loaded: LoadedModel, source: Source, store: Store, key: str, config: DenoiseRun, folder: Path
) -> LowDoseSeries:
    """What the figures of a series rest on, as series beside it (pipeline.export.low_dose)."""
    slices = store.record(key).shape[0]
    with StageProgress(f"low dose of {key}", unit="slices", total=slices) as stage:
        return export_low_dose(
            loaded.model, loaded.card, source, store, key, config, folder, stage.advance
        )


@stage_task("apply", lambda reference, *rest, key, to: f"{reference} to {key}")
def apply_remote_stage(
    reference: str,
    strength: float,
    dose: DoseRequest | None,
    source: Source,
    *,
    key: str,
    to: Export,
) -> Exported:
    """As apply_stage, in another process, which keeps the models that it has loaded."""
    catch_library_warnings()
    return apply(_loaded_once(reference, strength, dose), source, key=key, to=to)


@functools.lru_cache(maxsize=2)
def _loaded_once(reference: str, strength: float | None, dose: DoseRequest | None) -> LoadedModel:
    return load(reference, strength, dose)


@stage_task("report", lambda report, model, store, config, **rest: f"of {config.name}")
def report_stage(
    report: Json,
    model: ModelAdapter,
    store: Store,
    config: RunConfig,
    *,
    keys: list[str],
    curve: Curve,
    path: Path,
) -> None:
    """Write the run's page to `path`."""
    with StageProgress("report"):
        task_of(config).write_report(report, model, store, keys, config, curve=curve, path=path)
