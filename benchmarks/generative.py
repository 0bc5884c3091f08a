"""What adversaries and code books do here, in figures and pictures.

    python benchmarks/generative.py compression --data ../shared/data
    python benchmarks/generative.py denoise --data ../shared/data

Each writes results/generative_PART.json and .md and pictures beside this file. Trainings are
short (the figures say how many seconds of one core) and go on from `--work` where they were
stopped. Digits: generative_models.py.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import machine
import torch
from generative_compression import KINDS, compression
from generative_denoise import denoise
from generative_figures import FIGURES
from generative_tables import TABLES

from pipeline.core.malloc import keep_freed_memory

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PARTS = {"compression": compression, "denoise": denoise}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data")
    parser.add_argument("--work", type=Path, default=Path("out/benchmark"))
    parser.add_argument("--iterations", type=int, help="of each training, for a quick look")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, help="of images to compress; all")
    parser.add_argument("--books", type=int, help="how many code books to train")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # what the seconds in the tables mean
    options: dict[str, Any] = {
        "data": arguments.data,
        "work": arguments.work,
        "results": RESULTS,
    }
    if arguments.part == "compression":
        given = {"kinds": arguments.kinds, "books": arguments.books}
        options |= {name: value for name, value in given.items() if value}
    if arguments.iterations:
        options["iterations"] = arguments.iterations
    figures, facts = PARTS[arguments.part](**options), machine.facts("auto")
    path = RESULTS / f"generative_{arguments.part}.json"
    described = machine.described(facts)
    found = {"figures": figures, "machine": facts}
    if arguments.part == "compression":
        found |= beside_earlier(path, figures, facts)
        of_kinds = found["machines"].items()
        described = "  \n".join(f"{kind}: {machine.described(of)}" for kind, of in of_kinds)
    figures = found["figures"]
    path.write_text(json.dumps(found, indent=2) + "\n")
    if arguments.part in FIGURES:
        FIGURES[arguments.part](figures).savefig(path.with_name(f"{path.stem}_curve.png"), dpi=110)
    table = "\n".join([described, "", *TABLES[arguments.part](figures)]) + "\n"
    path.with_suffix(".md").write_text(table)
    print(table)


def beside_earlier(
    path: Path, figures: dict[str, Any], facts: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """The figures of each kind of images, and the machines that took them; of kinds that were not
    measured now, as the file has them."""
    earlier = json.loads(path.read_text()) if path.exists() else {"figures": {}, "machines": {}}
    return {
        "figures": earlier["figures"] | figures,
        "machines": earlier["machines"] | dict.fromkeys(figures, facts),
    }


if __name__ == "__main__":
    keep_freed_memory()
    main()
