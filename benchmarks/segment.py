"""Organs from one labelled scan and parts of others: `python benchmarks/segment.py --data DATA`.

Trains configs/segment_organs.yaml on the 3 mm torso (volumes/totalseg-ct.nii.gz) without two slabs
of it, on a patient of whom the aorta alone is labelled, and on the lungs of four patients
(data/train) by threshold and fill. Tests on those slabs, on another patient (ct/torso-siemens, in
full resolution; also at the run's low dose, and denoised again), and on the lungs of a third
(ct/chest-ge-lidc0001, against threshold and fill). Writes results/segment.json, segment.md and
segment.png beside this file.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import machine
import numpy as np
from PIL import Image

from pipeline.config.load import load_config
from pipeline.config.names import digest
from pipeline.config.run import RunConfig
from pipeline.config.segmentation import Segmentation
from pipeline.core.label_map import LabelMap
from pipeline.core.malloc import keep_freed_memory
from pipeline.core.pseudonyms import installation_key
from pipeline.core.units import Window
from pipeline.core.volume import Volume
from pipeline.data.label_patches import Labelled, LabelPatches, cache_working, load_working
from pipeline.degradations.cache import degrade_store
from pipeline.degradations.digest import degradation_digest
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.evaluation.segmentation import class_figures
from pipeline.evaluation.segmentation_at_dose import low_dose_volume
from pipeline.inference.denoise import apply_model
from pipeline.inference.segment import segment
from pipeline.ingest.ingest import ingest
from pipeline.metrics.segmentation import structure_figures
from pipeline.models.adapters.base import ModelAdapter
from pipeline.models.adapters.pretrained import load_pretrained
from pipeline.report.overlay import overlay
from pipeline.store.labels import stored_labels
from pipeline.store.store import Store
from pipeline.training.loop import train

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
#: Slices of the training volume that are held back: through liver and spleen, through the pelvis.
HELD_BACK = (slice(24, 32), slice(82, 90))
#: What else teaches: a dissected aorta, labelled alone, and the lungs of these by threshold.
AORTA = "aorta/ct_cropped.nii.gz"
CHESTS = (
    "chest-ge-lidc0050",
    "chest-philips-lungx-ct004",
    "chest-philips-lungpetctdx-a0001-b",
    "chest-siemens-lungpetctdx-a0002-b40f",
)
#: The label map's value, and name, of what training must not see.
UNKNOWN, UNKNOWN_NAME = 255, "held back"
#: Organs that the other patient's slab shows, and those of the held-back slabs.
OTHER_PATIENT = ("liver", "spleen", "bone", "back_muscles", "aorta")
SAME_PATIENT = ("liver", "spleen", "bone", "gluteal_muscles", "back_muscles", "urinary_bladder")
SOFT_TISSUE = Window(40, 400)
#: (patient, slice) that segment.png shows: found only, as a picture.
SHOWN = (("train", 28), ("train", 86), ("other", 10), ("chest", 26))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data")
    parser.add_argument("--work", type=Path, default=Path("out/segment"))
    parser.add_argument("--set", dest="settings", action="append", default=[])
    arguments = parser.parse_args()
    config = load_config(ROOT / "configs" / "segment_organs.yaml", arguments.settings)
    settings = config.grid
    blind = settings.model_copy(update={"ignored": (UNKNOWN_NAME,)})
    config = config.model_copy(update={"segmentation": blind})
    store, keys = ingested(arguments.data, arguments.work / "store")
    degrade_store(store, {keys["train"]: 1, keys["other"]: 1}, config)
    model, training = trained(store, keys, config, arguments.work)
    volumes = {name: store.load(keys[name]) for name in ("train", "other", "chest")}
    volumes["low"] = low_dose_volume(store, keys["other"], config)
    loaded = load_pretrained("redcnn")
    denoiser, card = loaded.model, loaded.card
    denoised_hu = apply_model(denoiser, volumes["low"].image_hu)
    volumes["denoised"] = replace(volumes["low"], image_hu=denoised_hu)
    found = {name: segment(model, volume, settings) for name, volume in volumes.items()}
    results = {
        "training": training,
        "machine": machine.facts("auto"),
        "denoiser": card.uri,
        "figures": figures(store, keys, volumes, found, settings),
    }
    write(results, volumes, found)


def ingested(data: Path, folder: Path) -> tuple[Store, dict[str, str]]:
    """The store, with label maps, and the keys of the patients' series by name."""
    store = Store(folder)

    def stored(source: Path) -> str:
        intake = IngestOptions(unidentified="folder")
        return ingest(source, store, key=installation_key(), intake=intake).series[0].series

    stored(data)  # all at once, since label files lie in other folders than their images
    places = {
        "train": "volumes/totalseg-ct.nii.gz",
        "other": "ct/torso-siemens",
        "chest": "ct/chest-ge-lidc0001",
        AORTA: f"volumes/{AORTA}",
        **{name: f"train/series/{name}" for name in CHESTS},
    }
    return store, {name: stored(data / place) for name, place in places.items()}


