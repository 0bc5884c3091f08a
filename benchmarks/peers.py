"""What this machine takes beside the peers that it has, a row for each: `make bench`.

    python benchmarks/peers.py --data ../shared/data

Every way is in a process of its own, in turns with the others. A peer that is not installed is left
out by its name: OpenVINO and nnU-Net are in no environment of the project's, but may be in one of
their own, whose Python then runs this:

    bash .ci/nnunet-env
    out/nnunet/.venv/bin/pip install --no-deps openvino openvino-telemetry
    out/nnunet/.venv/bin/python benchmarks/peers.py --data ../shared/data --parts inference windows

Writes results/peers.json, which keeps a column for each kind of processor, and the
table peers.md. Seconds hold on a quiet machine alone; the load stands beside them.
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
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import ingest
import machine
import speed_windows
from peers_rows import (
    MODELS,
    decode,
    inference_ways,
    simpleitk_reads,
    training_ways,
    write_compressed,
)

from pipeline.core.types import Json

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
SERIES = "chest-ge-lidc0001"
OURS = "ldct"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    path = RESULTS / "peers.json"
    kept: Json = json.loads(path.read_text())["columns"] if path.exists() else {}
    found: Json = {}
    for part in arguments.parts:
        with tempfile.TemporaryDirectory() as scratch:
            found |= PARTS[part](arguments.data / "ct", Path(scratch), arguments.repeats)
    facts = machine.facts("auto")
    column = kept.setdefault(processor_kind(facts), {"rows": {}})
    column["rows"] |= found
    column["machine"] = facts
    written = {"columns": kept, "machine": facts}  # of the last run
    path.write_text(json.dumps(written, indent=2) + "\n")
    path.with_suffix(".md").write_text(markdown(kept))
    print(markdown(kept))


def processor_kind(facts: Json) -> str:
    """What a column is of: the processor's name, what it computes with, and how many threads."""
    features = ", ".join(facts["features"]) or "features unknown"
    return f"{facts['processor']} ({features}), {facts['threads']} threads"


def inference(data: Path, scratch: Path, repeats: int) -> Json:
    """Two slices of 512 x 512; ours as `ldct apply` computes a long series."""
    return {
        f"inference, {name}": machine.processes_in_turns(inference_ways(name), repeats)
        for name in MODELS
    }


def training(data: Path, scratch: Path, repeats: int) -> Json:
    """A step of RED-CNN-96 on 8 patches of 64."""
    return {
        "training step, RED-CNN-96": machine.processes_in_turns(training_ways(scratch), repeats)
    }


def windows(data: Path, scratch: Path, repeats: int) -> Json:
    """A segmenter over 64 x 256 x 256, beside MONAI's sliding window and nnU-Net's predictor."""
    names = ["plain", OURS, *([speed_windows.NNUNET] if find_spec("nnunetv2") else [])]
    ways = {name: partial(speed_windows.run, name) for name in names}
    seconds = machine.processes_in_turns(ways, repeats)
    return {"segmenting in windows": {"MONAI": seconds.pop("plain"), **seconds}}


def reading(data: Path, scratch: Path, repeats: int) -> Json:
    """Every series of the data: read and stored; and one series with two compressions, read."""
    usable = ingest.usable_series(data, scratch / "ct")
    seconds = ingest.against_simpleitk(usable, scratch, repeats)["seconds"]
    stored = {
        "SimpleITK": seconds["SimpleITK, read and write NIfTI"],
        OURS: seconds["ldct, ingest into a store"],
    }
    if ingest.DCM2NIIX in seconds:
        stored[ingest.DCM2NIIX] = seconds[ingest.DCM2NIIX]
    rows = {"ingest, read and stored": stored}
    for kind in ("JPEG-LS", "JPEG lossless"):
        folder = scratch / kind.replace(" ", "-")
        write_compressed(data / SERIES, folder, kind)
        ways = {"SimpleITK": partial(simpleitk_reads, folder), OURS: partial(decode, folder)}
        rows[f"{kind}, read"] = machine.processes_in_turns(ways, repeats)
    return rows


