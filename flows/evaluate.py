"""What `ldct evaluate` runs: one model, and whatever its user wants measured of it."""

from __future__ import annotations

import os
from pathlib import Path

from flows import stages
from flows.runtime.orchestration import in_flow
from flows.runtime.progress import StageProgress, log
from pipeline.config.load import parse_config
from pipeline.config.run import RunConfig
from pipeline.config.sections import Pairs, Split
from pipeline.core.atomic_files import write_json
from pipeline.core.device import choose_device
from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.core.pseudonyms import installation_key
from pipeline.core.refusals import Refusal, SeriesRefusedError, by_disposition, nothing_usable
from pipeline.core.types import Json
from pipeline.dicom.read.series import find_series
from pipeline.evaluation.real_pairs import RealPairs
from pipeline.evaluation.requests import EvaluateRequest
from pipeline.ingest.dose_pairs import Pair, find_pairs, pair_folders
from pipeline.models.adapters.card import LoadedModel
from pipeline.store.kept_figures import KeptFigures
from pipeline.store.published_splits import TEST, listed_sides
from pipeline.store.store import Store
from pipeline.tasks.base import Sides, task_of
from pipeline.tasks.sides import keys_by_side, series_by_side

REPORT = "evaluation.json"
PAGE = "evaluation.html"


def evaluate_flow(request: EvaluateRequest, out: Path | None, *, as_flow: bool = False) -> Json:
    """{"model", "config", "figures", "baselines", "dose_sweep", "phantoms", "contrast"}, where
    asked for.

    Written to OUT as evaluation.json, evaluation.html, PNG and contrast.md, if there is an OUT.
    as_flow: see flows.runtime.orchestration.in_flow.
    """

    def body() -> Json:
        pairs = _pairs(request)
        loaded = stages.load_stage(request.model, request.strength)
        model, card, config = loaded.model, loaded.card, loaded.config
        task = task_of(config)
        request.require_measurable(task.measures, uri=card.uri, task=config.task)
        asked = parse_config({**config.resolved(), **request.settings})
        report: Json = {
            "model": card.uri,
            "strength": card.strength,
            "denoiser": request.denoiser,
            "config": config.resolved(),
        }
        store, keys = None, Sides()
        if request.store:
            store = Store.existing(request.store)
            keys, report["series"] = _keys(store, asked)
            report["figures"] = _on_store(loaded, store, keys[TEST], asked, request.denoiser)
        try:
            report |= task.measure(
                model, asked, request, store=store, keys=keys, pairs=pairs, progress=StageProgress
            )
        except SeriesRefusedError as refused:
            assert pairs is not None  # the store's series were decoded when they were stored
            pairs.refusals.extend(refused.refusals)
            line = f"a series of the pair cannot be used: {refused}"
            raise NothingUsableError(line, _refused(request, pairs)) from refused
        report |= _refused(request, pairs)
        if out:
            write_json(out / REPORT, report)
            task.write_evaluation(report, model, store, keys.get(TEST, []), asked, path=out / PAGE)
        return report

    return in_flow("ldct-evaluate", body, always=as_flow)


def _pairs(request: EvaluateRequest) -> RealPairs | None:
    """Of two folders of one series each, that pair, whatever their headers say of the patient;
    of more, those that belong together by patient, places and kernel."""
    if request.input is None or request.target is None:
        return None
    key = installation_key()
    if request.input.absolute() == request.target.absolute():
        found = find_series(request.input)
        if len(found.series) == 1:
            return RealPairs([Pair(found.series[0], found.series[0])], key, found.refusals)
        pairs, left = find_pairs(found.series, Pairs(), found.root)
        return _usable(pairs, [*found.refusals, *left], found.root, key)
    lows, fulls = (find_series(folder) for folder in (request.input, request.target))
    for each in (lows, fulls):
        if not each.series:
            raise nothing_usable(each.root, each.refusals)
    refusals = [*lows.refusals, *fulls.refusals]
    if len(lows.series) == len(fulls.series) == 1:
        return RealPairs([Pair(lows.series[0], fulls.series[0])], key, refusals)
    pairs, left = pair_folders(lows.series, fulls.series)
    return _usable(pairs, [*refusals, *left], request.input, key)


def _usable(pairs: list[Pair], refusals: list[Refusal], root: Path, key: bytes) -> RealPairs:
    if not pairs:
        raise nothing_usable(root, refusals)
    return RealPairs(pairs, key, refusals)


def _refused(request: EvaluateRequest, pairs: RealPairs | None) -> Json:
    """What of the pairs is not used; files are named below the folder that holds them all."""
    if pairs is None:
        return {}
    folders = [str(folder.absolute()) for folder in (request.input, request.target) if folder]
    return by_disposition(pairs.refusals, Path(os.path.commonpath(folders)))


def _on_store(
    loaded: LoadedModel, store: Store, keys: list[str], config: RunConfig, denoiser: str | None
) -> Json:
    """Figures of the test patients, and of what a denoiser does for them; those without one are
    kept in the store, and not measured a second time."""
    model, card = loaded.model, loaded.card
    if denoiser:
        figures = stages.evaluate_stage(model, store, config, keys)
        return stages.downstream_stage(model, denoiser, store, config, keys, figures).to_dict()
    asked: Json = {
        "weights_sha256": card.weights_sha256,
        "strength": card.strength,
        "config": config.resolved(),
        "device": choose_device(),
    }
    kept = KeptFigures(store, keys, asked)
    if (known := kept.read()) is not None:
        line = "evaluate: skipped, the same was measured before (figures/ of the store)"
        log("stage", line, {"stage": "evaluate", "outcome": "skipped"})
        return known
    measured = stages.evaluate_stage(model, store, config, keys).to_dict()
    try:
        kept.write(measured)
    except OSError as error:
        line = f"evaluate: the figures are not kept for the next time: {error.strerror}"
        log("stage", line, {"stage": "evaluate", "kept": False})
    return measured


def _keys(store: Store, config: RunConfig) -> tuple[Sides, list[Json]]:
    """Series by side, those of the test patients ready to be evaluated on; the rows of all."""
    sides = _sides(store, config)
    stages.degrade_stage(store, config, {p: s for p, s in sides.items() if s == TEST})
    keys = keys_by_side(store, config, sides)
    return keys, series_by_side(store, config, sides)


def _sides(store: Store, config: RunConfig) -> dict[str, str]:
    """Side by patient of a store that need not be the one that the model was trained on.

    Of a published split, those cases that the store has; a store with none of them is split as
    any other is, since none of its patients was trained on.
    """
    patients = sorted({record.patient for record in store.records().values()})
    split = config.data.split
    if split.by == "patient":
        return stages.split_stage(store, config, patients)
    listed = listed_sides(patients, split, key=installation_key())
    if not listed:
        data = config.data.model_copy(update={"split": Split()})
        return stages.split_stage(store, config.model_copy(update={"data": data}), patients)
    if TEST not in listed.values():
        raise ConfigError(
            f"{store.path} has {len(listed)} cases of the split {split.by}, which the model was "
            "trained by, and no test case among them"
        )
    return listed
