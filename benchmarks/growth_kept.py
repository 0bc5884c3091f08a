"""What commands cost where much is kept: 10,000 series, 100,000 pieces of work, 1,000 versions.

Each command beside itself with a hundred, in turns, as processes of their own: seconds of the
processor of the whole command, its start and imports included, as its user waits for it. Contents
are copies of one series, one version and one piece of work, written as the product writes them but
without its waiting for the disk.
"""

from __future__ import annotations

import json
import os
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import machine
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from pipeline.config.load import load_config
from pipeline.core.types import Json
from pipeline.core.volume import Volume, even_origins_mm
from pipeline.pacs.work.ledger import Ledger
from pipeline.pacs.work.ledger_file import LOCKS
from pipeline.store.store import Store

FEW, MANY = 100, {"series": 10_000, "work": 100_000, "versions": 1_000}
ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "denoise_swift.yaml"
#: Slices of a stored series: its record has the place of each.
SLICES = 50
METRIC = "test.soft_tissue.output.psnr"
METRICS, PARAMS = 40, 60
MODEL = "denoiser"
#: Commands by what they grow with.
COMMANDS = {
    "ingest": "series",
    "split": "series",
    "status": "work",
    "models": "versions",
    "models --sort": "versions",
}


def kept_rows(scratch: Path, repeats: int, most: dict[str, int]) -> Json:
    """Processor seconds of each command, few beside many, round by round."""
    sizes = {kind: (FEW, count) for kind, count in most.items()}
    places: dict[tuple[str, int], Path] = {}
    for kind, counts in sizes.items():
        for count in counts:
            places[kind, count] = scratch / f"{kind}-{count}"
            MAKERS[kind](places[kind, count], count)
    rows: Json = {}
    for name, kind in COMMANDS.items():
        few, many = sizes[kind]
        seconds: dict[int, list[float]] = {few: [], many: []}
        for turn in range(repeats + 1):
            for count in (few, many):
                taken = processor_s(_command(name, places[kind, count], turn), scratch)
                if turn:  # the first round writes bytecode and records the split
                    seconds[count].append(taken)
        rows[name] = {"of": kind, "few": few, "many": many, "seconds": [*seconds.values()]}
    return rows


def _command(name: str, place: Path, turn: int) -> list[str]:
    ldct = [sys.executable, "-m", "ldct"]
    if name == "ingest":  # one more, each time another
        from growth import write_series  # which imports this module

        source = place.parent / f"{place.name}-new-{turn}"
        write_series(source, 1, first=100_000 + turn)
        return [*ldct, "ingest", str(source), "--store", str(place)]
    if name == "split":
        return [sys.executable, __file__, str(place)]
    if name == "status":
        return [*ldct, "status", str(place / "hospital.yaml")]
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{place / 'mlflow.db'}"
    return [*ldct, *name.split(), *([METRIC] if "--sort" in name else [])]


def processor_s(command: list[str], folder: Path) -> float:
    """Of a command and what it starts. Raises CalledProcessError where it fails."""
    (folder / "key").write_bytes(b"k" * 32)
    environment = {
        **os.environ,
        "LDCT_KEY_FILE": str(folder / "key"),
        "PREFECT_HOME": str(folder / "prefect"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)]),
    }
    with (folder / "said").open("wb") as said:
        started = subprocess.Popen(command, stdout=said, stderr=said, env=environment, cwd=folder)
        _, status, used = os.wait4(started.pid, 0)
    started.returncode = os.waitstatus_to_exitcode(status)
    if started.returncode:
        sys.stderr.write((folder / "said").read_text())
        raise subprocess.CalledProcessError(started.returncode, command)
    return used.ru_utime + used.ru_stime


def ask_as_a_run_does(folder: Path) -> int:
    """All that a run asks of its store beside voxels: the split, each stage's series, digests, and
    the series of its report; returns how many those are."""
    from flows.stages import split_stage
    from flows.tracking.datasets import sides_of_run
    from pipeline.store.published_splits import TRAIN
    from pipeline.tasks.sides import keys_by_side, series_by_side

    store, config = Store.existing(folder), load_config(CONFIG)
    patients = sorted({record.patient for record in store.records().values()})
    sides = split_stage(store, config, patients)
    for _ in ("plan", "degrade", "train"):
        keys = keys_by_side(store, config, sides)
    store.data_digest(keys[TRAIN])
    sides_of_run(store, keys, config)
    return len(series_by_side(store, config, sides))


def make_store(folder: Path, count: int) -> None:
    """One series stored, and links to its voxels under other names, with records of their own."""
    store, generator = Store(folder), np.random.default_rng(0)
    image_hu = generator.normal(0, 200, (SLICES, 8, 8)).round().astype(np.float32)
    affine = np.diag([0.7, 0.7, 2.5, 1.0])
    origins_mm = even_origins_mm(affine, SLICES)
    provenance = {
        "source": "dicom",
        "warnings": ["slices may be missing at the ends"],
        "geometry": [],
        "Manufacturer": "Maker",
        "ConvolutionKernel": "B30f",
        "anatomy": "chest",
    }
    valid = np.ones(image_hu.shape, dtype=bool)
    volume = Volume(image_hu, valid, affine, origins_mm, provenance)
    store.add(volume, key="s-000000", patient="p-000000")
    volumes = folder / "volumes"
    record = json.loads((volumes / "s-000000.json").read_text())
    (folder / "ingested").mkdir(exist_ok=True)
    for number in range(1, count):
        name = f"s-{number:06d}"
        for ending in (".nii", ".valid.npy"):
            (volumes / f"{name}{ending}").symlink_to(volumes / f"s-000000{ending}")
        text = json.dumps(record | {"patient": f"p-{number:06d}"}, indent=2)
        (volumes / f"{name}.json").write_text(text)
        (folder / "ingested" / f"i-{number:06d}.json").write_text("{}")


