"""Holes filled by latent search, plain and sped up: `python benchmarks/latent_search.py`.

A VAE is trained through the project's loop, of digits (configs/vae_digits.yaml at 16 x 16,
unconditional) or, with `--kind ct`, of slices of DATA/ct (configs/vae_ct.yaml at 64 x 64), and
codes are searched for images that it has not seen. Plain search is a thousand moves from a random
code, image by image (Yeh et al. 2017). Against it, at an equal mean loss (within EQUAL): plain
search of as few moves as that takes, the best of a pool as the start, the VAE's own encoder as
the start, and for a sequence the neighbour's code with consistency in groups (Lahiri et al. 2019),
and all frames as one group. How many moves each needs for that loss is found on training images
first. Seconds are of the processor, not of the clock.
Writes results/latent_search_KIND.json, .md and .png.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from latent_search_kinds import KINDS, Kind
from latent_search_views import band, picture, table
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.config.load import load_config
from pipeline.config.run import RunConfig
from pipeline.core.malloc import keep_freed_memory
from pipeline.core.pseudonyms import installation_key
from pipeline.data.images import StoredSlices
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.generative.latent_search import (
    Holes,
    Search,
    SearchResult,
    best_of_pool,
    find_codes,
    find_sequence,
    random_start,
)
from pipeline.ingest.ingest import ingest
from pipeline.metrics.image import flicker
from pipeline.models.adapters.base import HUModel
from pipeline.store.store import Store
from pipeline.tasks.base import task_of
from pipeline.training.loop import train

ROOT, RESULTS = Path(__file__).parents[1], Path(__file__).parent / "results"
TRAINING = ("chest-ge-lidc0001", "abdomen-ge-crlm1004", "torso-siemens")
TEST = "abdomen-ge-crlm1006"
#: The moves of a plain search.
PLAIN = Search(iterations=1000)
POOL, FRAMES, GROUP = 256, 24, 8
#: A mean loss counts as equal up to so many times that of plain search.
EQUAL = 1.02
#: Frames that are enough to find out how many moves a way needs.
TUNING_FRAMES = 9
#: Numbers of moves that a faster search is tried with, fewest first.
TRIED = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
#: A faster way takes images with holes and a number of moves.
Way = Callable[[Holes, int], SearchResult]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=list(KINDS), default="digits")
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data")
    parser.add_argument("--work", type=Path, default=Path("out/latent_search"))
    arguments = parser.parse_args()
    kind = KINDS[arguments.kind]
    config = load_config(ROOT / "configs" / f"{kind.config}.yaml", list(kind.settings))
    store = Store(arguments.work / arguments.kind)
    learnt, held_back = sides_of(store, config, arguments.data)
    model = trained(store, learnt, config, arguments.work)
    size = config.generation.image_size if config.generation else None
    training, test = (StoredSlices(store, keys, size) for keys in (learnt, held_back))
    seen, unseen = (
        np.stack([images[n] for n in chosen])
        for images, chosen in ((training, kind.tuning), (test, kind.test))
    )
    results: dict[str, Any] = {"machine": machine.facts(), "pool": POOL, "equal": EQUAL}
    results["images"], shown = compared(model, seen, unseen, WAYS, kind)
    moving = moving_picture(seen[1])[:TUNING_FRAMES], moving_picture(unseen[3])
    results["sequence"], frames = compared(model, *moving, SEQUENCE_WAYS, kind)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"latent_search_{arguments.kind}"
    path.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    path.with_suffix(".md").write_text(table(results))
    rows = (
        band(unseen, shown, kind.hole, kind.shown),
        band(moving[1], frames, kind.hole, kind.shown),
    )
    picture(rows).save(path.with_suffix(".png"))
    print(table(results))


def sides_of(store: Store, config: RunConfig, data: Path) -> tuple[list[str], list[str]]:
    """Keys of what the generator learns from, and of what it never sees."""
    if config.name == "vae_digits":
        report = task_of(config).ingest(None, store, config, key=installation_key())
        keys = [row.series for row in report.series]
        held_back = config.data.split.test
        assert isinstance(held_back, list)
        return [key for key in keys if key not in held_back], held_back
    return [ingested(data / "ct" / name, store) for name in TRAINING], [
        ingested(data / "ct" / TEST, store)
    ]


def ingested(folder: Path, store: Store) -> str:
    report = ingest(
        folder, store, key=installation_key(), intake=IngestOptions(unidentified="folder")
    )
    return report.series[0].series


def trained(store: Store, keys: list[str], config: RunConfig, work: Path) -> HUModel:
    """The generator, by the one loop."""
    length = config.train.iterations * config.train.batch
    data = task_of(config).training_data(store, keys, config, length)
    digest = store.data_digest(keys)
    model = train(config, data, folder=work, log=lambda *logged: None, data_digest=digest)
    assert isinstance(model, HUModel)
    return model


def moving_picture(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """[FRAMES, rows, columns]: one image, turned to and fro by 8 degrees about its middle."""
    middle = (np.array(image.shape) - 1) / 2
    frames = []
    for angle in np.radians(8) * np.sin(np.linspace(0, 2 * np.pi, FRAMES, endpoint=False)):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        offset = middle - turn @ middle
        frames.append(ndimage.affine_transform(image, turn, offset, order=1, mode="nearest"))
    return np.stack(frames)


def holes_of(model: HUModel, pictures: NDArray[np.float32], kind: Kind) -> Holes:
    images = torch.from_numpy(pictures)[:, None]
    known = torch.ones_like(images, dtype=torch.bool)
    known[..., kind.hole[0], kind.hole[1]] = False
    return Holes(model, images, known)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def encoded(holes: Holes) -> torch.Tensor:
    """What the generator's own encoder says of images whose holes have their surroundings' mean."""
    count = holes.known.sum(dim=(2, 3), keepdim=True)
    mean = (holes.target * holes.known).sum(dim=(2, 3), keepdim=True) / count
    network: Any = holes.network
    with torch.no_grad():
        return network.encode(torch.where(holes.known, holes.target, mean)).mean


def one_by_one(holes: Holes, start: torch.Tensor, search: Search) -> SearchResult:
    """As plain search goes: every image by itself."""
    found = [
        find_codes(holes.part(slice(n, n + 1)), start[n : n + 1], search) for n in range(len(start))
    ]
    codes = torch.cat([one.codes for one in found])
    losses = torch.cat([one.losses for one in found])
    return SearchResult(codes, losses, search.iterations, sum(one.seconds for one in found))


def from_pool(holes: Holes, moves: int) -> SearchResult:
    start = best_of_pool(holes, POOL, seeded())
    return one_by_one(holes, start, replace(PLAIN, iterations=moves))


def from_encoder(holes: Holes, moves: int) -> SearchResult:
    return one_by_one(holes, encoded(holes), replace(PLAIN, iterations=moves))


def all_at_once(holes: Holes, moves: int) -> SearchResult:
    """From the encoder, all images in one batch."""
    return find_codes(holes, encoded(holes), replace(PLAIN, iterations=moves))


def followed(holes: Holes, moves: int) -> SearchResult:
    """Published: the first frame from a pool, then groups that begin at their neighbour's code."""
    first = best_of_pool(holes.part(slice(0, 1)), POOL, seeded())
    follow = replace(PLAIN, iterations=moves, consistency=0.1)
    return find_sequence(holes, first, replace(PLAIN, iterations=128), follow=follow, group=GROUP)


