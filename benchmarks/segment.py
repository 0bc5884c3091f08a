"""Organs from one labelled scan: `python benchmarks/segment.py --data DATA`.

Trains on the 3 mm torso (volumes/totalseg-ct.nii.gz) alone, without two slabs of it, and tests
on those slabs, on another patient (ct/torso-siemens, in full resolution), on the lungs of a
third (ct/chest-ge-lidc0001, against threshold and fill), and on the second at a tenth of the
dose. Writes results/segment.json, segment.md and segment.png beside this file.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import nibabel
import numpy as np
import torch

from pipeline.dataset_segmentation import LabelPatches, cache_working, load_working
from pipeline.dicom.intake import Intake
from pipeline.evaluate_segmentation import class_figures
from pipeline.identity import installation_key
from pipeline.infer_segmentation import segment
from pipeline.ingest import ingest
from pipeline.losses_segmentation import DiceCrossEntropy
from pipeline.masks import lung_mask
from pipeline.metrics_segmentation import structure_figures
from pipeline.models.segmenter import build_segmenter
from pipeline.physics.lowdose import LowDoseCT
from pipeline.segmentation import Segmentation
from pipeline.settings import Component, Train
from pipeline.steps.supervised import Supervised
from pipeline.store import LPS_TO_RAS, Store
from pipeline.train import Checkpoint, Device, Loop
from pipeline.units import Window
from pipeline.versions import versions
from pipeline.volume import Volume

ROOT = Path(__file__).parents[1]
#: Slices of the training volume that are held back: through liver and spleen, through the pelvis.
HELD_BACK = (slice(24, 32), slice(82, 90))
NOT_KNOWN = 255
CLASSES = {
    "liver": [5],
    "spleen": [1],
    "bones": [*range(25, 51), *range(69, 79), *range(91, 117)],
    "back_muscle": [86, 87],
    "gluteal_muscle": [80, 81, 82, 83, 84, 85],
    "iliopsoas": [88, 89],
    "aorta": [52],
    "bladder": [21],
    "lungs": [10, 11, 12, 13, 14],
    "kidneys": [2, 3],
    "bowel": [6, 18, 19, 20],
    "vena_cava": [63, 64],
}
SETTINGS = Segmentation(
    classes=CLASSES,
    ignored=[NOT_KNOWN],
    spacing_mm=(3.0, 3.0, 3.0),
    patch=[16, 96, 96],
    # Gas and lung; soft tissue; bone.
    ranges_hu=[(-1000.0, -500.0), (-150.0, 250.0), (150.0, 1200.0)],
    augment={"low_dose_scale": 0.2},
)
MODEL = Component(
    target="monai.networks.nets.UNet",
    args={"channels": [32, 64, 128, 256], "strides": [2, 2, 2]},
)
#: Organs that the other patient's slab shows, and those of the held-back slabs.
OTHER_PATIENT = ("liver", "spleen", "bones", "back_muscle", "aorta")
SAME_PATIENT = ("liver", "spleen", "bones", "gluteal_muscle", "back_muscle", "bladder")
SOFT_TISSUE = Window(40, 400)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data")
    parser.add_argument("--work", type=Path, default=Path("out/segment"))
    parser.add_argument("--iterations", type=int, default=3000)
    arguments = parser.parse_args()
    store, keys = ingested(arguments.data, arguments.work / "store")
    labels = label_map(arguments.data / "volumes" / "totalseg-labels.nii.gz", store, keys["train"])
    prepare(store, keys["train"], labels)
    model, training = trained(store, keys["train"], arguments)

    results = {"training": training, "versions": versions(), "figures": {}}
    same, other, chest = (store.load(keys[name]) for name in ("train", "other", "chest"))
    truth = SETTINGS.classes_of(
        label_map(arguments.data / "volumes" / "torso-siemens-labels.nii.gz", store, keys["other"])
    )
    found = {"other": segment(model, other, SETTINGS), "same": segment(model, same, SETTINGS)}
    low = at_dose(other, 0.1)
    found["low"] = segment(model, low, SETTINGS)
    held = np.zeros(same.image_hu.shape, dtype=bool)
    for block in HELD_BACK:
        held[block] = True
    whole = SETTINGS.classes_of(labels)
    results["figures"] = {
        "held-back slabs": of_classes(
            np.where(held, found["same"], 0), np.where(held, whole, 0), same, SAME_PATIENT
        ),
        "other patient": of_classes(found["other"], truth, other, OTHER_PATIENT),
        "other patient, 10 % dose": of_classes(found["low"], truth, other, OTHER_PATIENT),
        "third patient": {"lungs": lungs(model, chest, arguments.work)},
    }


def ingested(data: Path, folder: Path) -> tuple[Store, dict[str, str]]:
    store, unnamed = Store(folder), Intake(unidentified="folder")
    sources = {
        "train": data / "volumes" / "totalseg-ct.nii.gz",
        "other": data / "ct" / "torso-siemens",
        "chest": data / "ct" / "chest-ge-lidc0001",
    }
    key = installation_key()
    return store, {
        name: ingest(source, store, key=key, intake=unnamed).series[0]["series"]
        for name, source in sources.items()
    }


def label_map(path: Path, store: Store, key: str) -> np.ndarray:
    """A label file on the stored series' own grid, which it shares but for the axes' senses."""
    stored = nibabel.load(path)
    labels = np.asanyarray(stored.dataobj).T
    to_labels = np.linalg.inv(LPS_TO_RAS @ stored.affine) @ store.load(key).affine_lps
    senses = np.rint(np.diag(to_labels)[:3])
    if not np.allclose(to_labels[:3, :3], np.diag(senses), atol=1e-3):
        raise SystemExit(f"{path} is on another grid than its image")
    return np.flip(labels, [2 - axis for axis in range(3) if senses[axis] < 0])


def prepare(store: Store, key: str, labels: np.ndarray) -> None:
    """The working copy of the training volume, with noise to add, and without the slabs."""
    known = labels.copy()
    for block in HELD_BACK:
        known[block] = NOT_KNOWN
    cache_working(store, key, known, SETTINGS, degraded_hu=at_dose(store.load(key), 0.1).image_hu)


def at_dose(volume: Volume, fraction: float) -> Volume:
    low_dose = LowDoseCT(dose_fraction=fraction, detectors=368, views=576)
    image_hu = low_dose(volume, np.random.default_rng(0))
    return Volume(image_hu, volume.valid, volume.affine_lps, volume.slice_origins_mm)


def trained(
    store: Store, key: str, arguments: argparse.Namespace
) -> tuple[torch.nn.Module, dict[str, float]]:
    """The project's loop over patches of one volume."""
    settings = Train(
        iterations=arguments.iterations,
        batch=1,
        lr=3e-3,
        warmup=100,
        clip_gradient_norm=1.0,
        precision="fp32",
        channels_last=False,
        log_every=50,
    )
    torch.manual_seed(settings.seed)
    model = build_segmenter(MODEL, SETTINGS)
    step = Supervised(model, DiceCrossEntropy(), settings)
    dataset = LabelPatches(
        [load_working(store, key, SETTINGS)],
        SETTINGS,
        seed=settings.seed,
        length=settings.iterations * settings.batch,
    )
    checkpoint = Checkpoint(arguments.work, f"{settings.iterations:016d}")
    loop = Loop(model, step, Device("cpu", bf16=False), settings, checkpoint)
    wall, cpu = time.perf_counter(), time.process_time()
    loop.run(dataset, start=loop.resume(log), log=log)
    return model.eval(), {
        "iterations": settings.iterations,
        "parameters": sum(weights.numel() for weights in model.parameters()),
        "wall_minutes": (time.perf_counter() - wall) / 60,
        "cpu_minutes": (time.process_time() - cpu) / 60,
    }


def log(metrics: dict[str, float], iteration: int) -> None:
    print(iteration, {name: round(value, 4) for name, value in metrics.items()}, flush=True)


def of_classes(found, truth, volume: Volume, names: tuple[str, ...]) -> dict:
    figures = class_figures(found, truth, SETTINGS, volume.spacing_mm)
    return {name: figures[name] for name in names}


def lungs(found, chest: Volume) -> dict:
    reference = lung_mask(np.asarray(chest.image_hu), chest.spacing_mm)
    number = list(CLASSES).index("lungs") + 1
    return structure_figures(found == number, reference, spacing_mm=chest.spacing_mm)