def trained(
    store: Store, keys: dict[str, str], config: RunConfig, work: Path
) -> tuple[ModelAdapter, dict[str, float]]:
    """The project's loop over patches of one volume, the slabs not known, and of those that are
    labelled for one class."""
    length = config.train.iterations * config.train.batch * config.train.accumulate
    volumes = training_volumes(store, keys, config)
    dataset = LabelPatches(volumes, config.grid, seed=config.train.seed, length=length)
    wall, cpu = time.perf_counter(), time.process_time()
    model = train(config, dataset, folder=work, log=log, data_digest=digest(keys))
    return model, {
        "iterations": config.train.iterations,
        "parameters": sum(weights.numel() for weights in model.parameters()),
        "wall_minutes": (time.perf_counter() - wall) / 60,
        "cpu_minutes": (time.process_time() - cpu) / 60,
    }


def training_volumes(store: Store, keys: dict[str, str], config: RunConfig) -> list[Labelled]:
    """The torso without its slabs, with noise of the low dose; the aorta; the lungs."""
    settings, whole = config.grid, store.load_labels(keys["train"], "mask")
    labels = np.array(whole.labels)
    for block in HELD_BACK:
        labels[block] = UNKNOWN
    names = settings.named(whole).names
    known = LabelMap(labels, {**names, UNKNOWN: UNKNOWN_NAME}, whole.source)
    noise = degradation_digest(config, 0)
    maps = {"train": known, AORTA: store.load_labels(keys[AORTA], "mask")}
    maps |= {name: stored_labels(store, keys[name], "lungs") for name in CHESTS}
    volumes = []
    for name, labelmap in maps.items():
        degraded = noise if name == "train" else None
        cache_working(store, keys[name], labelmap, settings, degraded=degraded)
        volumes.append(load_working(store, keys[name], labelmap, settings, degraded=degraded))
    return volumes


def log(metrics: dict[str, float], iteration: int) -> None:
    if iteration % 100 == 0:
        shown = {name: round(value, 4) for name, value in metrics.items()}
        print(iteration, shown, flush=True)


def figures(
    store: Store,
    keys: dict[str, str],
    volumes: dict[str, Volume],
    found: dict[str, np.ndarray],
    settings: Segmentation,
) -> dict[str, Any]:
    """Figures by test and class."""
    whole = settings.classes_of(stored_labels(store, keys["train"], "mask"))
    other = settings.classes_of(stored_labels(store, keys["other"], "mask"))
    held = np.zeros(whole.shape, dtype=bool)
    for block in HELD_BACK:
        held[block] = True

    def of(name: str, truth: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
        seen = np.where(held, found[name], 0) if name == "train" else found[name]
        measured = class_figures(seen, truth, settings, volumes[name].spacing_mm)
        return {each: measured[each] for each in classes}

    chest = volumes["chest"]
    number = list(settings.classes).index("lungs") + 1
    reference = stored_labels(store, keys["chest"], "lungs").labels > 0
    return {
        "held-back slabs": of("train", np.where(held, whole, 0), SAME_PATIENT),
        "other patient": of("other", other, OTHER_PATIENT),
        "other patient, low dose": of("low", other, OTHER_PATIENT),
        "other patient, low dose, denoised": of("denoised", other, OTHER_PATIENT),
        "third patient": {
            "lungs": structure_figures(
                found["chest"] == number, reference, spacing_mm=chest.spacing_mm
            )
        },
    }


def write(
    results: dict[str, Any], volumes: dict[str, Volume], found: dict[str, np.ndarray]
) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "segment.json").write_text(json.dumps(results, indent=1) + "\n")
    lines = [machine.described(results["machine"]), ""]
    lines += ["| test | class | Dice | surface Dice, 3 mm | HD95, mm |", "|---|---|---|---|---|"]
    for test, classes in results["figures"].items():
        rows = [
            (name, row["dice"], row["surface_dice"], row["hd95_mm"])
            for name, row in classes.items()
        ]
        mean = ("mean", *(float(np.mean([row[n] for row in rows])) for n in (1, 2, 3)))
        for name, dice, surface, distance in [*rows, mean]:
            lines.append(f"| {test} | {name} | {dice:.3f} | {surface:.3f} | {distance:.1f} |")
    training = results["training"]
    lines.append(
        f"\n{training['iterations']} iterations, {training['parameters']:,} parameters, "
        f"{training['wall_minutes']:.1f} min ({training['cpu_minutes']:.1f} CPU minutes)."
    )
    (RESULTS / "segment.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    Image.fromarray(np.concatenate([picture(volumes, found, *place) for place in SHOWN], 1)).save(
        RESULTS / "segment.png"
    )


def picture(
    volumes: dict[str, Volume], found: dict[str, np.ndarray], name: str, number: int
) -> np.ndarray:
    shown = overlay(np.array(volumes[name].image_hu[number]), found[name][number], SOFT_TISSUE)
    return np.array(Image.fromarray(shown).resize((480, 480)))


if __name__ == "__main__":
    keep_freed_memory()
    main()