def at_once(holes: Holes, moves: int) -> SearchResult:
    """All frames one consistent group, from the encoder's codes, smoothed along time."""
    start = torch.from_numpy(ndimage.gaussian_filter1d(encoded(holes).numpy(), 1.0, axis=0))
    return find_codes(holes, start, replace(PLAIN, iterations=moves, consistency=0.1))


WAYS: dict[str, Way] = {
    "best of a pool": from_pool,
    "encoder": from_encoder,
    "encoder, batched": all_at_once,
}
SEQUENCE_WAYS: dict[str, Way] = {
    "neighbour's code, groups": followed,
    "encoder, one group": at_once,
}


def compared(
    model: HUModel,
    tuning: NDArray[np.float32],
    test: NDArray[np.float32],
    ways: dict[str, Way],
    kind: Kind,
) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """Figures of plain search and of each way, and the images that they drew."""
    seen, holes = holes_of(model, tuning, kind), holes_of(model, test, kind)
    wanted = mean_loss(seen, plain(seen, PLAIN.iterations).codes)
    print(f"plain search of training images: loss {wanted:.4f}", flush=True)
    rows, drawn = {}, {}
    for name, way in {"plain": plain, "plain, fewer moves": plain, **ways}.items():
        moves = PLAIN.iterations if name == "plain" else fewest(way, seen, EQUAL * wanted)
        began = time.process_time()
        found = way(holes, moves)
        seconds = time.process_time() - began
        with torch.no_grad():
            drawn[name] = model.in_hu(holes.drawn(found.codes))[:, 0].numpy()
        rows[name] = {
            "moves": moves,
            "cpu_seconds": seconds,
            "times_faster": 1.0 if name == "plain" else rows["plain"]["cpu_seconds"] / seconds,
            "loss": mean_loss(holes, found.codes),
            "hole_rmse": hole_rmse(drawn[name], test, kind),
            "flicker": flicker_in_hole(drawn[name], test, kind),
        }
        print(name, rows[name], flush=True)
    return rows, drawn


def plain(holes: Holes, moves: int) -> SearchResult:
    return one_by_one(holes, random_start(holes, seeded()), replace(PLAIN, iterations=moves))


def fewest(way: Way, holes: Holes, wanted: float) -> int:
    """The least number of moves that reaches the loss on training images."""
    for moves in TRIED:
        if mean_loss(holes, way(holes, moves).codes) <= wanted:
            return moves
    return TRIED[-1]


def mean_loss(holes: Holes, codes: torch.Tensor) -> float:
    with torch.no_grad():
        return float(holes.losses(codes, PLAIN).mean())


def hole_rmse(drawn: NDArray[np.float32], truth: NDArray[np.float32], kind: Kind) -> float:
    differences = (drawn - truth)[:, kind.hole[0], kind.hole[1]]
    return float(np.sqrt(np.square(differences).mean()))


def flicker_in_hole(
    drawn: NDArray[np.float32], truth: NDArray[np.float32], kind: Kind
) -> float | None:
    """Of a sequence; None for images of their own."""
    inside = np.zeros(truth[1:].shape, dtype=bool)
    inside[:, kind.hole[0], kind.hole[1]] = True
    still = (np.abs(np.diff(truth, axis=0)) < kind.still) & inside
    return flicker(drawn, still) if still.sum() > inside.sum() / 4 else None


if __name__ == "__main__":
    keep_freed_memory()
    main()
