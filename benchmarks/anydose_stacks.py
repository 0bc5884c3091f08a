"""One slice in against three and five: `python benchmarks/anydose_stacks.py --data D`.

Three short trainings by the recipe of configs/denoise_any_dose.yaml that differ in how many slices
the network sees: the one that it is to denoise, with none, one or two on each side. Most of the
training's series are single slices, so these learn from those of at least FEWEST slices alone, and
are measured on such series that training did not see. The noise that is inserted is independent
from slice to slice, as LowDoseCT has it: neighbours in a real scan share some. Writes
results/anydose_stacks.json and .md beside this file.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from anydose import figures
from anydose_ablation import ITERATIONS, configuration, folders_asked
from anydose_scans import OTHERS, Images, ingested, sides_of
from torch.utils.data import Dataset

from pipeline.config.run import RunConfig
from pipeline.core.atomic_files import write_json
from pipeline.core.masks import body_mask, bounding_box
from pipeline.core.units import HIGHEST_CT_HU
from pipeline.core.volume import Volume
from pipeline.data.nested import NestedPairs
from pipeline.degradations.cache import degrade_store
from pipeline.degradations.digest import degradation_digest
from pipeline.models.adapters.any_dose import LEAST_RATIO_SHOWN, AnyDoseModel
from pipeline.models.adapters.base import build_loss
from pipeline.models.swift import SwiftUNet
from pipeline.physics.calibration import CalibrationError
from pipeline.physics.lowdose import LowDoseCT
from pipeline.store.published_splits import TEST, TRAIN
from pipeline.store.store import Store
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.loop import Loop
from pipeline.training.precision import Precision
from pipeline.training.steps.supervised import Supervised

COUNTS = (1, 3, 5)
#: Slices on each side of the one that is denoised, of the largest stack.
REACH = max(COUNTS) // 2
FEWEST = 2 * REACH + 3
DOSE = 0.25


@dataclass(frozen=True)
class Held:
    """A block of 2 REACH + 1 slices, at its own dose and at DOSE of it."""

    volume: Volume
    low_hu: Images


class StackModel(AnyDoseModel):
    """Denoises the middle one of some slices, which it all sees."""

    def forward(
        self, image_hu: torch.Tensor, dose_ratio: torch.Tensor | None = None
    ) -> torch.Tensor:
        """HU [batch, slices, rows, columns] in, the middle one [batch, 1, rows, columns] out."""
        assert dose_ratio is not None
        middle = image_hu[:, image_hu.shape[1] // 2][:, None]
        removable = (1 - 1 / dose_ratio.float()).view(-1, 1, 1, 1)
        shown = removable.clamp(min=1 - 1 / LEAST_RATIO_SHOWN).expand_as(middle)
        normalised = (image_hu.clamp(max=HIGHEST_CT_HU) - self.centre) / self.scale
        noise_hu = self.network(torch.cat((normalised, shown), dim=1))[:, :1].float() * self.scale
        return middle - removable * noise_hu


class Stacks(Dataset):
    """Item i is a function of seed and i: a pair of two doses of `count` slices, cut at random; the
    target is the middle one."""

    def __init__(self, store: Store, keys: list[str], config: RunConfig, count: int) -> None:
        assert config.data.nested is not None
        assert config.degradation is not None
        dose = float(config.degradation.args["dose_fraction"])
        self.pairs = NestedPairs(config.data.nested, dose)
        self.patch, self.seed = config.data.patch, config.train.seed
        self.middle = slice(REACH - count // 2, REACH + count // 2 + 1)
        self.series = [
            (
                store.load(key).image_hu,
                *(store.load_degraded(key, degradation_digest(config, n)) for n in (0, 1)),
            )
            for key in keys
        ]
        self.length = config.train.iterations * config.train.batch

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        generator = np.random.default_rng((self.seed, item))
        series = self.series[generator.integers(len(self.series))]
        first = int(generator.integers(len(series[0]) - 2 * REACH))
        block = slice(first, first + 2 * REACH + 1)
        size = tuple(side + 2 * self.pairs.margin for side in self.patch)
        box = bounding_box(body_mask(series[0][first + REACH]), size)
        assert box is not None, "every slice of these series shows a body"
        starts = [
            int(generator.integers(side.start, side.stop - length + 1))
            for side, length in zip(box, size, strict=True)
        ]
        cut = (block, *(slice(s, s + n) for s, n in zip(starts, size, strict=True)))
        image_hu, *draws = (np.asarray(each[cut], np.float32) for each in series)
        pair = self.pairs.pair(image_hu, (draws[0], draws[1]), generator)
        return {
            "input": torch.from_numpy(pair.input[self.middle].copy()),
            "target": torch.from_numpy(pair.target[REACH : REACH + 1].copy()),
            "dose_ratio": torch.tensor(pair.dose_ratio, dtype=torch.float32),
        }


def main() -> None:
    asked = folders_asked(str(__doc__))
    torch.set_num_threads(1)
    config = configuration({})
    store = ingested(asked.data / "train", asked.work / "train")
    training = [key for key, side in sides_of(store).items() if side == TRAIN]
    keys = [key for key in training if len(store.load(key).image_hu) >= FEWEST]
    degrade_store(store, dict.fromkeys(keys, config.data.realisations), config)
    held = held_blocks(store, asked.data, asked.work)
    rows = []
    for count in COUNTS:
        model, minutes = trained(store, keys, config, count, asked.work / "stacks")
        rows.append({"slices": count, "minutes": minutes, **measured(model, held, count)})
        print(json.dumps(rows[-1]), flush=True)
    found = {
        "iterations": ITERATIONS,
        "series": len(keys),
        "blocks": len(held),
        "rows": rows,
        "machine": machine.facts(),
    }
    write_json(asked.results / "anydose_stacks.json", found)
    (asked.results / "anydose_stacks.md").write_text(markdown(found), encoding="utf-8")


def trained(
    store: Store, keys: list[str], config: RunConfig, count: int, folder: Path
) -> tuple[StackModel, float]:
    """A network that sees `count` slices, and its training's minutes of processor time."""
    torch.manual_seed(config.train.seed)
    network = SwiftUNet(**{**config.model.args, "inputs": count + 1})
    model = StackModel(network, normalize=config.normalize_hu)
    assert config.loss is not None
    step = Supervised(model, build_loss(config.loss), config.train)
    loop = Loop(model, step, "cpu", config.train, Checkpoint(folder, f"{count}"))
    loop.precision = Precision("bf16")
    began = time.process_time()
    loop.run(Stacks(store, keys, config, count), start=0, log=lambda metrics, iteration: None)
    return model.eval(), (time.process_time() - began) / 60


