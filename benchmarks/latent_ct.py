"""A VAE of CT slices at 128 x 128 beside PCA: `python benchmarks/latent_ct.py --data DATA`.

Trains on three patients, tests on every slice of abdomen-ge-crlm1006, and gives PCA as many
components as the VAE has numbers per image: fitted to the slices themselves, and to 3000 of the
turned and zoomed ones that the VAE sees too. Writes benchmarks/results/latent_ct.json and pictures
beside it. Goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from latent_training import fit, parser, timed
from numpy.typing import NDArray

from pipeline.config.generation import Jitter
from pipeline.config.sections import Normalize
from pipeline.core.malloc import keep_freed_memory
from pipeline.core.pseudonyms import installation_key
from pipeline.core.units import SOFT_TISSUE, Window
from pipeline.data.images import (
    WITH_LUNGS,
    WITHOUT_LUNGS,
    ImageItems,
    StoredSlices,
    jitter,
    lung_labels,
)
from pipeline.evaluation.latent import lower_bound, pca_reconstruction, reconstruction_figures
from pipeline.generative import latent
from pipeline.generative.latent_images import RECONSTRUCTED
from pipeline.ingest.ingest import ingest
from pipeline.models.adapters.base import HUModel
from pipeline.models.vae import VAE, ConvVAE, SpatialVAE
from pipeline.report.marked_images import save_grid
from pipeline.store.store import Store

ROOT = Path(__file__).parents[1]
SHOWN = Window(-250, 1500)
WIDE = Window(0, 2000)
TRAINING = ("chest-ge-lidc0001", "abdomen-ge-crlm1004", "head-ge-tilted")
TEST = "abdomen-ge-crlm1006"
SIZE = (128, 128)
CT = Normalize(centre=-500, scale=500)


def main() -> None:
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data")
    options.add_argument("--networks", nargs="+", choices=list(CT_NETWORKS), default=["conv"])
    arguments = options.parse_args()
    timed("latent_ct", lambda: ct_part(arguments), arguments)


def ct_part(arguments: argparse.Namespace) -> dict[str, Any]:
    store = Store(arguments.work / "store")
    keys = {
        name: ingest(arguments.data / "ct" / name, store, key=installation_key()).series[0].series
        for name in (*TRAINING, TEST)
    }
    training = StoredSlices(store, [keys[name] for name in TRAINING], SIZE)
    test = StoredSlices(store, [keys[TEST]], SIZE)
    results: dict[str, Any] = {"latents": {}, "pca": {}}
    target = np.stack([test[number] for number in range(len(test))])
    models = {name: ct_model(name, training, arguments) for name in arguments.networks}
    for name, model in models.items():
        results["latents"][name] = ct_figures(model, target, lung_labels(test))
    components = sorted({row["numbers_per_image"] for row in results["latents"].values()})
    for count in components:
        results["pca"][str(count)] = pca_figures(training, target, count)
    ways = {
        "from the prior": drawn_from_prior(models["conv"], 100),
        "like the training slices": drawn_like(models["conv"], training, 100),
    }
    results["lungs"] = {name: lungs_as_asked(drawn) for name, drawn in ways.items()}
    draw_ct(models, target, lung_labels(test), arguments)
    for name, drawn in ways.items():
        draw_samples(name, drawn, arguments.results)
    return results


CT_NETWORKS: dict[str, Callable[[], VAE]] = {
    "conv": lambda: ConvVAE(SIZE, 64, channels=(16, 32, 64, 64), labels=2, sigma=0.3),
    "spatial": lambda: SpatialVAE(SIZE, 2, channels=(8, 16, 32, 32, 32), sigma=0.1),
}


def ct_items(training: StoredSlices, length: int) -> ImageItems:
    turned = jitter(Jitter(turn_degrees=8.6, zoom=0.15, shift_pixels=10, mirror=True))
    return ImageItems(training, lung_labels(training), seed=0, length=length, augment=turned)


def ct_model(name: str, training: StoredSlices, arguments: argparse.Namespace) -> HUModel:
    return fit(
        f"ct {name}",
        CT_NETWORKS[name],
        lambda length: ct_items(training, length),
        normalize=CT,
        arguments=arguments,
        train={"iterations": 2500, "batch": 8, "lr": 2e-3, "warmup": 20},
        warmup=300,
    )


def given_labels(model: HUModel, labels: NDArray[np.int64]) -> torch.Tensor | None:
    return torch.from_numpy(labels) if model.network.labels else None


def ct_figures(
    model: HUModel, target: NDArray[np.float32], lungs: NDArray[np.int64]
) -> dict[str, Any]:
    images, labels = torch.from_numpy(target)[:, None], given_labels(model, lungs)
    output = latent.reconstruct(model, images, labels)[:, 0].numpy()
    bound = lower_bound(model, images, torch.Generator().manual_seed(0), labels=labels)
    return {
        "numbers_per_image": int(np.prod(model.network.latent_shape)),
        "parameters": sum(p.numel() for p in model.parameters()),
        "active_latents": latent.latent_use(model, images, labels).active(),
        **bound.to_dict(),
        **in_windows(output, target),
    }


def in_windows(output: NDArray[np.float32], target: NDArray[np.float32]) -> dict[str, Any]:
    windows = {"-1000 to 1000 HU": WIDE, "soft tissue 40/400": SOFT_TISSUE}
    return {
        name: reconstruction_figures(output, target, window).to_dict()
        for name, window in windows.items()
    }


def pca_figures(
    training: StoredSlices, target: NDArray[np.float32], components: int
) -> dict[str, Any]:
    """PCA of the slices themselves, and of as many jittered ones as it can use."""
    plain = np.stack([training[number] for number in range(len(training))])
    items = ct_items(training, 3000)
    jittered = np.stack([items[number]["target"][0].numpy() for number in range(len(items))])
    results = {
        "jittered slices": in_windows(pca_reconstruction(jittered, target, components), target)
    }
    if components <= len(plain):
        results["slices"] = in_windows(pca_reconstruction(plain, target, components), target)
    return results


def drawn_like(model: HUModel, training: StoredSlices, count: int) -> dict[int, NDArray]:
    """Samples for each label: from where the codes of turned and zoomed training slices lie."""
    items = ct_items(training, 1000)
    seen = [items[number] for number in range(len(items))]
    labels = torch.tensor([int(item["label"]) for item in seen])
    codes = latent.encode(model, torch.stack([item["target"] for item in seen]), labels)
    drawn = {}
    for label in (WITH_LUNGS, WITHOUT_LUNGS):
        like = latent.codes_like(codes[labels == label], count, components=1, seed=0)
        drawn[label] = latent.decode(model, like, torch.full((count,), label))[:, 0].numpy()
    return drawn


def drawn_from_prior(model: HUModel, count: int) -> dict[int, NDArray]:
    generator = torch.Generator().manual_seed(0)
    return {
        label: latent.sample(model, count, generator, torch.full((count,), label))[:, 0].numpy()
        for label in (WITH_LUNGS, WITHOUT_LUNGS)
    }


def lungs_as_asked(drawn: dict[int, NDArray]) -> dict[str, float]:
    """The share of samples that show lungs where they were asked for, and where they were not."""
    names = {WITH_LUNGS: "asked for", WITHOUT_LUNGS: "not asked for"}
    return {
        name: float(np.mean(lung_labels(drawn[label]) == WITH_LUNGS))
        for label, name in names.items()
    }


def draw_ct(
    models: dict[str, HUModel],
    target: NDArray[np.float32],
    lungs: NDArray[np.int64],
    arguments: argparse.Namespace,
) -> None:
    chosen = np.linspace(0, len(target) - 1, 8).astype(int)
    shown = torch.from_numpy(target[chosen])[:, None]
    rows = [shown] + [
        latent.reconstruct(model, shown, given_labels(model, lungs[chosen]))
        for model in models.values()
    ]
    save_grid(
        torch.cat(rows)[:, 0].numpy(),
        arguments.results / "latent_ct_reconstructions.png",
        window=SHOWN,
        columns=8,
        caption=f"Top: held-out patient. Below, reconstructed by: {', '.join(models)}.",
        marking=RECONSTRUCTED,
    )


def draw_samples(name: str, drawn: dict[int, NDArray], folder: Path) -> None:
    save_grid(
        np.concatenate([drawn[label][:16] for label in (WITH_LUNGS, WITHOUT_LUNGS)]),
        folder / f"latent_ct_samples_{name.replace(' ', '_')}.png",
        window=SHOWN,
        columns=8,
        caption=f"Conditional VAE, {name}: two rows asked to show lungs, two not to.",
    )


if __name__ == "__main__":
    keep_freed_memory()
    main()
