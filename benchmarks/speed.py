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
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn
from torch.utils.data import DataLoader, Dataset

from pipeline.config import load_config
from pipeline.dataset import PatchPairs, degradation_digest
from pipeline.degrade import degrade_store
from pipeline.infer import apply_model
from pipeline.infer_segmentation import segment
from pipeline.metrics import psnr_db, ssim, windowed
from pipeline.models.fcn import FCN
from pipeline.models.redcnn import REDCNN
from pipeline.models.shell import HUModel
from pipeline.physics.phantom import patient_phantom
from pipeline.segmentation import Segmentation
from pipeline.settings import Normalize
from pipeline.store import Store
from pipeline.train import train
from pipeline.units import SOFT_TISSUE
from pipeline.versions import versions
from pipeline.volume import Volume

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
HU = Normalize(centre=0, scale=1000)
Way = Callable[[], object]
Seconds = dict[str, list[float]]


def main() -> None:
    parts: dict[str, Callable[[int], dict[str, Any]]] = {
        "machine": machine,
        "inference": inference,
        "step": step,
        "metrics": metrics,
        "windows": windows,
    }
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--parts", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--windows-by", choices=["ours", "monai"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.windows_by:
        print(json.dumps(window_run(arguments.windows_by)))
        return
    found = {part: parts[part](arguments.repeats) for part in arguments.parts}
    found |= {"threads": torch.get_num_threads(), "versions": versions()}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "speed.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(kept | found, indent=2) + "\n")
    (RESULTS / "speed.md").write_text(markdown(kept | found))
    print(markdown(kept | found))


def in_turns(ways: dict[str, Way], repeats: int) -> Seconds:
    """Seconds of every way, once a round; the first round warms up."""
    seconds: Seconds = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def machine(repeats: int) -> dict[str, Any]:
    """10^9 operations a second, and 10^9 bytes a second."""
    one = torch.randn(2048, 2048)
    images, layer = torch.randn(1, 96, 256, 256), nn.Conv2d(96, 96, 5)
    memory = torch.zeros(64_000_000)
    with torch.inference_mode():
        best = {
            name: min(seconds)
            for name, seconds in in_turns(
                {
                    "matrices": lambda: one @ one,
                    "convolution": lambda: layer(images),
                    "memory": lambda: memory.clone(),
                },
                repeats,
            ).items()
        }
    return {
        "processor": platform.processor() or platform.machine(),
        "matrices_gflops": 2 * 2048**3 / best["matrices"] / 1e9,
        "convolution_gflops": 2 * 252**2 * 96 * 96 * 25 / best["convolution"] / 1e9,
        "memory_gb_per_s": 2 * memory.nbytes / best["memory"] / 1e9,
    }


def inference(repeats: int) -> dict[str, Any]:
    torch.manual_seed(0)
    model = HUModel(REDCNN(), normalize=HU, residual=True).eval()
    image_hu = np.random.default_rng(0).normal(0, 300, (1, 512, 512)).astype(np.float32)
    plain = torch.from_numpy(image_hu)[:, None] / 1000

    def plainly() -> torch.Tensor:
        with torch.no_grad():
            return model.network(plain)

    ways: dict[str, Way] = {"plain": plainly, "ldct": lambda: apply_model(model, image_hu)}
    ours = torch.from_numpy(apply_model(model, image_hu))[:, None]
    return {
        "seconds": in_turns(ways, repeats),
        "gmac": 458.4,
        "largest_difference_hu": float((plainly() * 1000 - ours).abs().max()),
    }


class Files(Dataset):
    """Whole slices from disk, of which patches are cut: as the public implementations do."""

    def __init__(self, folder: Path, patch: int, length: int) -> None:
        self.pairs = [
            (path, folder / path.name.replace("input", "target"))
            for path in sorted(folder.glob("input-*.npy"))
        ]
        self.patch, self.length = patch, length
        self.generator = np.random.default_rng(0)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> tuple[torch.Tensor, torch.Tensor]:
        both = [np.load(path) for path in self.pairs[item % len(self.pairs)]]
        row, column = self.generator.integers(0, both[0].shape[0] - self.patch, 2)
        inside = slice(row, row + self.patch), slice(column, column + self.patch)
        given, wanted = (torch.from_numpy(image[inside])[None] / 1000 for image in both)
        return given, wanted


def step(repeats: int) -> dict[str, Any]:
    """Patches a second of a training of RED-CNN with 32 channels, batches of 8."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as work:
        store, keys = stored_phantoms(Path(work))
        for patch in (64, 128):
            iterations = 24 if patch == 64 else 8
            ways: dict[str, Way] = {
                "plain": lambda p=patch, n=iterations: plain_training(Path(work), p, n),
                "ldct": lambda p=patch, n=iterations: our_training(store, keys, p, n),
            }
            seconds = in_turns(ways, repeats)
            found[str(patch)] = {
                name: [8 * iterations / taken for taken in turns] for name, turns in seconds.items()
            }
    return found


def stored_phantoms(work: Path) -> tuple[Store, list[str]]:
    """Two phantoms with their low dose in a store, and the same pairs as .npy files."""
    store = Store(work / "store")
    config = phantom_run(64, 1)
    for number in range(2):
        phantom = patient_phantom(np.random.default_rng(number), slices=4)
        affine = np.diag([*phantom.spacing_mm[::-1], 1.0])
        origins = np.arange(4)[:, None] * affine[:3, 2]
        valid = np.ones(phantom.image_hu.shape, dtype=bool)
        volume = Volume(phantom.image_hu.astype(np.float32), valid, affine, origins, {})
        store.add(volume, key=f"phantom-{number}", patient=f"phantom-{number}")
    keys = [f"phantom-{number}" for number in range(2)]
    degrade_store(store, dict.fromkeys(keys, 1), config)
    for number, key in enumerate(keys):
        degraded = store.load_degraded(key, degradation_digest(config, 0))
        for index, target_hu in enumerate(store.load(key).image_hu):
            np.save(work / f"input-{number}-{index}.npy", np.array(degraded[index]))
            np.save(work / f"target-{number}-{index}.npy", np.array(target_hu))
    return store, keys


def phantom_run(patch: int, iterations: int) -> Any:
    return load_config(
        ROOT / "configs" / "denoise_redcnn.yaml",
        [
            f"data.patch=[{patch}, {patch}]",
            "data.realisations=1",
            "degradation.args.views=240",
            "degradation.args.detectors=256",
            f"train.iterations={iterations}",
            "loss={target: torch.nn.MSELoss}",
        ],
    )


def plain_training(folder: Path, patch: int, iterations: int) -> None:
    torch.manual_seed(0)
    network = REDCNN(32, 3, padding=True)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)
    loader = DataLoader(Files(folder, patch, 8 * iterations), batch_size=8)
    for given, wanted in loader:
        optimiser.zero_grad()
        nn.functional.mse_loss(network(given), wanted).backward()
        optimiser.step()


def our_training(store: Store, keys: list[str], patch: int, iterations: int) -> None:
    config = phantom_run(patch, iterations)
    items = PatchPairs(store, keys, config, 8 * iterations)
    with tempfile.TemporaryDirectory() as folder:
        train(config, items, folder=Path(folder), log=lambda told, at: None, data_digest="")


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
        "seconds": in_turns({"scikit-image": theirs, "ldct": ours}, repeats),
        "largest_difference": {"psnr_db": float(apart[0]), "ssim": float(apart[1])},
    }


def _by_skimage(image_hu: np.ndarray, target_hu: np.ndarray) -> tuple[float, float]:
    image, target = windowed(image_hu, SOFT_TISSUE), windowed(target_hu, SOFT_TISSUE)
    return (
        float(peak_signal_noise_ratio(target, image, data_range=SOFT_TISSUE.width)),
        float(structural_similarity(target, image, data_range=SOFT_TISSUE.width)),
    )


def windows(repeats: int) -> dict[str, Any]:
    """Each run is a process of its own, so that its memory is its own too."""
    rows: dict[str, list[dict[str, float]]] = {"monai": [], "ours": []}
    for _ in range(min(3, repeats)):
        for way, told in rows.items():
            ended = subprocess.run(
                [sys.executable, __file__, "--windows-by", way],
                capture_output=True,
                check=True,
                text=True,
            )
            told.append(json.loads(ended.stdout.splitlines()[-1]))
    return rows


def window_run(way: str) -> dict[str, float]:
    """Seconds, and the most memory above what was held before, of 160 slices of 384 x 384."""
    from monai.inferers import SlidingWindowInferer

    shape, patch = (160, 384, 384), [48, 128, 128]
    settings = Segmentation(
        labels="mask",
        classes={f"c{n}": [f"c{n}"] for n in range(4)},
        spacing_mm=(1, 1, 1),
        patch=patch,
    )
    image_hu = np.random.default_rng(0).normal(0, 300, shape).astype(np.float32)
    network = FCN(3, 1, settings.channels, (4, 8)).eval()
    volume = Volume(
        image_hu,
        np.ones(shape, dtype=bool),
        np.eye(4),
        np.arange(shape[0])[:, None] * np.eye(3)[2],
        {},
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    if way == "ours":
        segment(network, volume, settings)
    else:
        inferer = SlidingWindowInferer(patch, overlap=settings.overlap, mode="gaussian")
        with torch.inference_mode():
            inferer(torch.from_numpy(image_hu)[None, None], network).softmax(1).argmax(1)
    seconds = time.perf_counter() - began
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "mib": (most - before) / 1024}


def markdown(found: dict[str, Any]) -> str:
    return "\n".join([*_machine_lines(found), *_rows(found)]) + "\n"


def _machine_lines(found: dict[str, Any]) -> list[str]:
    limit = found.get("machine")
    if not limit:
        return []
    return [
        f"{found['threads']} threads. This machine: {limit['matrices_gflops']:.0f} GFLOP/s on "
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
