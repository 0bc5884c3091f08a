"""The main job: real CT series in, denoised DICOM series out, as one Prefect flow.

The flow's only parameter is the path of its request, so that no source path, which may name
a patient, reaches Prefect's database.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.task_runners import ThreadPoolTaskRunner

from flows import stages
from flows.low_dose import export_low_dose_series
from flows.runtime.batch import Batch
from flows.runtime.orchestration import name_flow_run, submit
from flows.runtime.private_errors import original_of, redact_errors
from flows.runtime.timings import StageTimings
from flows.tracking.registry import Registry
from flows.train_register import Trained, train_and_register
from pipeline.config.load import parse_config
from pipeline.config.run import RunConfig
from pipeline.core.atomic_files import write_json
from pipeline.core.errors import LdctError, attach_report, is_disk_full, report_of
from pipeline.core.refusals import by_disposition, reason_of
from pipeline.core.types import Json
from pipeline.core.versions import versions
from pipeline.export.output_record import (
    HERE,
    REQUEST,
    OutputRecord,
    place_of,
    relative_to_folder,
)
from pipeline.export.series import Export
from pipeline.ingest.ingest import IngestReport
from pipeline.io.discover import files_of
from pipeline.models.adapters.base import ModelAdapter
from pipeline.models.adapters.card import LoadedModel
from pipeline.store.published_splits import TEST, coverage
from pipeline.store.store import Store
from pipeline.tasks.base import Sides, task_of
from pipeline.tasks.sides import UNUSED, keys_by_side
from pipeline.training.start_check import check_run

REPORT_HTML = "report.html"
R = TypeVar("R")
#: Models to compare with that are loaded and measured side by side; each holds a series in memory.
MODELS_AT_ONCE = 2


@dataclass(frozen=True)
class Request:
    """What to run, on what, to where: written to OUT before the flow starts.

    data: None for a run that brings its own. compare: other models to measure on the same
    held-back patients. denoiser: of a segmenter's run, the model that the low-dose images are
    denoised with before they are segmented, too. hold_on_failed_gate: export nothing where the
    model does not pass its gate. low_dose: also export what the figures rest on.
    """

    config: Json
    data: str | None
    out: str
    compare: list[str] = field(default_factory=list)
    denoiser: str | None = None
    hold_on_failed_gate: bool = False
    low_dose: bool = True

    def save(self) -> Path:
        """Write it to OUT/request.json, with paths relative to OUT; returns that path."""
        out = Path(self.out)
        data = self.data and relative_to_folder(out, Path(self.data))
        write_json(out / REQUEST, {**asdict(self), "data": data, "out": HERE})
        return out / REQUEST

    @classmethod
    def read(cls, path: Path) -> Request:
        """The request that `save` wrote, of this version or an older one, which has paths as they
        were given."""
        found = cls(**json.loads(path.read_text(encoding="utf-8")))
        if found.out != HERE:
            return found
        data = found.data and str(place_of(path.parent, found.data))
        return replace(found, data=data, out=str(path.parent))


@flow(
    name="ldct-run",
    flow_run_name="ldct-run",
    task_runner=ThreadPoolTaskRunner(max_workers=MODELS_AT_ONCE),
)
@redact_errors("ldct-run")
def main_job(request: str) -> Json:
    """Ingest, degrade, train, evaluate, register, load, apply, export, report.

    Returns what report.json holds; where it fails on the way, that says what had been done.
    """
    asked = Request.read(Path(request))
    config, out = _checked(asked), Path(asked.out)
    clock, record = StageTimings(), OutputRecord(Path(asked.out), None)
    report: Json = {"name": config.name, "task": config.task, "exported": [], "failed": []}
    try:
        _whole_way(asked, config, report, clock)
    except BaseException as error:
        original = original_of(error)
        done = by_disposition([], out) | report | clock.facts() | report_of(original)
        record.replace(done | {"error": reason_of(original)})
        attach_report(original, done)
        raise
    record.replace(report)
    return report


def _whole_way(asked: Request, config: RunConfig, report: Json, clock: StageTimings) -> None:
    """Fill the report as the run goes."""
    out = Path(asked.out)
    store, source = Store(out / "store"), None if asked.data is None else Path(asked.data)
    ingested = clock.run("ingest", stages.run_ingest_stage, source, store, config)
    report |= ingested.to_dict()
    patients = sorted({row.patient for row in ingested.series})
    name_flow_run(stages.on_series(config.name, [row.series for row in ingested.series]))
    sides = stages.split_stage(store, config, patients)
    config = stages.plan_stage(store, config, sides)
    trained = train_and_register(store, config, sides, folder=out / "training", clock=clock)
    report |= trained.facts()
    loaded = clock.run("load", stages.load_stage, trained.card.uri)
    held_back = keys_by_side(store, config, sides)[TEST]
    trained = _behind_denoiser(asked, loaded.model, trained, store, config, held_back, clock)
    report |= trained.facts() | _measured(asked, loaded.model, store, config, held_back, clock)
    applied_to = held_back if task_of(config).takes_series else []
    if asked.hold_on_failed_gate and not trained.verdict.passed:
        report |= _held(applied_to, trained)
    else:
        report |= _exported(asked, loaded, ingested, store, config, applied_to, clock)
    report |= {
        **clock.facts(),
        "versions": versions(),
        **_split_facts(config, sides),
        **_with_sides(ingested.to_dict(), keys_by_side(store, config, sides)),
        "config": config.resolved(),
    }
    page, curve = out / REPORT_HTML, trained.curve
    stages.report_stage(report, loaded.model, store, config, keys=held_back, curve=curve, path=page)
    Registry.default().log_report(trained.card.uri, trained.run_id, page)
    _artifact(report)


def _checked(asked: Request) -> RunConfig:
    """The run, once all that it names is known to be there; raises ConfigError, before any work."""
    config = parse_config(asked.config)
    check_run(config)
    if asked.denoiser:
        stages.require_denoiser(asked.denoiser, config)
    for reference in asked.compare:
        stages.require_comparable(reference, config)
    return config


def _behind_denoiser(
    asked: Request,
    model: ModelAdapter,
    trained: Trained,
    store: Store,
    config: RunConfig,
    held_back: list[str],
    clock: StageTimings,
) -> Trained:
    """The training's result, with figures of its model behind the denoiser that was asked for."""
    if not asked.denoiser:
        return trained
    stage, figures = stages.downstream_stage, trained.figures
    figures = clock.run(
        "downstream", stage, model, asked.denoiser, store, config, held_back, figures
    )
    Registry.default().log_figures(trained.card.uri, task_of(config).metrics(figures))
    return replace(trained, figures=figures)


