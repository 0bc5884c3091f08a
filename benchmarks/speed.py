"""What computing costs, beside a plain peer, in turns: `python benchmarks/speed.py`.

machine    what this one can do: multiplying matrices, convolving, moving memory
inference  RED-CNN as published, on slices of 512 x 512: plain PyTorch beside `ldct apply`'s way,
           and that beside the default model
step       a training step of it on patches of 64 and 128: a plain loop that loads slices as the
           public implementations do (whole .npy files, crops), beside the project's loop
metrics    PSNR, SSIM and VIF of 300 slices, 30 a round: scikit-image, and for VIF the paper's
           formula with SciPy (reference/vif.py), beside ours, and their largest difference
windows    a segmenter over a volume: MONAI's sliding window of the whole beside ours, time and
           memory

Writes results/speed.json and speed.md beside this file. Quiet machine, please: the ratios hold on
a busy one, the seconds do not.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from numpy.typing import NDArray
from reference.redcnn import PlainREDCNN
from reference.vif import vif as reference_vif
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from speed_training import step
from speed_windows import windows
from torch import nn

from pipeline.config.load import load_config
from pipeline.config.sections import Normalize
from pipeline.core.units import SOFT_TISSUE
from pipeline.inference.denoise import apply_model
from pipeline.metrics.image import psnr_db, ssim, windowed
from pipeline.metrics.perceptual import vif
from pipeline.models.adapters.base import HUModel, ModelAdapter, build_model, place
from pipeline.models.redcnn import REDCNN

RESULTS = Path(__file__).parent / "results"
#: Slices of a round: that figures are taken of, and that go through a network.
A_ROUND, SLICES = 30, 2
HU = Normalize(centre=0, scale=1000)
SWIFT = Path(__file__).parents[1] / "configs" / "denoise_swift.yaml"


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
    found["taken_on"] = machine.facts("auto")
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
    ways: dict[str, machine.Way] = {
        "plain": plain_inference,
        "ldct": our_inference,
        "swift": swift_inference,
    }
    apart_hu = float(np.abs(plain_inference() - our_inference()).max())
    return {
        "seconds": machine.processes_in_turns(ways, repeats),
        "gmac": SLICES * 458.4,
        "largest_difference_hu": apart_hu,
    }


@cache
def noise_hu() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 300, (SLICES, 512, 512)).astype(np.float32)


@cache
def plain_redcnn() -> PlainREDCNN:
    torch.manual_seed(0)
    return PlainREDCNN().eval()


def plain_inference() -> NDArray[np.float32]:
    """One slice after another."""
    with torch.no_grad():
        images = torch.from_numpy(noise_hu())[:, None, None] / 1000
        return np.array([plain_redcnn()(image)[0, 0].numpy() * 1000 for image in images])


def our_inference() -> NDArray[np.float32]:
    return apply_model(our_redcnn(), noise_hu())


def swift_inference() -> NDArray[np.float32]:
    return apply_model(swift(), noise_hu())


@cache
def swift() -> ModelAdapter:
    return place(build_model(load_config(SWIFT)), "cpu", channels_last=True).eval()


@cache
def our_redcnn() -> ModelAdapter:
    """As the registry gives it, with the plain one's weights."""
    network = REDCNN()
    network.load_state_dict(plain_redcnn().state_dict())
    model = HUModel(network, normalize=HU, residual=True)
    return place(model, "cpu", channels_last=True).eval()


def metrics(repeats: int) -> dict[str, Any]:
    """Of slices of 512 x 512, window 40/400: others each round, in five rounds 300."""
    seconds: machine.Seconds = {"peer": [], "ldct": []}
    differences = []
    for seed in range(repeats + 1):
        pairs = slices(seed, A_ROUND if seed else 1)  # the first round compiles
        found = {}
        for name, figures in (("peer", theirs), ("ldct", ours)):
            began = time.perf_counter()
            found[name] = np.array([figures(*pair) for pair in pairs])
            seconds[name].append(time.perf_counter() - began)
        differences.append(np.abs(found["peer"] - found["ldct"]).max(axis=0))
    largest = np.max(differences, axis=0).tolist()
    return {
        "slices": A_ROUND,
        "seconds": {name: taken[1:] for name, taken in seconds.items()},
        "largest_difference": dict(zip(("psnr_db", "ssim", "vif"), largest, strict=True)),
    }


