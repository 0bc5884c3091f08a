"""What each part of anydose's recipe is worth: `python benchmarks/anydose_ablation.py --data D`.

Short trainings that differ from configs/denoise_any_dose.yaml in one thing each, all of ITERATIONS
iterations, on the same series, and measured on the series that benchmarks/anydose.py measures on:
one slice of each, at a tenth and a quarter of their own dose. anydose_stacks.py does the same for
one slice in against three and five. Writes results/anydose_ablation.json and .md beside this file.
A training that --work holds already is not repeated.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from anydose import RESULTS, ROOT, figures, simulated
from anydose_scans import Denoise, Images, Scan, held_scans, ingested, sides_of
from torch.utils.data import Dataset

from pipeline.config.load import load_config
from pipeline.config.run import RunConfig
from pipeline.core.atomic_files import write_json
from pipeline.data.nested import NestedPairs
from pipeline.data.patches import PatchPairs
from pipeline.degradations.cache import degrade_store
from pipeline.inference.denoise import apply_model
from pipeline.models.adapters.any_dose import at_dose_ratio
from pipeline.store.published_splits import TRAIN, VALIDATION
from pipeline.store.store import Store
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.loop import Loop, build_training
from pipeline.training.precision import Precision

ITERATIONS = 750
DOSES = (0.1, 0.25)
BLIND_RATIO = 4.0
FEW_PATIENTS = 2


@dataclass(frozen=True)
class Variant:
    """What a training has of its own: values of the YAML by dotted key, or one of the changes that
    no YAML can say."""

    label: str
    changes: dict[str, Any] = field(default_factory=dict)
    full_targets: bool = False
    blind: bool = False
    few: bool = False


LOSS = "loss.args.similarity_weight"
KERNELS = [f"data.nested.{name}" for name in ("both_filtered", "noise_filtered", "noise_sharpened")]
VARIANTS = {
    "recipe": Variant("the recipe"),
    "seed": Variant("the recipe, another seed", {"train.seed": 1}),
    "full_targets": Variant("plain pairs: every target at the full dose", full_targets=True),
    "blind": Variant("no dose as an input", blind=True),
    "few": Variant(f"{FEW_PATIENTS} patients", few=True),
    "no_ssim": Variant("logarithm of MSE, no SSIM term", {LOSS: 0.0}),
    "mse": Variant("MSE, no SSIM term", {LOSS: 0.0, "loss.target": "range_weighted_mse"}),
    "l1": Variant("L1, no SSIM term", {LOSS: 0.0, "loss.target": "range_weighted_l1"}),
    "not_sharpened": Variant(
        "random kernels, none sharper than the scan's",
        dict(zip(KERNELS, (0.4, 0.4, 0), strict=True)),
    ),
    "own_kernels": Variant("the scans' own kernels alone", dict.fromkeys(KERNELS, 0)),
}


def main() -> None:
    asked = folders_asked(str(__doc__))
    torch.set_num_threads(1)
    scans = [scan for scan in held_scans(asked.data, asked.work) if scan.side != VALIDATION]
    store = ingested(asked.data / "train", asked.work / "train")
    rows, ways = [], {}
    for name, variant in VARIANTS.items():
        way, minutes = trained(variant, store, asked.work / "ablation" / name)
        ways[name] = way
        rows.append(measured(variant.label, way, scans, asked.work, minutes=minutes))
        print(json.dumps(rows[-1]), flush=True)
    twice = rows[0]["minutes"] + rows[1]["minutes"]
    both = averaged(ways["recipe"], ways["seed"])
    rows.append(measured("both seeds averaged", both, scans, asked.work, minutes=twice))
    flipped = flips(ways["recipe"])
    rows.append(
        measured(
            "the recipe, four flips averaged",
            flipped,
            scans,
            asked.work,
            minutes=rows[0]["minutes"],
        )
    )
    found = {"iterations": ITERATIONS, "rows": rows, "machine": machine.facts()}
    write_json(asked.results / "anydose_ablation.json", found)
    (asked.results / "anydose_ablation.md").write_text(markdown(found), encoding="utf-8")


def folders_asked(about: str) -> argparse.Namespace:
    """The command line: data, work and results."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data")
    parser.add_argument("--work", type=Path, default=Path("out/anydose"), help="of anydose.py")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


def configuration(changes: dict[str, Any]) -> RunConfig:
    """The shipped recipe, shortened and changed."""
    changed = {"train.iterations": ITERATIONS, "train.precision": "bf16"} | changes
    overrides = [f"{key}={value}" for key, value in changed.items()]
    return load_config(ROOT / "configs" / "denoise_any_dose.yaml", overrides)


def trained(variant: Variant, store: Store, folder: Path) -> tuple[Denoise, float]:
    """The network of a variant as a function of images and ratio, and its training's minutes."""
    config = configuration(variant.changes)
    keys = [key for key, side in sides_of(store).items() if side == TRAIN]
    degrade_store(store, dict.fromkeys(keys, config.data.realisations), config)
    if variant.few:
        keys = of_few_patients(store, keys)
    torch.manual_seed(config.train.seed)
    model, step = build_training(config, "cpu")
    minutes = folder / "minutes.json"
    if not minutes.exists():
        pairs = items(variant, store, keys, config)
        loop = Loop(model, step, "cpu", config.train, Checkpoint(folder, "ablation"))
        loop.precision = Precision("bf16")
        began = time.process_time()
        loop.run(pairs, start=0, log=lambda metrics, iteration: None)
        torch.save(model.state_dict(), folder / "model.pt")
        write_json(minutes, (time.process_time() - began) / 60)
    model.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    model.eval()
    fixed = BLIND_RATIO if variant.blind else None

    def way(images_hu: Images, ratio: float) -> Images:
        return apply_model(at_dose_ratio(model, fixed or ratio), images_hu)

    return way, json.loads(minutes.read_text())