def _measured(
    asked: Request,
    model: ModelAdapter,
    store: Store,
    config: RunConfig,
    held_back: list[str],
    clock: StageTimings,
) -> Json:
    """Other models on the same patients, and what phantoms and small discs show of this one."""
    compared = clock.run("compare", _compare, asked.compare, store, config, held_back)
    phantoms = clock.run("phantoms", stages.phantoms_stage, model, config)
    contrast = clock.run("contrast kept", stages.contrast_stage, model, config)
    return {
        "compared": compared,
        "denoiser": asked.denoiser,
        "phantoms": phantoms,
        "contrast": contrast,
    }


def _split_facts(config: RunConfig, sides: dict[str, str]) -> Json:
    covered = coverage(config.data.split, sides)
    return {"split": sides} | ({"published_split": asdict(covered)} if covered else {})


def _compare(references: list[str], store: Store, config: RunConfig, keys: list[str]) -> Json:
    """Figures of other models of the same task, by reference: MODELS_AT_ONCE side by side.

    All are waited for; then LdctError is raised where some failed, with the name of each.
    """
    names = list(dict.fromkeys(references))
    loads = {name: submit(stages.load_stage, name) for name in names}
    loaded, faults = _all_of(loads)
    measured, more = _all_of(
        {
            name: submit(stages.evaluate_stage, found.model, store, config, keys, name)
            for name, found in loaded.items()
        }
    )
    if faults := {**faults, **more}:
        raise LdctError("; ".join(f"--compare {name}: {why}" for name, why in faults.items()))
    return {name: measured[name].to_dict() for name in names}