def slices(seed: int, count: int) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    generator = np.random.default_rng(seed)
    smooth = gaussian_filter(generator.normal(0, 2000, (512, 512)), 4)
    target_hu = (smooth + generator.normal(40, 15, (count, 512, 512))).astype(np.float32)
    image_hu = (target_hu + generator.normal(0, 40, target_hu.shape)).astype(np.float32)
    return list(zip(image_hu, target_hu, strict=True))


def ours(image_hu: NDArray, target_hu: NDArray) -> tuple[float, float, float]:
    both = image_hu, target_hu, SOFT_TISSUE
    return psnr_db(*both), ssim(*both), vif(*both)


def theirs(image_hu: NDArray, target_hu: NDArray) -> tuple[float, float, float]:
    image, target = windowed(image_hu, SOFT_TISSUE), windowed(target_hu, SOFT_TISSUE)
    width = SOFT_TISSUE.width
    return (
        float(peak_signal_noise_ratio(target, image, data_range=width)),
        float(structural_similarity(target, image, data_range=width)),
        reference_vif(image * (255 / width), target * (255 / width)),
    )


def markdown(found: dict[str, Any]) -> str:
    return "\n".join([*_machine_lines(found), *_rows(found), *_waiting_lines(found)]) + "\n"


def _machine_lines(found: dict[str, Any]) -> list[str]:
    limit = found.get("machine")
    if not limit:
        return []
    as_if = math.nan
    if "inference" in found:
        as_if = 2 * found["inference"]["gmac"] / min(found["inference"]["seconds"]["ldct"])
    return [
        f"{machine.described(found['taken_on'])} Its limits: "
        f"{limit['matrices_gflops']:.0f} GFLOP/s on matrices, "
        f"{limit['convolution_gflops']:.0f} on RED-CNN's own convolution (fp32), "
        f"{limit['memory_gb_per_s']:.1f} GB/s. RED-CNN's output comes as if at {as_if:.0f} GFLOP/s "
        f"of plain convolution, {as_if / limit['convolution_gflops']:.0%} of that limit.",
        "",
    ]


def _rows(found: dict[str, Any]) -> Iterator[str]:
    yield "| median (least to most) | peer | ours | peer over ours, round by round |"
    yield "|---|---|---|---|"
    if "inference" in found:
        plain, ours, swift = found["inference"]["seconds"].values()
        yield _row(f"RED-CNN, 96 channels, {SLICES} slices", plain, ours, "s")
        yield _row("the same, beside the default model", ours, swift, "s")
    if "metrics" in found:
        both = found["metrics"]
        name = f"PSNR, SSIM and VIF of {both['slices']} slices"
        yield _row(name, *both["seconds"].values(), "s")
    for patch, seconds in found.get("step", {}).items():
        yield _row(f"training it, a patch of {patch}", seconds["plain"], seconds["ldct"], "s")
    if "windows" in found:
        both = found["windows"]
        name = f"segmenting {' x '.join(map(str, both['shape']))}"
        yield _row(name, *both["seconds"].values(), "s")
        yield _row("the same, memory of one run", *([m] for m in both["mib"].values()), "MiB")


def _waiting_lines(found: dict[str, Any]) -> Iterator[str]:
    if "step" in found:
        waits = [
            f"{step['waiting_fraction']:.1%} with patches of {patch}"
            for patch, step in found["step"].items()
        ]
        yield f"\nOf its time our training waits for data: {', '.join(waits)}."


def _row(name: str, peer: list[float], ours: list[float], unit: str) -> str:
    ratios = [one / other for one, other in zip(peer, ours, strict=True)]
    return (
        f"| {name} | {machine.spread(peer)} {unit} | {machine.spread(ours)} {unit} | "
        f"{machine.spread(ratios)} |"
    )


if __name__ == "__main__":
    main()
