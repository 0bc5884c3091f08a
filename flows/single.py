"""The stages one by one: what `ldct ingest`, `train`, `evaluate`, `apply`, `simulate` run.

Each is a Prefect flow without parameters: paths, which may name a patient, stay out of
Prefect's database.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import flow

from flows import stages
from flows.clock import Clock
from flows.progress import Stage
from flows.sealed import opened, sealed
from flows.training import train_and_register
from pipeline.config import RunConfig, parse_config
from pipeline.dataset import TEST
from pipeline.dicom.findings import by_fate
from pipeline.dicom.read import series_key
from pipeline.dicom.series import Discovery, Series, find_series
from pipeline.errors import LdctError, NothingUsableError
from pipeline.evaluate import evaluate_pair
from pipeline.export import Exported, simulate_series
from pipeline.files import write_json
from pipeline.identity import installation_key
from pipeline.ingest import nothing_usable
from pipeline.physics.lowdose import LowDoseCT
from pipeline.store import Store

REPORT = "report.json"


def in_flow(name: str, body: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run `body` as a Prefect flow of that name."""
    return opened(flow(name=name)(sealed(name)(body)))


def ingest_flow(source: Path, store_folder: Path) -> dict[str, Any]:
    """Ingest into a store; returns the report."""
    store = Store(store_folder)
    return in_flow("ldct-ingest", lambda: stages.ingest_stage(source, store).as_dict())


def train_flow(config: RunConfig, store_folder: Path) -> dict[str, Any]:
    """Split, degrade, train, evaluate and register, on what a store holds."""

    def body() -> dict[str, Any]:
        store = Store.existing(store_folder)
        patients = sorted({record["patient"] for record in store.records().values()})
        sides = stages.split_stage(store, config, patients)
        folder = store_folder / "training"
        clock = Clock()
        trained = train_and_register(store, config, sides, folder=folder, clock=clock)
        return {**clock.facts(), **trained.facts()}

    return in_flow("ldct-train", body)


def evaluate_store_flow(reference: str, store_folder: Path) -> dict[str, Any]:
    """A registered model's figures on the test patients of a store."""

    def body() -> dict[str, Any]:
        store = Store.existing(store_folder)
        model, _, raw = stages.load_stage(reference)
        config = parse_config(raw)
        patients = sorted({record["patient"] for record in store.records().values()})
        sides = stages.split_stage(store, config, patients)
        keys = stages.keys_by_side(store, sides)[TEST]
        stages.degrade_stage(store, config, {p: s for p, s in sides.items() if s == TEST})
        return stages.evaluate_stage(model, store, config, keys)

    return in_flow("ldct-evaluate", body)


def evaluate_pair_flow(reference: str, input_: Path, target: Path) -> dict[str, Any]:
    """A registered model's figures on a low-dose and a full-dose series of one scan."""

    def body() -> dict[str, Any]:
        pair = [_only_series(path) for path in (input_, target)]
        model, _, raw = stages.load_stage(reference)
        with Stage("evaluate", unit="slices", total=len(pair[1].instances)) as stage:
            return evaluate_pair(
                model, pair[0], pair[1], windows=parse_config(raw).windows, progress=stage.advance
            )

    return in_flow("ldct-evaluate", body)


def apply_flow(reference: str, source: Path, out: Path) -> dict[str, Any]:
    """A registered model over every series of a source; writes OUT/<series>/ and report.json."""

    def body() -> dict[str, Any]:
        model, card, _ = stages.load_stage(reference)

        def one(series: Series, key: str) -> Exported:
            return stages.apply_stage(model, card, series, key=key, out=out)

        return {"model": card.uri, "weights_sha256": card.weights_sha256} | _each(source, out, one)

    return in_flow("ldct-apply", body)


def simulate_flow(
    source: Path, out: Path, *, dose: float, photons_per_ray: float, seed: int
) -> dict[str, Any]:
    """A low-dose copy of every series of a source; writes OUT/<series>/ and report.json."""
    physics = LowDoseCT(dose_fraction=dose, photons_per_ray=photons_per_ray)

    def body() -> dict[str, Any]:
        def one(series: Series, key: str) -> Exported:
            with Stage(f"simulate {key}"):
                return simulate_series(physics, series, out / f"{key}-dose{dose:g}", seed=seed)

        return {"dose_fraction": dose, "seed": seed} | _each(source, out, one)

    return in_flow("ldct-simulate", body)


def _each(source: Path, out: Path, one: Callable[[Series, str], Exported]) -> dict[str, Any]:
    """Do `one` to each series of a source, report what went where, and go on past bad ones."""
    discovery = find_series(source)
    _require_series(discovery)
    key = installation_key()
    refusals, exported = list(discovery.refusals), []
    for series in discovery.series:
        name = series_key(series, key)
        done, refused = one(series, name)
        refusals.extend(refused)
        if done:
            exported.append({"series": name, "warnings": list(series.warnings), **done})
    report = {
        "exported": exported,
        **by_fate(refusals, source),
    }
    write_json(out / REPORT, report)
    if not exported:
        raise NothingUsableError(nothing_usable(source, refusals))
    return report


def _require_series(discovery: Discovery) -> None:
    if not discovery.series:
        raise NothingUsableError(nothing_usable(discovery.root, discovery.refusals))


def _only_series(path: Path) -> Series:
    discovery = find_series(path)
    _require_series(discovery)
    if len(discovery.series) != 1:
        raise LdctError(f"{path} holds {len(discovery.series)} series; give a folder of just one")
    return discovery.series[0]