def _all_of(waits: dict[str, Callable[[], R]]) -> tuple[dict[str, R], dict[str, str]]:
    """What tasks that were submitted return, by name, and the reasons of those that failed."""
    found: dict[str, R] = {}
    faults: dict[str, str] = {}
    for name, wait in waits.items():
        try:
            found[name] = wait()
        except Exception as error:  # the others are waited for
            original = original_of(error)
            if is_disk_full(original):
                raise
            faults[name] = reason_of(original)
    return found, faults


def _held(keys: list[str], trained: Trained) -> Json:
    """Each held-back series as "held", with the reason: nothing is exported."""
    card = trained.card
    reason = (
        f"{card.uri} did not pass its gate ({trained.verdict.reasons}); `ldct apply "
        f"{card.name}/{card.version}` exports it all the same"
    )
    held = [{"series": key, "reason": reason} for key in keys]
    return {"exported": [], "failed": [], "held": held}


def _exported(
    asked: Request,
    loaded: LoadedModel,
    ingested: IngestReport,
    store: Store,
    config: RunConfig,
    keys: list[str],
    clock: StageTimings,
) -> Json:
    """The held-back series through the model, as "exported", "failed" and "low_dose"."""
    out = Path(asked.out)
    batch = clock.run("apply and export", _apply_all, loaded, ingested, keys, out / "derived")
    found: Json = {"exported": batch.exported, "failed": batch.failed}
    if asked.low_dose:
        done = [row["series"] for row in batch.exported]
        export = export_low_dose_series
        found["low_dose"] = clock.run(
            "low dose", export, loaded, ingested, store, config, done, out, batch
        )
    return found


def _apply_all(
    loaded: LoadedModel,
    ingested: IngestReport,
    keys: list[str],
    out: Path,
) -> Batch:
    """Each held-back series of this run's source through the registered model; what fails stays
    with its series, and its files are quarantined."""
    patients = {row.series: row.patient for row in ingested.series}
    folders = {key: f"{key}-{loaded.card.slug}" for key in keys if key in ingested.sources}
    items = {key: {"series": key, "folder": f"derived/{name}"} for key, name in folders.items()}
    batch = Batch(None, ingested.root, list(items.values()), ingested.refusals)
    for key, name in folders.items():
        source = ingested.sources[key]
        with batch.together([items[key]], files_of(source)):
            to = Export(out / name)
            done, refusals, _ = stages.apply_stage(loaded, source, key=key, to=to)
            batch.refusals.extend(refusals)
            if done is not None:
                batch.uids.add(to.folder)
                row = {**done.to_dict(), "folder": f"derived/{done.folder}"}
                batch.exported.append({"series": key, "patient": patients[key], **row})
    return batch


def _with_sides(ingested: Json, keys: Sides) -> Json:
    """The ingest report with the side of each series; UNUSED for what the task cannot use."""
    side_of = {key: side for side, found in keys.items() for key in found}
    rows = [{**row, "side": side_of.get(row["series"], UNUSED)} for row in ingested["series"]]
    return {**ingested, "series": rows}


def _artifact(report: Json) -> None:
    """What went where, on the flow run's page; pseudonyms and counts only."""
    rows = [
        {
            "series": row["series"],
            "patient": row["patient"],
            "side": row["side"],
            "slices": row["slices"],
            "warnings": "; ".join(row["warnings"]),
        }
        for row in report["series"]
    ]
    create_table_artifact(
        key="what-went-where",
        table=rows,
        description=(
            f"{report['name']}: model {report['model']['uri']}, "
            f"gate {'passed' if report['gate']['passed'] else 'failed'}, "
            f"{len(report['quarantined'])} files quarantined"
        ),
    )
