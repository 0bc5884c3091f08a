"""All that only a GPU can say, in one run of at most eight minutes.

    python benchmarks/gpu.py pack --data ../shared/data     # where the data are
    python benchmarks/gpu.py run --packed out/gpu/training.npz      # where CUDA is

`pack` writes the training series of ../shared/data/train into one file of int16, at most 40 MiB.
`run` checks and measures, each part in a process of its own, so that one that fails, hangs or is
killed is written into the results and the rest goes on:

parity      the shipped weights' results beside the CPU's, in fp32, with TF32, in bf16
inference   RED-CNN of 96 channels and anydose@pretrained: plain, ours, bf16, compiled
training    a step of both at the size for a GPU: plain, fp32, bf16, compiled
volumes     a step of the 3-D U-Net
generative  a step of the VAE, the VQ-VAE, the growing GAN and pix2pix; no diffusion, which the
            project does not have
simulation  a quarter of the dose, here and by numba on the CPU: slices a second, difference
nccl        one process joined with itself: the same gradients
longest     the training that fits the rest of the time, of configs/denoise_any_dose_gpu.yaml on the
            packed slices; its weights as safetensors in OUT/anydose-gpu

Writes results/gpu.json and gpu.md beside this file, after each part. `--device cpu --tiny` only
shows that all of it runs, and writes into OUT.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import gpu_parts
import machine
import torch
from anydose_scans import ingested, sides_of
from gpu_pack import pack, said
from gpu_parts import Work
from gpu_tables import markdown
from gpu_training import longest_training

from pipeline.core.types import Json
from pipeline.store.published_splits import TRAIN

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
WHOLE_S, MOST_MIB = 480.0, 40.0
LONGEST = "longest"

#: Each part, and how many seconds it may take.
PARTS: dict[str, tuple[Callable[[Work], Json], float]] = {
    "device": (gpu_parts.device, 40),
    "parity": (gpu_parts.parity, 60),
    "inference": (gpu_parts.inference, 100),
    "training": (gpu_parts.training, 120),
    "volumes": (gpu_parts.volumes, 40),
    "generative": (gpu_parts.generative, 60),
    "simulation": (gpu_parts.simulation, 60),
    "nccl": (gpu_parts.nccl, 40),
    LONGEST: (longest_training, WHOLE_S),
}
#: Of the whole time, the share that the longest training is kept.
KEPT_FOR_LONGEST = 0.45


def main() -> None:
    arguments = _arguments()
    if arguments.verb == "pack":
        data: Path = arguments.data
        store = ingested(data / "train", arguments.work)
        keys = sorted(key for key, side in sides_of(store).items() if side == TRAIN)
        packed = pack(store, keys, arguments.to, most_mib=arguments.most_mib)
        print(said(packed, arguments.to))
        return
    work = Work(
        arguments.device,
        arguments.tiny,
        arguments.out.absolute(),
        arguments.ends_at or time.time() + arguments.seconds,
        arguments.packed,
    )
    if work.on_gpu and not torch.cuda.is_available():
        raise SystemExit("PyTorch finds no GPU here; --device cpu --tiny shows that all of it runs")
    if arguments.verb == "part":
        print("\n" + json.dumps(PARTS[arguments.part][0](work)))
        return
    run(work, arguments.parts, RESULTS if work.on_gpu else work.out)


def run(work: Work, parts: list[str], results: Path) -> Json:
    """Every part, and what each gave, as it is then written into `results`."""
    work.out.mkdir(parents=True, exist_ok=True)
    began, found = time.time(), Json(tiny=work.tiny)
    whole_s = work.ends_at - began
    for part in parts:
        until = work.ends_at
        if part != LONGEST and LONGEST in parts:
            until -= KEPT_FOR_LONGEST * whole_s
        limit_s = PARTS[part][1] * (10 if work.tiny else 1)  # a CPU that others use too
        found[part] = in_own_process(part, work, min(limit_s, until - time.time()))
        found["took_s"] = time.time() - began
        found["taken_on"] = machine.facts("auto")
        (results / "gpu.json").write_text(json.dumps(found, indent=2) + "\n")
        (results / "gpu.md").write_text(markdown(found))
        print(f"{part}: {found[part].get('failed', 'done')}", flush=True)
    return found


def in_own_process(part: str, work: Work, limit_s: float) -> Json:
    """What a part gives in a process of its own, or {"failed": why}."""
    if limit_s <= 0:
        return {"failed": "no time was left"}
    command = [sys.executable, __file__, "part", "--part", part, "--device", work.device]
    command += ["--out", str(work.out), "--ends-at", str(work.ends_at)]
    command += ["--tiny"] if work.tiny else []
    command += ["--packed", str(work.packed)] if work.packed else []
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"took more than {limit_s:.0f} s"}
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
        return {"failed": lines[-1][:300]}
    found: Json = json.loads(ended.stdout.splitlines()[-1])
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    packing = verbs.add_parser("pack", help="the training data in one file")
    packing.add_argument("--data", type=Path, required=True, help="the folder of real CT")
    packing.add_argument("--to", type=Path, default=Path("out/gpu/training.npz"))
    packing.add_argument("--work", type=Path, default=Path("out/gpu/ingested"))
    packing.add_argument("--most-mib", type=float, default=MOST_MIB)
    running = verbs.add_parser("run", help="check and measure, where CUDA is")
    running.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    running.add_argument("--seconds", type=float, default=WHOLE_S)
    one = verbs.add_parser("part")
    one.add_argument("--part", choices=PARTS, required=True)
    for verb in (running, one):
        verb.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
        verb.add_argument("--tiny", action="store_true", help="sizes for a CPU, which say nothing")
        verb.add_argument("--packed", type=Path, help="of `pack`")
        verb.add_argument("--out", type=Path, default=Path("out/gpu"))
        verb.add_argument("--ends-at", type=float, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
