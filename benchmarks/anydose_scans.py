"""The scans that benchmarks/anydose.py measures on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config.load import load_config
from pipeline.core.volume import Volume
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.ingest.ingest import ingest
from pipeline.physics.image_noise import FlatTissue, evenly_spread
from pipeline.store.published_splits import TEST, VALIDATION
from pipeline.store.splits import patients_of_vendors, split_patients
from pipeline.store.store import Store

ROOT = Path(__file__).parents[1]
#: The training's split hangs on it; the data are public, and so is the key.
KEY = b"k" * 32
#: Series of data/ct, on which nothing of this model was trained or tuned.
OTHERS = ("chest-ge-lidc0001", "abdomen-ge-crlm1004", "abdomen-ge-crlm1006", "torso-siemens")
SLICES = 4
#: Noise finer than this (image_noise.ImageNoise.fineness) counts as a sharp kernel's: Siemens B60
#: and B70, GE BONE and Philips L lie above, smooth ones below but for some thin slices.
SHARP = 1.2

Images = NDArray[np.float32]
Denoise = Callable[[Images, float], Images]


@dataclass(frozen=True)
class Scan:
    """Some slices of a series: a name without identity, its patient's pseudonym, its vendor, and
    whether it was seen."""

    name: str
    patient: str
    vendor: str
    kernel: str
    side: str
    volume: Volume

    @cached_property
    def is_sharp(self) -> bool:
        """By the noise itself, as vendors name kernels as they like."""
        tissue = FlatTissue.of(self.volume)
        noise = tissue.noise([self.volume.image_hu[n] for n in tissue.slices])
        return noise is not None and noise.fineness > SHARP

    @property
    def label(self) -> str:
        thickness = self.volume.provenance.get("SliceThickness")
        return f"{self.vendor} {self.kernel} {float(thickness or 0):g} mm"


def held_scans(data: Path, work: Path) -> list[Scan]:
    """The validation and test sides of the training's data, and the others."""
    store = ingested(data / "train", work / "train")
    found = [
        scan_of(store, key, side)
        for key, side in sides_of(store).items()
        if side in (TEST, VALIDATION)
    ]
    for name in OTHERS:
        other = ingested(data / "ct" / name, work / name)
        found += [scan_of(other, key, "other data") for key in other.records()]
    return found


def sides_of(store: Store) -> dict[str, str]:
    """On which side of the training's split each series of its data is."""
    split = load_config(ROOT / "configs" / "denoise_any_dose.yaml").data.split
    records = store.records()
    sides = split_patients(
        sorted({record.patient for record in records.values()}),
        split,
        key=KEY,
        recorded={},
        of_test_vendors=patients_of_vendors(records.values(), split.test_vendors),
    )
    return {key: sides[record.patient] for key, record in records.items()}


def ingested(folder: Path, work: Path) -> Store:
    store = Store(work)
    if not store.records():
        # One of the series says neither its study nor itself.
        ingest(folder, store, key=KEY, intake=IngestOptions(unidentified="folder"))
    return store


def scan_of(store: Store, key: str, side: str) -> Scan:
    """A stored series, of which SLICES slices away from its ends are kept."""
    volume = store.load(key)
    count = len(volume.image_hu)
    rim = min(3, (count - 1) // 2)
    kept = [rim + n for n in evenly_spread(count - 2 * rim, SLICES)]
    volume = dataclasses.replace(
        volume,
        image_hu=np.array(volume.image_hu[kept], np.float32),
        valid=np.array(volume.valid[kept]),
        slice_origins_mm=volume.slice_origins_mm[kept],
    )
    header = volume.provenance
    vendor = str(header.get("Manufacturer") or "unknown").split()[0].title().replace("Ge", "GE")
    kernel = header.get("ConvolutionKernel") or "kernel unknown"
    name = kernel if isinstance(kernel, str) else kernel[0]
    return Scan(key, store.records()[key].patient, vendor, name.split(".")[-1], side, volume)
