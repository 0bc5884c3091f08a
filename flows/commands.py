"""The stages one by one: what `ldct train`, `apply`, `simulate`, `deidentify` run.

Each is a Prefect flow without parameters: paths, which may name a patient, stay out of
Prefect's database.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from flows import stages
from flows.pictures import apply_to_pictures
from flows.runtime.batch import each_volume
from flows.runtime.orchestration import in_flow, name_flow_run, submit
from flows.runtime.progress import StageProgress
from flows.runtime.timings import StageTimings
from pipeline.config.dose import DoseRequest
from pipeline.config.run import RunConfig
from pipeline.core.errors import ConfigError, GateFailedError
from pipeline.core.pseudonyms import read_key
from pipeline.core.types import Json
from pipeline.dicom.deidentify.profile import Options, deidentify
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.export.labels import require_form
from pipeline.export.series import Export, Exported
from pipeline.export.simulated import export_simulated
from pipeline.export.uncertainty import require_uncertainty
from pipeline.io.discover import Source
from pipeline.models.adapters.card import LoadedModel, ModelCard
from pipeline.physics.lowdose import LowDoseCT
from pipeline.store.store import Store
from pipeline.tasks.base import task_of
from pipeline.tasks.sides import series_by_side
from pipeline.training.start_check import check_run


def train_flow(config: RunConfig, store_folder: Path, *, unless_known: bool = False) -> Json:
    """Split, degrade, train, evaluate and register, on what a store holds.

    unless_known: only {"known": its name} where a version of these data and this configuration
    is registered already.
    """
    from flows.train_register import known_version, train_and_register

    def body() -> Json:
        check_run(config)
        store = Store.existing(store_folder)
        records = store.records()
        name_flow_run(stages.on_series(config.name, list(records)))
        patients = sorted({record.patient for record in records.values()})
        sides = stages.split_stage(store, config, patients)
        folder = store_folder / "training"
        clock = StageTimings()
        planned = stages.plan_stage(store, config, sides)
        if unless_known and (known := known_version(store, planned, sides)):
            return {"known": known}
        trained = train_and_register(store, planned, sides, folder=folder, clock=clock)
        series = series_by_side(store, planned, sides)
        return {"task": config.task, **clock.facts(), **trained.facts(), "series": series}

    return in_flow("ldct-train", body, always=True)


def apply_flow(
    reference: str,
    source: Path,
    to: Export,
    *,
    intake: IngestOptions,
    strength: float | None = None,
    dose: DoseRequest | None = None,
    style: str | None = None,
    spread: str | None = None,
    all_or_nothing: bool = False,
    hold_on_failed_gate: bool = False,
    as_flow: bool = False,
) -> Json:
    """A registered model over every CT of a source; writes <series>/ and report.json below `to`.

    A restorer of pictures writes each picture under its own name instead. to: its `air` is that of
    the intake. strength, dose: None for those of the model's configuration. style: of pictures, as
    apply_to_pictures takes it. spread: where series
    are worked on side by side (flows.runtime.dask_runner), if not here. all_or_nothing: raise where
    one of several series fails, too. hold_on_failed_gate: raise GateFailedError, and write nothing,
    where the model did not pass its gate. as_flow: also where no Prefect API is configured. Raises
    ConfigError for a model whose uncertainty is asked for and was not calibrated.
    """
    require_form(to.labels)
    to = replace(to, air=intake.air)
    runner = None
    if spread:
        from flows.runtime.dask_runner import dask_runner

        runner = dask_runner(spread)

    def body() -> Json:
        loaded = stages.load_stage(reference, strength, dose)
        card = loaded.card
        if to.uncertainty:
            require_uncertainty(card)
        if hold_on_failed_gate:
            _require_passed(card)
        if task_of(loaded.config).takes_pictures(loaded.config):
            done = apply_to_pictures(
                loaded.model, source, to.folder, missed=card.missed, style=style
            )
            return {"model": card.uri, **card.gate_facts(), **done}
        if style is not None:
            raise ConfigError(f"--style {style}: {card.uri} is no model of pictures")
        return apply_loaded(
            loaded,
            source,
            to,
            intake=intake,
            apart=runner is not None,
            all_or_nothing=all_or_nothing,
        )

    return in_flow("ldct-apply", body, runner, always=as_flow)


def _require_passed(card: ModelCard) -> None:
    if card.missed:
        line = f"{card.uri} did not pass its gate, nothing is exported: {card.missed}"
        raise GateFailedError(line, card.gate_facts())


def apply_loaded(
    loaded: LoadedModel,
    source: Path,
    to: Export,
    *,
    intake: IngestOptions,
    apart: bool = False,
    all_or_nothing: bool = False,
) -> Json:
    """A model that is loaded already over every CT of a source; inside a flow.

    apart: each by the flow's task runner, which loads the model again where it is.
    all_or_nothing: raise where one of several series fails, too.
    """
    card = loaded.card

    def here(source: Source, key: str, folder: Path) -> Callable[[], Exported]:
        own = replace(to, folder=folder)
        return lambda: stages.apply_stage(loaded, source, key=key, to=own)

    def elsewhere(source: Source, key: str, folder: Path) -> Callable[[], Exported]:
        own = replace(to, folder=folder)
        remote = stages.apply_remote_stage
        return submit(remote, card.uri, card.strength, card.dose, source, key=key, to=own)

    done = each_volume(
        source,
        to.folder.absolute(),
        intake,
        elsewhere if apart else here,
        suffix=card.slug,
        all_or_nothing=all_or_nothing,
    )
    facts = {"weights_sha256": card.weights_sha256, "strength": card.strength}
    return {"model": card.uri, **facts} | card.gate_facts() | done


def simulate_flow(
    source: Path,
    out: Path,
    *,
    physics: LowDoseCT,
    seed: int,
    intake: IngestOptions,
    compress: str,
    enhanced: bool = False,
) -> Json:
    """A low-dose copy of every CT of a source; writes OUT/<series>/ and report.json."""
    to = Export(out, compress, air=intake.air, enhanced=enhanced)

    def body() -> Json:
        def one(source: Source, key: str, folder: Path) -> Exported:
            with StageProgress(f"simulate {key}"):
                return export_simulated(physics, source, replace(to, folder=folder), seed=seed)

        dose = f"dose{physics.dose_fraction:g}"
        done = each_volume(source, out, intake, lambda *where: partial(one, *where), suffix=dose)
        return {
            "dose_fraction": physics.dose_fraction,
            "noise": physics.description,
            "seed": seed,
        } | done

    return in_flow("ldct-simulate", body)


def deidentify_flow(source: Path, out: Path, *, key_file: Path, options: Options) -> Json:
    """Copies without identity of the CT below a source."""
    key = read_key(key_file)

    def body() -> Json:
        with StageProgress("deidentify", unit="files") as stage:
            return deidentify(source, out, key=key, options=options, progress=stage.at).to_dict()

    return in_flow("ldct-deidentify", body)
