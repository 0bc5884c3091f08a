"""`ldct apply` of a long series, whole beside its parts, and its memory by length.

    python benchmarks/apply.py --data ../shared/data

The parts alone, each over the whole series in memory: decoding, inference, and writing with the
check. The goal is a whole of at most 1.15 times the slowest part, and less than 2 GB whatever
the length. The series is a real one there and back again (long_series.py); the network has its
configuration's architecture and random weights. --repeats 0 measures memory alone, --lengths
without a number time alone; the other figures of results/apply.json stay.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import machine
import torch
from long_series import write_long_series
from torch import nn

from pipeline.config.load import load_config
from pipeline.dicom.derived.publish import derived_series
from pipeline.dicom.derived.write import write_slice
from pipeline.dicom.read.series import Series, find_series
from pipeline.dicom.read.volume import Slice, SliceReader
from pipeline.export.denoised import export_denoised
from pipeline.export.series import Export
from pipeline.inference.denoise import apply_to_slices
from pipeline.models.adapters.base import build_model, place
from pipeline.models.adapters.card import ModelCard

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
SERIES = "chest-ge-lidc0001"
CARD = ModelCard("benchmark", 1, "0" * 64, "", "", 0)
PARTS = ("decode", "infer", "write and check")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of real CT")
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "denoise_swift.yaml")
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--lengths", type=int, nargs="*", default=[100, 300, 900])
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    model = untrained(arguments.config)
    if arguments.memory_of:
        print(json.dumps(memory(model, arguments.memory_of)))
        return
    source, path = arguments.data / "ct" / SERIES, RESULTS / "apply.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.repeats:
            folder = write_long_series(source, Path(scratch) / "series", arguments.slices)
            found |= {"config": arguments.config.name, "slices": arguments.slices}
            found["seconds"] = whole_and_parts(
                model, only(folder), Path(scratch), arguments.repeats
            )
            found["machine"] = machine.facts()
            shutil.rmtree(folder)
        if arguments.lengths:
            found["memory"] = {
                str(length): memory_of_a_process(source, Path(scratch), length, sys.argv[1:])
                for length in arguments.lengths
            }
    path.write_text(json.dumps(found, indent=2) + "\n")
    path.with_suffix(".md").write_text(markdown(found))
    print(markdown(found))


def untrained(config: Path) -> nn.Module:
    """Random weights, the last layer's too, which may start at zero."""
    torch.manual_seed(0)
    model = build_model(load_config(config)).eval()
    for weights in model.parameters():
        if not weights.any():
            nn.init.normal_(weights, std=0.01)
    return place(model, "cpu", channels_last=True)  # as the registry gives it


def only(folder: Path) -> Series:
    (series,) = find_series(folder).series
    return series


def whole_and_parts(
    model: nn.Module, series: Series, scratch: Path, repeats: int
) -> machine.Seconds:
    slices = list(SliceReader(series).slices())
    outputs = list(apply_to_slices(model, (slice_.image_hu for slice_ in slices)))
    made = [replace(one, image_hu=image) for one, image in zip(slices, outputs, strict=True)]
    out = scratch / "out"

    def whole() -> None:
        export_denoised(model, CARD, series, Export(out))

    def decode() -> None:
        for _ in SliceReader(series).slices():
            pass

    def infer() -> None:
        for _ in apply_to_slices(model, (slice_.image_hu for slice_ in slices)):
            pass

    def write() -> None:
        hand_over(series, made, out)

    def cleared(way: machine.Way) -> machine.Way:
        def run() -> None:
            shutil.rmtree(out, ignore_errors=True)
            way()

        return run

    ways = {"whole": whole, "decode": decode, "infer": infer, "write and check": write}
    return machine.in_turns({name: cleared(way) for name, way in ways.items()}, repeats)


def hand_over(series: Series, made: list[Slice], folder: Path) -> None:
    with derived_series(folder, series, CARD.operation(), write_slice) as writer:
        for one in made:
            writer.write(one)


def memory_of_a_process(
    source: Path, scratch: Path, length: int, arguments: list[str]
) -> dict[str, Any]:
    """In a process of its own, whose peak is its own."""
    folder = write_long_series(source, scratch / f"series-{length}", length)
    command = [sys.executable, __file__, *arguments, "--memory-of", str(folder)]
    ended = subprocess.run(command, capture_output=True, check=True, text=True)
    shutil.rmtree(folder)
    return json.loads(ended.stdout.splitlines()[-1])


def memory(model: nn.Module, folder: Path) -> dict[str, float]:
    """MiB before, when everything is imported, and at most."""
    series, before = only(folder), machine.peak_mib()
    with tempfile.TemporaryDirectory() as out:
        export_denoised(model, CARD, series, Export(Path(out) / "out"))
    return {"before_mib": before, "peak_mib": machine.peak_mib()}


def markdown(found: dict[str, Any]) -> str:
    return "\n".join([*time_lines(found), *memory_lines(found)]) + "\n"


def time_lines(found: dict[str, Any]) -> list[str]:
    if "seconds" not in found:
        return []
    seconds = found["seconds"]
    slowest = max(PARTS, key=lambda part: statistics.median(seconds[part]))
    parts = zip(*(seconds[part] for part in PARTS), strict=True)
    over = [whole / max(each) for whole, each in zip(seconds["whole"], parts, strict=True)]
    one_by_one = zip(*(seconds[part] for part in PARTS), strict=True)
    return [
        f"{found['slices']} slices of 512 x 512 through {found['config']} (random weights), "
        f"{len(over)} rounds in turns. {machine.described(found['machine'])}",
        "",
        "| | seconds, median (least to most) |",
        "|---|---|",
        *(f"| {name} | {machine.spread(values)} |" for name, values in seconds.items()),
        f"| the parts one after another | {machine.spread([sum(each) for each in one_by_one])} |",
        "",
        f"The whole takes {machine.spread(over)} times its slowest part ({slowest}).",
        "",
    ]


def memory_lines(found: dict[str, Any]) -> list[str]:
    return [
        "| slices | MiB before | MiB at most |",
        "|---|---|---|",
        *(
            f"| {length} | {row['before_mib']:.0f} | {row['peak_mib']:.0f} |"
            for length, row in found.get("memory", {}).items()
        ),
    ]


if __name__ == "__main__":
    main()
