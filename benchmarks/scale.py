"""What a thousand series cost, and what the ledger costs with ten thousand and a million.

    python benchmarks/scale.py --data ../shared/data

Of one real series: seconds of processor time (so that a busy machine counts as a quiet one) to
ingest it and to denoise and export it, and the bytes that each leaves. Of a ledger of small made
rows: what a worker pays to find its next step, and a scrape to read it. What a status page pays is
in growth.py.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import torch

from flows.hospital.prometheus import LedgerFigures
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.export.series import Export
from pipeline.ingest.ingest import ingest
from pipeline.io.discover import discover
from pipeline.models.adapters.pretrained import load_pretrained
from pipeline.pacs.work.ledger import Ledger
from pipeline.store.store import Store
from pipeline.tasks.base import task_of

KEY = b"k" * 32
RESULTS = Path(__file__).parent / "results" / "scale.json"
ROWS = (10_000, 1_000_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of real CT")
    parser.add_argument("--series", default="chest-ge-lidc0001")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        result = {
            "series": of_a_series(arguments.data / "ct" / arguments.series, Path(scratch)),
            "ledger": {rows: of_a_ledger(rows, Path(scratch) / str(rows)) for rows in ROWS},
            "machine": machine.facts(),
        }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def of_a_series(folder: Path, scratch: Path) -> dict[str, Any]:
    loaded = load_pretrained("redcnn")
    model, card = loaded.model, loaded.card
    config, to = loaded.config, Export(scratch / "out")
    (source,) = discover(folder, intake=IngestOptions()).sources
    store = Store(scratch / "store")
    export = task_of(config).export
    return {
        "slices": len(source.instances),
        "source_mb": size_mb(folder),
        "ingest_s": cpu_s(lambda: ingest(folder, store, key=KEY, intake=IngestOptions())),
        "store_mb": size_mb(scratch / "store"),
        "apply_s": cpu_s(lambda: export(model, card, source, to, config, lambda slices: None)),
        "derived_mb": size_mb(scratch / "out"),
    }


def of_a_ledger(rows: int, folder: Path) -> dict[str, float]:
    """Half of the rows are sent, half wait: a backlog of that size."""
    ledger = Ledger(folder)
    values = (
        (f"w-{n}", f"d{n}", "m", "1.2", "1.3", "t", "r", 1, "sent" if n % 2 else "found", 0, 0)
        for n in range(rows)
    )
    ledger._db.execute("BEGIN")
    ledger._db.executemany(
        "INSERT INTO work (id, digest, model, study_uid, series_uid, origin, rule, instances,"
        " state, due, changed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        values,
    )
    ledger._db.execute("COMMIT")

    def claim() -> None:
        with ledger.claim():
            pass

    return {
        "claim_s": cpu_s(claim),
        "scrape_s": cpu_s(lambda: list(LedgerFigures(folder).collect())),
        "mb": size_mb(folder),
    }


def cpu_s(what: Callable[[], object]) -> float:
    begun = time.process_time()
    what()
    return round(time.process_time() - begun, 4)


def size_mb(folder: Path) -> float:
    return round(sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6, 1)


if __name__ == "__main__":
    main()
