"""Figures of the textbooks, taken with this software: `python benchmarks/textbook.py PART`.

densities  a GAN of one number: the generated density moves onto the real one
shapes     squares, ellipses and triangles: what beta does to the latents of a VAE
skips      RED-Net with and without inner skips, and an FCN, on noisy photographs

Each part writes results/textbook_PART.json and .png, with one thread; a part that was stopped goes
on in `--work`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import machine
import torch
from textbook_densities import densities
from textbook_shapes import shapes
from textbook_skips import skips

from pipeline.core.malloc import keep_freed_memory

RESULTS = Path(__file__).parent / "results"
PARTS = {"densities": densities, "shapes": shapes, "skips": skips}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--work", type=Path, default=Path("out/textbook"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    picture = RESULTS / f"textbook_{arguments.part}.png"
    figures = PARTS[arguments.part](arguments.work, picture)
    found = {"figures": figures, "machine": machine.facts()}
    picture.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    keep_freed_memory()
    main()