def commands(data: Path, scratch: Path, repeats: int) -> Json:
    """Whole commands, their start included, beside `import torch` or a script."""
    sources = {"one slice": 1, "52 slices": None}
    for name, count in sources.items():
        folder = scratch / name.replace(" ", "-")
        folder.mkdir()
        for path in sorted((data / SERIES).glob("*.dcm"))[:count]:
            shutil.copyfile(path, folder / path.name)
    one, all_ = scratch / "one-slice", scratch / "52-slices"
    torch_alone = [sys.executable, "-c", "import torch"]
    ldct, swift = [sys.executable, "-m", "ldct"], "swift@pretrained"
    out = str(scratch / "out")
    script = [sys.executable, str(Path(__file__).parent / "reference" / "plain_apply.py")]
    weights = str(ROOT / "pretrained" / "swift" / "weights.safetensors")
    rows: dict[str, dict[str, list[str]]] = {
        f"ldct apply, {name}": {
            "script": [*script, str(folder), out, weights],
            OURS: [*ldct, "apply", swift, str(folder), "--out", out],
        }
        for name, folder in (("one slice", one), ("52 slices", all_))
    }
    for name, command in {
        "ldct models": ["models"],
        "ldct ingest, one slice": ["ingest", str(one), "--store", out],
        "a path that is not there": ["ingest", str(scratch / "nothing"), "--store", out],
        "a model that is not there": ["apply", "nothing@pretrained", str(one), "--out", out],
        "a key that is not there": ["run", "denoise_swift", "--set", "train.nothing=1",
                                    "--data", str(one), "--out", out],
    }.items():  # fmt: skip
        rows[name] = {"import torch": torch_alone, OURS: [*ldct, *command]}
    environment = _environment(scratch)
    return {
        name: machine.in_turns(
            {way: partial(_run, line, Path(out), environment) for way, line in ways.items()},
            repeats,
        )
        for name, ways in rows.items()
    }


def _environment(scratch: Path) -> dict[str, str]:
    """A registry, a key and settings of its own."""
    (scratch / "key").write_bytes(b"k" * 32)
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "LDCT_KEY_FILE": str(scratch / "key"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{scratch / 'mlflow.db'}",
        "PREFECT_HOME": str(scratch / "prefect"),
    }


def _run(command: list[str], out: Path, environment: dict[str, str]) -> int:
    """The exit code: of a refused command it is not 0."""
    shutil.rmtree(out, ignore_errors=True)
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    if done.returncode < 0 or b"Traceback" in done.stderr:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr.decode()[-500:]}")
    return done.returncode


PARTS: dict[str, Callable[[Path, Path, int], Json]] = {
    "inference": inference,
    "training": training,
    "windows": windows,
    "reading": reading,
    "commands": commands,
}


def markdown(kept: Json) -> str:
    """A column for each kind of processor: ours, and each peer's time over it."""
    names = list(dict.fromkeys(name for column in kept.values() for name in column["rows"]))
    lines = [
        "Seconds, median (least to most); behind it each peer's time over ours, median of the "
        "rounds, the quickest peer first.",
        "",
        f"| | {' | '.join(kept)} |",
        f"|---|{'---|' * len(kept)}",
    ]
    for name in names:
        cells = [_cell(column["rows"].get(name)) for column in kept.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [""] + [machine.described(column["machine"]) for column in kept.values()]
    return "\n".join(lines) + "\n"


def _cell(row: dict[str, list[float]] | None) -> str:
    if row is None:
        return "not measured"
    ours = row[OURS]
    peers = {name: seconds for name, seconds in row.items() if name != OURS}
    over = {
        name: statistics.median(p / o for p, o in zip(seconds, ours, strict=True))
        for name, seconds in peers.items()
    }
    each = ", ".join(f"{name} {over[name]:.2f}" for name in sorted(over, key=over.__getitem__))
    return f"{machine.spread(ours)}; {each}"


if __name__ == "__main__":
    main()