def held_blocks(store: Store, data: Path, work: Path) -> list[Held]:
    """Two blocks of each long series that training did not see."""
    others = [ingested(data / "ct" / name, work / name) for name in OTHERS]
    volumes = [store.load(key) for key, side in sides_of(store).items() if side == TEST]
    volumes += [other.load(key) for other in others for key in other.records()]
    return [b for volume in volumes if len(volume.image_hu) >= FEWEST for b in blocks_of(volume)]


def blocks_of(volume: Volume) -> list[Held]:
    """Those around a third and two thirds of a series; none where its noise says too little."""
    found = []
    for part in (1 / 3, 2 / 3):
        middle = int(np.clip(len(volume.image_hu) * part, REACH, len(volume.image_hu) - REACH - 1))
        block = volume.slices(range(middle - REACH, middle + REACH + 1))
        try:
            simulate = LowDoseCT(DOSE, photons_per_ray=None)
            found.append(Held(block, simulate(block, np.random.default_rng(17))))
        except CalibrationError as error:
            print(f"left out: {error}")
    return found


def measured(model: StackModel, held: list[Held], count: int) -> dict[str, Any]:
    """Means over the blocks' middle slices, in the window 40/400; bias of soft tissue, absolute."""
    around = slice(REACH - count // 2, REACH + count // 2 + 1)
    found = []
    for block in held:
        with torch.no_grad():
            stack = torch.from_numpy(np.ascontiguousarray(block.low_hu[around]))[None]
            output_hu = model(stack, torch.tensor([1 / DOSE]))[0].numpy()
        middle = slice(REACH, REACH + 1)
        scan = _Middle(block.volume.slices(range(REACH, REACH + 1)))
        found.append(figures(output_hu, block.low_hu[middle], scan))
    window = [one["soft_tissue"] for one in found]
    return {
        "psnr": float(np.mean([one["psnr"] for one in window])),
        "ssim": float(np.mean([one["ssim"] for one in window])),
        "bias": float(np.mean([abs(one["bias_hu"]["soft_tissue"]) for one in found])),
    }


@dataclass(frozen=True)
class _Middle:
    """What anydose.figures reads of a scan."""

    volume: Volume


def markdown(found: dict[str, Any]) -> str:
    """The table, and what it holds."""
    rows = [
        f"| {row['slices']} | {row['psnr']:.2f} / {row['ssim']:.3f} | {row['bias']:.1f} | "
        f"{row['minutes']:.1f} |"
        for row in found["rows"]
    ]
    return (
        "# One slice in against three and five\n\n"
        f"{machine.described(found['machine'])}\n\n"
        f"Trainings of {found['iterations']} iterations in bf16 on one thread, on the "
        f"{found['series']} training series of at least {FEWEST} slices; PSNR (dB) / SSIM in the "
        f"window 40/400 at a quarter of the dose, mean over the middle slices of {found['blocks']} "
        "blocks of series that training did not see. Inserted noise is independent from slice to "
        "slice, so that a real scan, whose neighbours share noise, has less to gain.\n\n"
        "| slices in | PSNR / SSIM | bias of soft tissue, HU | minutes |\n|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


if __name__ == "__main__":
    main()
