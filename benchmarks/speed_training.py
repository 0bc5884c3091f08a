"""Patches a second of a training: a plain loop, as the public implementations have it, and ours."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from reference.redcnn import PlainREDCNN
from torch import nn
from torch.utils.data import DataLoader, Dataset

from pipeline.config.load import load_config
from pipeline.core.volume import Volume
from pipeline.data.patches import PatchPairs
from pipeline.degradations.cache import degrade_store
from pipeline.degradations.digest import degradation_digest
from pipeline.physics.phantoms.patient import patient_phantom
from pipeline.store.store import Store
from pipeline.training.loop import train

ROOT = Path(__file__).parents[1]


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
    """Seconds a patch of a training of RED-CNN as published, batches of 8."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as work:
        keys = stored_phantoms(Path(work))
        for patch, iterations in ((64, 3), (128, 1)):
            ways: dict[str, machine.Way] = {
                "plain": partial(plain_training, Path(work), patch, iterations),
                "ldct": partial(our_training, Path(work), keys, patch, iterations),
            }
            seconds = machine.processes_in_turns(ways, repeats)
            logged: dict[str, float] = {}
            our_training(Path(work), keys, patch, 2 * iterations, logged)
            found[str(patch)] = {
                name: [taken / (8 * iterations) for taken in turns]
                for name, turns in seconds.items()
            } | {"waiting_fraction": logged["waiting_fraction"]}
    return found


def stored_phantoms(work: Path) -> list[str]:
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
    return keys


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
            "model.args={}",  # 96 channels of 5 x 5
        ],
    )


def plain_training(folder: Path, patch: int, iterations: int) -> None:
    torch.manual_seed(0)
    network = PlainREDCNN()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)
    loader = DataLoader(Files(folder, patch, 8 * iterations), batch_size=8)
    for given, wanted in loader:
        optimiser.zero_grad()
        nn.functional.mse_loss(network(given), wanted).backward()
        optimiser.step()


def our_training(
    work: Path, keys: list[str], patch: int, iterations: int, logged: dict[str, float] | None = None
) -> None:
    """logged: gets what the last iteration logs."""
    config = phantom_run(patch, iterations)
    items = PatchPairs(Store(work / "store"), keys, config, 8 * iterations)
    kept = {} if logged is None else logged
    with tempfile.TemporaryDirectory() as folder:
        train(
            config,
            items,
            folder=Path(folder),
            log=lambda metrics, at: kept.update(metrics),
            data_digest="",
        )
