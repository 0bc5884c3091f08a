"""Regions of CT made up by latent search, against the classical ways: `python
benchmarks/latent_fill.py`.

Of the patient that the generator of latent_search.py --kind ct has not seen, known pixels are
hidden at full resolution: what lies beyond a smaller field of view (truncation), a disc as large
as a hip stem (metal, without its streaks), and slices. What `ldct latent fill` makes of them
(pipeline.generative.fill) is compared with what was there, in HU, and so are the harmonic surface
(Laplace's equation, the reference for any hole), the biharmonic one (Damelin & Hoang 2018, of the
disc: the ring is too large for it), air, and linear interpolation between the slices beside a gap.
Writes results/latent_fill.json, .md and .png.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import numpy as np
from latent_search import RESULTS, ROOT, sides_of, trained
from latent_search_kinds import KINDS
from numpy.typing import NDArray
from PIL import Image
from skimage.restoration import inpaint_biharmonic

from pipeline.config.load import load_config
from pipeline.core.malloc import keep_freed_memory
from pipeline.core.units import AIR_HU, Window
from pipeline.core.volume import Volume
from pipeline.generative.fill import Fill, filled, filled_gaps
from pipeline.generative.latent_search import poisson_blended
from pipeline.ingest.regrid import fill_gaps
from pipeline.metrics.image import windowed
from pipeline.models.adapters.generative import Generative
from pipeline.store.store import Store

Stack = NDArray[np.float32]
Region = NDArray[np.bool_]
#: Slices that holes are made in, one after the other.
SLICES = slice(12, 36)
#: The smaller field of view, and the disc with its place, as shares of the matrix.
VIEW_RADIUS = 0.33
DISC_RADIUS, DISC_PLACE = 0.03, (0.5, 0.36)
#: What is denser is body: in air every way is right.
BODY_HU = -500.0
#: How many slices in a row are taken away.
GAPS = (1, 2, 4)
SHOWN = (0, 8, 16)
WINDOW = Window(-100, 1400)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data")
    parser.add_argument("--work", type=Path, default=Path("out/latent_search"))
    arguments = parser.parse_args()
    config = load_config(ROOT / "configs" / "vae_ct.yaml", list(KINDS["ct"].settings))
    store = Store(arguments.work / "ct")
    learnt, held_back = sides_of(store, config, arguments.data)
    model = trained(store, learnt, config, arguments.work)
    assert isinstance(model, Generative)
    volume = store.load(held_back[0])
    fill = Fill(clip=config.generation.clip)
    results: dict[str, Any] = {"machine": machine.facts("auto"), "search": fill.facts()}
    bands = []
    for name, (region, ways) in holes(volume, model, fill).items():
        results[name], band = compared(np.asarray(volume.image_hu[SLICES]), region, ways)
        bands.append(band)
    results["missing slices"] = {str(n): missing(volume, model, fill, n) for n in GAPS}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "latent_fill"
    path.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    path.with_suffix(".md").write_text(table(results))
    Image.fromarray(np.concatenate(bands, axis=1)).save(path.with_suffix(".png"))
    print(table(results))


Ways = dict[str, Callable[[Stack, Region], Stack]]


def holes(volume: Volume, model: Generative, fill: Fill) -> dict[str, tuple[Region, Ways]]:
    """By name: what is hidden, and the ways to fill it."""
    valid = np.asarray(volume.valid[SLICES])
    _, rows, columns = valid.shape
    row, column = np.indices((rows, columns)) / rows
    ring = np.hypot(row - 0.5, column - 0.5) > VIEW_RADIUS
    disc = np.hypot(row - DISC_PLACE[0], column - DISC_PLACE[1]) < DISC_RADIUS

    def searched(images: Stack, region: Region) -> Stack:
        return filled(model, images, region, fill, sequence=True).images

    ways: Ways = {"latent search": searched, "harmonic": each(harmonic)}
    return {
        "truncation": (valid & ring, ways | {"air": air}),
        "metal": (np.broadcast_to(disc, valid.shape), ways | {"biharmonic": each(biharmonic)}),
    }


def each(way: Callable[[Stack, Region], Stack]) -> Callable[[Stack, Region], Stack]:
    def slices(images: Stack, region: Region) -> Stack:
        return np.stack([way(*pair) for pair in zip(images, region, strict=True)])

    return slices


def harmonic(image: Stack, region: Region) -> Stack:
    """Nothing drawn: what is known at the rim spreads as heat would."""
    return poisson_blended(np.zeros_like(image), image, ~region)


def biharmonic(image: Stack, region: Region) -> Stack:
    # The library wants a mask that it could write to.
    return inpaint_biharmonic(np.where(region, 0, image), region.copy()).astype(np.float32)


def air(images: Stack, region: Region) -> Stack:
    return np.where(region, np.float32(AIR_HU), images)


def compared(truth: Stack, region: Region, ways: Ways) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """Figures of each way in the region, and rows of pictures: known, each way, truth."""
    holed = air(truth, region)
    body = region & (truth > BODY_HU)
    rows, shown = {}, [holed]
    for name, way in ways.items():
        began = time.process_time()
        made = way(holed, region)
        seconds = (time.process_time() - began) / len(truth)
        assert np.array_equal(made[~region], truth[~region])
        rows[name] = {
            "rmse_hu": rmse(made - truth, region),
            "rmse_in_body_hu": rmse(made - truth, body),
            "cpu_seconds_a_slice": seconds,
        }
        shown.append(made)
        print(name, rows[name], flush=True)
    return rows, band([*shown[:3], truth])


def missing(volume: Volume, model: Generative, fill: Fill, count: int) -> dict[str, Any]:
    """`count` slices in a row taken away and made up, at four places of the volume."""
    total = len(volume.image_hu)
    places = np.linspace(2, total - count - 3, 4).astype(int)
    differences: dict[str, list[Stack]] = {"latent search": [], "linear": []}
    for first in places.tolist():
        gone = np.arange(first, first + count)
        kept = np.setdiff1d(np.arange(max(0, first - 2), min(total, first + count + 2)), gone)
        part = Volume(
            image_hu=np.asarray(volume.image_hu[kept]),
            valid=np.asarray(volume.valid[kept]),
            affine_lps=volume.affine_lps,
            slice_origins_mm=volume.slice_origins_mm[kept],
        )
        truth = np.asarray(volume.image_hu[gone])
        whole, made, _ = filled_gaps(model, part, fill)
        inside = np.asarray(volume.valid[gone])
        differences["latent search"].append((whole.image_hu[made] - truth)[inside])
        differences["linear"].append((fill_gaps(part).image_hu[made] - truth)[inside])
    rows = {}
    for name, errors in differences.items():
        every = np.concatenate(errors)
        rows[name] = {"rmse_hu": rmse(every, np.ones(every.shape, dtype=bool))}
    print("missing", count, rows, flush=True)
    return rows


def rmse(differences: Stack, region: Region) -> float:
    return float(np.sqrt(np.square(differences[region].astype(np.float64)).mean()))


def band(rows: list[Stack]) -> NDArray[np.uint8]:
    chosen = [np.concatenate([row[n][::2, ::2] for n in SHOWN], axis=1) for row in rows]
    levels = windowed(np.concatenate(chosen), WINDOW) * (255 / WINDOW.width)
    return np.rint(levels).astype(np.uint8)


def table(results: dict[str, Any]) -> str:
    lines = [machine.described(results["machine"]), ""]
    lines += ["| region | way | RMSE, HU | in the body | CPU s a slice |", "|---|---|---|---|---|"]
    for region in ("truncation", "metal"):
        for way, row in results[region].items():
            lines.append(
                f"| {region} | {way} | {row['rmse_hu']:.0f} | {row['rmse_in_body_hu']:.0f} | "
                f"{row['cpu_seconds_a_slice']:.2f} |"
            )
    for count, ways in results["missing slices"].items():
        for way, row in ways.items():
            lines.append(f"| slices missing in a row: {count} | {way} | {row['rmse_hu']:.1f} | | |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    keep_freed_memory()
    main()