def of_few_patients(store: Store, keys: list[str]) -> list[str]:
    """The series of those patients who have the most slices."""
    slices: Counter[str] = Counter()
    for key in keys:
        slices[store.record(key).patient] += len(store.load(key).image_hu)
    most = [patient for patient, _ in slices.most_common(FEW_PATIENTS)]
    return [key for key in keys if store.record(key).patient in most]


class FullTargets(NestedPairs):
    """Every target at the highest dose."""

    def _doses(self, generator: np.random.Generator) -> tuple[float, float]:
        lower, highest = super()._doses(generator)[0], self.settings.dose[1]
        return max(lower, highest / self.settings.max_dose_ratio), highest


class OneRatio(Dataset):
    """Items that all claim the same ratio: the network does not see the dose."""

    def __init__(self, pairs: Dataset) -> None:
        self.pairs = pairs

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        return {**self.pairs[item], "dose_ratio": torch.tensor(BLIND_RATIO)}


def items(variant: Variant, store: Store, keys: list[str], config: RunConfig) -> Dataset:
    """The training pairs of a variant."""
    pairs = PatchPairs(store, keys, config, config.train.iterations * config.train.batch)
    assert pairs.nested is not None
    if variant.full_targets:
        pairs.nested = FullTargets(pairs.nested.settings, pairs.nested.draw_dose_fraction)
    return OneRatio(pairs) if variant.blind else pairs


def averaged(one: Denoise, other: Denoise) -> Denoise:
    """The mean of two networks' outputs."""
    return lambda images_hu, ratio: (one(images_hu, ratio) + other(images_hu, ratio)) / 2


def flips(way: Denoise) -> Denoise:
    """The mean over the image as it is, and turned over by rows, columns and both."""

    def mean(images_hu: Images, ratio: float) -> Images:
        axes = ((), (1,), (2,), (1, 2))
        turned = (way(np.ascontiguousarray(np.flip(images_hu, a)), ratio) for a in axes)
        return np.mean([np.flip(o, a) for o, a in zip(turned, axes, strict=True)], axis=0)

    return mean


def measured(
    label: str, way: Denoise, scans: list[Scan], work: Path, *, minutes: float
) -> dict[str, Any]:
    """Means over the series, for smooth and sharp noise at each dose: PSNR, SSIM, and the mean of
    the absolute bias of soft tissue."""
    row: dict[str, Any] = {"label": label, "minutes": minutes}
    for dose in DOSES:
        found: dict[str, list[dict[str, Any]]] = {"smooth": [], "sharp": []}
        for scan in scans:
            low_hu = simulated(scan, dose, work)
            if low_hu is None:
                continue
            one_slice = [len(low_hu) // 2]
            shown = replace(scan, volume=scan.volume.slices(one_slice))
            one = figures(way(low_hu[one_slice], 1 / dose), low_hu[one_slice], shown)
            found["sharp" if scan.is_sharp else "smooth"].append(one)
        for kernel, each in found.items():
            window = [one["soft_tissue"] for one in each]
            row[f"{kernel} {dose:.0%}"] = {
                "psnr": float(np.mean([one["psnr"] for one in window])),
                "ssim": float(np.mean([one["ssim"] for one in window])),
                "bias": float(np.mean([abs(one["bias_hu"]["soft_tissue"]) for one in each])),
            }
    return row


def markdown(found: dict[str, Any]) -> str:
    """The table, and what it holds."""
    rows = found["rows"]
    columns = [name for name in rows[0] if name not in ("label", "minutes")]
    lines = [
        "# What each part of anydose's recipe is worth",
        machine.described(found["machine"]),
        f"Trainings of {found['iterations']} iterations in bf16 on one thread, a twenty-fourth of "
        f"the shipped model's. Another seed alone changes up to {seed_db(rows, columns):.1f} dB "
        "here: smaller differences say nothing. PSNR (dB) / SSIM in the window 40/400, data range "
        "its width, over one whole slice of each series, mean over series of patients and of a "
        "vendor that training did not see; the number behind is the mean absolute bias of soft "
        "tissue in HU. Minutes of processor time of the training.",
        "\n".join(
            [
                "| training | " + " | ".join(columns) + " | minutes |",
                "|" + "---|" * (len(columns) + 2),
                *(line_of(row, columns) for row in rows),
            ]
        ),
    ]
    return "\n\n".join(lines) + "\n"


def seed_db(rows: list[dict[str, Any]], columns: list[str]) -> float:
    """The largest difference in PSNR between the first two rows: the recipe with two seeds."""
    one, other = rows[0], rows[1]
    return max(abs(one[column]["psnr"] - other[column]["psnr"]) for column in columns)


def line_of(row: dict[str, Any], columns: list[str]) -> str:
    """One training."""
    cells = (row[name] for name in columns)
    shown = [f"{c['psnr']:.2f} / {c['ssim']:.3f}, {c['bias']:.1f}" for c in cells]
    return f"| {row['label']} | " + " | ".join(shown) + f" | {row['minutes']:.1f} |"


if __name__ == "__main__":
    main()
