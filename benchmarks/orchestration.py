"""What Prefect and MLflow cost: the same work as plain function calls, in turns.

    python benchmarks/orchestration.py --data ../shared/data

apply    `ldct apply` of one series (goal: at most 3 s more); job: the main job on the demo's
invented patients (at most 5 % more). Each run is a process of its own, imports included; the flow
has Prefect's temporary server and an SQLite registry, both made before the clock starts. Writes
results/orchestration.json and orchestration.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
from long_series import write_long_series

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]
SERIES, SLICES = "chest-ge-lidc0001", 8
MODEL = "redcnn"
KEY_FILE = "demo.key"  # where the demo puts it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of real CT")
    parser.add_argument("--works", nargs="+", choices=["apply", "job"], default=["apply", "job"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--iterations", type=int, help="of the job's training; by default its own")
    parser.add_argument("--plain", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plain:
        what, source, out = arguments.plain
        PLAIN[what](Path(source), Path(out), settings(arguments.iterations))
        return
    path = RESULTS / "orchestration.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        (work / KEY_FILE).write_bytes(b"k" * 32)
        series = write_long_series(arguments.data / "ct" / SERIES, work / "series", SLICES)
        for what in arguments.works:
            source = patients(work) if what == "job" else series
            ways = ways_of(what, source, work, settings(arguments.iterations))
            found[what] = machine.in_turns(ways, arguments.repeats)
    found["machine"] = machine.facts("auto")
    path.write_text(json.dumps(found, indent=2) + "\n")
    path.with_suffix(".md").write_text(markdown(found))
    print(markdown(found))


def settings(iterations: int | None) -> list[str]:
    return [] if iterations is None else [f"train.iterations={iterations}"]


def patients(work: Path) -> Path:
    from flows.demo import write_patients

    write_patients(work / "patients")
    return work / "patients"


def ways_of(what: str, source: Path, work: Path, set_: list[str]) -> dict[str, machine.Way]:
    ldct = [sys.executable, "-m", "flows.cli.app"]
    plain = [sys.executable, __file__, "--data", ".", "--plain", what, str(source)]
    options = [part for value in set_ for part in ("--set", value)]
    commands = {
        "apply": [*ldct, "apply", f"{MODEL}@pretrained", str(source), "--out"],
        "job": [
            *ldct,
            "run",
            str(ROOT / "configs/demo.yaml"),
            "--data",
            str(source),
            *options,
            "--out",
        ],
    }
    shorter = ["--iterations", set_[0].rpartition("=")[2]] if set_ else []
    return {
        "plain": lambda: run([*plain, str(work / "out"), *shorter], work),
        "flow": lambda: run([*commands[what], str(work / "out")], work),
    }


def run(command: list[str], work: Path) -> None:
    shutil.rmtree(work / "out", ignore_errors=True)
    own = {
        "PREFECT_HOME": str(work / "prefect"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{work}/mlflow.db",
        "LDCT_KEY_FILE": str(work / KEY_FILE),
        "PYTHONPATH": str(ROOT),
    }
    # The demo's gate may fail a short training (5): what it costs is the same.
    ended = subprocess.run(command, capture_output=True, check=False, env={**os.environ, **own})
    if ended.returncode not in (0, 5):
        raise SystemExit(f"{command}: {ended.returncode}\n{ended.stderr.decode()[-2000:]}")


def plain_apply(source: Path, out: Path, set_: list[str]) -> None:
    from pipeline.dicom.read.ingest_options import IngestOptions
    from pipeline.export.series import Export
    from pipeline.io.discover import discover
    from pipeline.models.adapters.pretrained import load_pretrained
    from pipeline.tasks.base import task_of

    loaded = load_pretrained(MODEL)
    model, card = loaded.model, loaded.card
    config = loaded.config
    for number, item in enumerate(discover(source, intake=IngestOptions()).sources):
        task_of(config).export(model, card, item, Export(out / str(number)), config)


def plain_job(source: Path, out: Path, set_: list[str]) -> None:
    """As flows.run, stage by stage, without a registry: weights and report are files."""
    from pipeline.config.load import load_config
    from pipeline.config.names import digest
    from pipeline.core.atomic_files import write_json
    from pipeline.core.pseudonyms import installation_key
    from pipeline.core.versions import versions
    from pipeline.inference.traits import seen_by
    from pipeline.models.adapters.card import ModelCard
    from pipeline.models.adapters.weights import load_model, save_model
    from pipeline.store.published_splits import TEST, TRAIN
    from pipeline.store.splits import split_patients
    from pipeline.store.store import Store
    from pipeline.tasks.base import task_of
    from pipeline.tasks.training_job import TrainingJob

    config = load_config(ROOT / "configs/demo.yaml", set_)
    task, store, key = task_of(config), Store(out / "store"), installation_key()
    ingested = task.ingest(source, store, config, key=key)
    patients = sorted({row.patient for row in ingested.series})
    sides = split_patients(patients, config.data.split, key=key, recorded={})
    keys: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for name, record in store.records().items():
        keys[sides[record.patient]].append(name)
    config = task.plan(store, keys, config)
    task.prepare(store, keys, config)
    curve: list[dict[str, float]] = []
    training = TrainingJob.of(config, store, keys[TRAIN], validation=[], folder=out / "training")
    model = training.run(lambda logged, at: curve.append({"iteration": at, **logged}))
    figures = task.evaluate(model, store, keys[TEST], config)
    verdict = task.judge(figures, config)
    seen = seen_by(store, keys[TRAIN], config)
    weights = save_model(model, config.resolved(), out / "model")
    config_digest = digest(config.resolved())
    model, _ = load_model(out / "model", weights_sha256=weights, config_digest=config_digest)
    card = ModelCard("demo", 1, weights, config_digest, "d", 1, seen=seen)
    exported = [
        {"series": name, **(report_of(name, task, model, card, ingested, out, config) or {})}
        for name in keys[TEST]
    ]
    facts = {"name": "demo", "version": 1, "aliases": [], "uri": card.uri}
    report = {
        "name": config.name,
        "task": config.task,
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 0.0,
        "stages": [],
        "model": {**facts, "weights_sha256": weights, "parameters": 1, "strength": 1.0},
        "data_digest": "d",
        "config_digest": "c",
        "metrics": figures,
        "gate": verdict,
        "compared": {},
        "denoiser": None,
        "phantoms": task.on_phantoms(model, config),
        "versions": versions(),
        "split": sides,
        **ingested.to_dict(),
        "exported": exported,
        "config": config.resolved(),
    }
    report["series"] = [{**row, "side": sides[row["patient"]]} for row in report["series"]]
    write_json(out / "report.json", report)
    page = out / "report.html"
    task.write_report(report, model, store, keys[TEST], config, curve=curve, path=page)


def report_of(
    name: str, task: Any, model: Any, card: Any, ingested: Any, out: Path, config: Any
) -> dict[str, Any] | None:
    from pipeline.export.series import Export

    to = Export(out / "derived" / name)
    return task.export(model, card, ingested.sources[name], to, config)[0]


PLAIN: dict[str, Callable[[Path, Path, list[str]], None]] = {
    "apply": plain_apply,
    "job": plain_job,
}


def markdown(found: dict[str, Any]) -> str:
    lines = [
        machine.described(found["machine"]),
        "",
        "| | plain function calls, s | flow, s | more, s | more |",
        "|---|---|---|---|---|",
    ]
    for what in ("apply", "job"):
        if what in found:
            plain, flow = found[what]["plain"], found[what]["flow"]
            more = [one - other for one, other in zip(flow, plain, strict=True)]
            share = statistics.median(more) / statistics.median(plain)
            lines.append(
                f"| {what} | {machine.spread(plain)} | {machine.spread(flow)} | "
                f"{machine.spread(more)} | {share:.1%} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
