"""What computing costs, beside a plain peer, in turns: `python benchmarks/speed.py`.

machine    what this one can do: multiplying matrices, convolving, moving memory
inference  RED-CNN as published, on 512 x 512: plain PyTorch beside `ldct apply`'s way; ONNX Runtime
step       a training step on patches of 64 and 128: a plain loop that loads slices as the public
           implementations do (whole .npy files, crops), beside the project's loop
metrics    PSNR and SSIM of slices: scikit-image beside ours, and their largest difference
windows    a segmenter over a volume: MONAI's sliding window of the whole beside ours, time and
           memory

Writes results/speed.json and speed.md beside this file. Quiet machine, please: the ratios hold on
a busy one, the seconds do not.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from speed_training import step
from speed_windows import windows
from torch import nn

from pipeline.infer import apply_model
from pipeline.metrics import psnr_db, ssim, windowed
from pipeline.models.redcnn import REDCNN
from pipeline.models.shell import HUModel, place
from pipeline.settings import Normalize
from pipeline.units import SOFT_TISSUE

RESULTS = Path(__file__).parent / "results"
HU = Normalize(centre=0, scale=1000)


def main() -> None:
    parts: dict[str, Callable[[int], dict[str, Any]]] = {
        "machine": limits,
        "inference": inference,
        "step": step,
        "metrics": metrics,
        "windows": windows,
    }
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    found = {part: parts[part](arguments.repeats) for part in arguments.parts}
    found["taken_on"] = machine.facts()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "speed.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(kept | found, indent=2) + "\n")
    (RESULTS / "speed.md").write_text(markdown(kept | found))
    print(markdown(kept | found))


def limits(repeats: int) -> dict[str, Any]:
    """10^9 operations a second, and 10^9 bytes a second."""
    one = torch.randn(2048, 2048)
    images, layer = torch.randn(1, 96, 256, 256), nn.Conv2d(96, 96, 5)
    memory = torch.zeros(64_000_000)
    with torch.inference_mode():
        best = {
            name: min(seconds)
            for name, seconds in machine.in_turns(
                {
                    "matrices": lambda: one @ one,
                    "convolution": lambda: layer(images),
                    "memory": lambda: memory.clone(),
                },
                repeats,
            ).items()
        }
    return {
        "matrices_gflops": 2 * 2048**3 / best["matrices"] / 1e9,
        "convolution_gflops": 2 * 252**2 * 96 * 96 * 25 / best["convolution"] / 1e9,
        "memory_gb_per_s": 2 * memory.nbytes / best["memory"] / 1e9,
    }


def inference(repeats: int) -> dict[str, Any]:
    torch.manual_seed(0)
    network = REDCNN().eval()
    model = HUModel(copy.deepcopy(network), normalize=HU, residual=True).eval()
    model = place(model, "cpu", channels_last=True)  # as the registry gives it
    image_hu = np.random.default_rng(0).normal(0, 300, (1, 512, 512)).astype(np.float32)
    plain = torch.from_numpy(image_hu)[:, None] / 1000

    def plainly() -> torch.Tensor:
        with torch.no_grad():
            return network(plain)

    ways: dict[str, machine.Way] = {"plain": plainly, "ldct": lambda: apply_model(model, image_hu)}
    ours = torch.from_numpy(apply_model(model, image_hu))[:, None]
    return {
        "seconds": machine.in_turns(ways, repeats),
        "gmac": 458.4,
        "largest_difference_hu": float((plainly() * 1000 - ours).abs().max()),
    }


def metrics(repeats: int) -> dict[str, Any]:
    """Of 300 slices of 512 x 512, window 40/400."""
    generator = np.random.default_rng(0)
    target_hu = generator.normal(40, 80, (300, 512, 512)).astype(np.float32)
    image_hu = (target_hu + generator.normal(0, 40, target_hu.shape)).astype(np.float32)
    pairs = list(zip(image_hu, target_hu, strict=True))

    def theirs() -> list[tuple[float, float]]:
        return [_by_skimage(one, other) for one, other in pairs]

    def ours() -> list[tuple[float, float]]:
        return [(psnr_db(a, b, SOFT_TISSUE), ssim(a, b, SOFT_TISSUE)) for a, b in pairs]

    apart = np.abs(np.array(theirs()) - np.array(ours())).max(axis=0)
    return {
        "seconds": machine.in_turns({"scikit-image": theirs, "ldct": ours}, repeats),
        "largest_difference": {"psnr_db": float(apart[0]), "ssim": float(apart[1])},
    }


def _by_skimage(image_hu: np.ndarray, target_hu: np.ndarray) -> tuple[float, float]:
    image, target = windowed(image_hu, SOFT_TISSUE), windowed(target_hu, SOFT_TISSUE)
    return (
        float(peak_signal_noise_ratio(target, image, data_range=SOFT_TISSUE.width)),
        float(structural_similarity(target, image, data_range=SOFT_TISSUE.width)),
    )


def markdown(found: dict[str, Any]) -> str:
    return "\n".join([*_machine_lines(found), *_rows(found)]) + "\n"


def _machine_lines(found: dict[str, Any]) -> list[str]:
    limit = found.get("machine")
    if not limit:
        return []
    return [
        f"{machine.told(found['taken_on'])} Its limits: {limit['matrices_gflops']:.0f} GFLOP/s on "
        f"matrices, {limit['convolution_gflops']:.0f} on RED-CNN's own convolution (fp32), "
        f"{limit['memory_gb_per_s']:.1f} GB/s.",
        "",
    ]


def _rows(found: dict[str, Any]) -> Iterator[str]:
    yield "| | peer | ours | peer over ours | spread of ours |"
    yield "|---|---|---|---|---|"
    for name, part, unit in (
        ("RED-CNN, 96 channels, a slice", "inference", "s"),
        ("PSNR and SSIM of 300 slices", "metrics", "s"),
    ):
        if part in found:
            peer, ours = found[part]["seconds"].values()
            yield _row(name, peer, ours, unit)
    for patch, rates in found.get("step", {}).items():
        seconds = {name: [1 / rate for rate in turns] for name, turns in rates.items()}
        yield _row(f"training step, a patch of {patch}", seconds["plain"], seconds["ldct"], "s")
    if "windows" in found:
        both = found["windows"]
        for key, unit in (("seconds", "s"), ("mib", "MiB")):
            peer, ours = ([run[key] for run in both[way]] for way in ("monai", "ours"))
            yield _row(f"segmenting 160 slices, {key}", peer, ours, unit)


def _row(name: str, peer: list[float], ours: list[float], unit: str) -> str:
    middle = statistics.median(peer), statistics.median(ours)
    return (
        f"| {name} | {middle[0]:.3g} {unit} | {middle[1]:.3g} {unit} | "
        f"{middle[0] / middle[1]:.2f} | {min(ours):.3g} to {max(ours):.3g} |"
    )


if __name__ == "__main__":
    main()