def make_ledger(folder: Path, count: int) -> None:
    """Half of the work is sent, half waits; each piece has three events and its lock."""
    with closing(Ledger(folder / "work")) as ledger:
        states = ("sent", "found")
        rows = ((f"w-{n}", f"d{n}", f"1.{n}", states[n % 2], n) for n in range(count))
        events = ((f"w-{n}", state) for n in range(count) for state in ("found", "here", "sent"))
        ledger._db.execute("BEGIN")
        ledger._db.executemany(
            "INSERT INTO work (id, digest, model, study_uid, series_uid, origin, rule, instances,"
            " state, due, changed) VALUES (?, ?, 'm/1', '1.2', ?, 'folder', 'all', 1, ?, 0, ?)",
            rows,
        )
        ledger._db.executemany(
            "INSERT INTO event (id, at, state, note) VALUES (?, 0, ?, '')", events
        )
        ledger._db.execute("COMMIT")
    for number in range(count):
        (folder / "work" / LOCKS / f"w-{number}").touch(mode=0o600)
    hospital = {
        "model": "swift@pretrained",
        "work": str(folder / "work"),
        "rules": [{"name": "all"}],
        "send": {"folder": str(folder / "sent")},
    }
    (folder / "hospital.yaml").write_text(json.dumps(hospital))  # which YAML includes


def make_registry(folder: Path, count: int) -> None:
    """One version by MLflow's client, and its rows in the database again under other names."""
    folder.mkdir(parents=True)
    path = folder / "mlflow.db"
    client = MlflowClient(f"sqlite:///{path}")
    experiment = client.create_experiment("denoise", artifact_location=f"file://{folder}/artifacts")
    run = client.create_run(experiment, tags={"data_digest": "0" * 64, "software": "ldct"})
    names = [METRIC, *(f"test.figure_{n}" for n in range(METRICS - 1))]
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(name, 30.0 + n, 0, 0) for n, name in enumerate(names)],
        params=[Param(f"train.key_{n}", str(n)) for n in range(PARAMS)],
    )
    client.set_terminated(run.info.run_id)
    client.create_registered_model(MODEL)
    digests = ("data_digest", "config_digest", "weights_sha256")
    tags = {**dict.fromkeys(digests, "0" * 64), "gate": "passed", "parameters": "1000"}
    tags |= {"headline": json.dumps({"text": "soft_tissue: 38.1 dB"}), "task": "denoise"}
    client.create_model_version(MODEL, f"runs:/{run.info.run_id}/ldct", run.info.run_id, tags=tags)
    client.set_registered_model_alias(MODEL, "champion", "1")
    with closing(sqlite3.connect(path)) as database:
        for number in range(2, count + 1):
            again(database, run.info.run_id, number)
        database.commit()


def again(database: sqlite3.Connection, run_id: str, number: int) -> None:
    """The first run and version, with another id and number."""
    other = f"{number:032x}"
    for table, column, was, now in (
        ("runs", "run_uuid", run_id, other),
        ("latest_metrics", "run_uuid", run_id, other),
        ("metrics", "run_uuid", run_id, other),
        ("params", "run_uuid", run_id, other),
        ("tags", "run_uuid", run_id, other),
        ("model_versions", "version", 1, number),
        ("model_version_tags", "version", 1, number),
    ):
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        changed = {column: now} | ({"run_id": other} if table == "model_versions" else {})
        picked = ", ".join("?" if name in changed else name for name in columns)
        values = [changed[name] for name in columns if name in changed]
        database.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT {picked} FROM {table}"
            f" WHERE {column} = ?",
            (*values, was),
        )


MAKERS: dict[str, Callable[[Path, int], None]] = {
    "series": make_store,
    "work": make_ledger,
    "versions": make_registry,
}


def kept_lines(rows: Json) -> list[str]:
    """The table's part of these rows."""
    lines = [
        "",
        "| command, processor seconds of the whole | where there are | with the fewer "
        "| with the more | the more over the fewer, round by round |",
        "|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        few, many = row["seconds"]
        ratios = [larger / less for less, larger in zip(few, many, strict=True)]
        lines.append(
            f"| {NAMES.get(name, f'`ldct {name}`')} | {row['few']} and {row['many']:,} {row['of']} "
            f"| {statistics.median(few):.2f} | {statistics.median(many):.2f} "
            f"| {machine.spread(ratios)} |"
        )
    return lines


NAMES = {
    "ingest": "`ldct ingest` of one more",
    "split": "a run's split, its stages' series, digests and the report's list",
    "models --sort": f"`ldct models --sort {METRIC}`",
}


if __name__ == "__main__":
    began = time.perf_counter()
    print(ask_as_a_run_does(Path(sys.argv[1])), "series", round(time.perf_counter() - began, 2))
