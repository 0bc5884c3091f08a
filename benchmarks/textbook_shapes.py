"""Shapes of known place, size and kind: whether a VAE gives each factor a latent of its own.

As dSprites (Matthey et al. 2017), drawn here; the gap in mutual information is of Chen et al.,
NeurIPS 2018, of images that the training has not seen.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from generative_training import fit
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch.utils.data import Dataset

from pipeline.config.sections import Normalize, Train
from pipeline.generative import latent
from pipeline.metrics.disentanglement import mutual_information_gap
from pipeline.models.adapters.base import HUModel
from pipeline.models.vae import DenseVAE
from pipeline.training.steps.variational import Variational

SIDE, LATENTS = 32, 6
FACTORS = ("kind", "size", "row", "column")
RADII, PLACES = (4.0, 5.5, 7.0), np.linspace(9, 22, 14)
#: Names and settings of the KL term: constant, growing at first, or falling for most of the time.
BETAS: dict[str, dict[str, float]] = {
    "beta 1": {"beta": 1},
    "beta 4": {"beta": 4},
    "beta 0 to 4": {"beta": 4, "warmup": 600},
    "beta 20 to 4": {"beta": 4, "beta_from": 20, "warmup": 6400},
}
ITERATIONS = 8000
SEEDS = (0, 1, 2)


def shape(kind: int, radius: float, row: float, column: float) -> NDArray[np.float32]:
    """A square, an ellipse or a triangle, 0 to 1, its rim smooth over a pixel."""
    rows, columns = np.indices((SIDE, SIDE)).astype(float)
    down, across = rows - row, columns - column
    if kind == 0:
        outside = np.maximum(np.abs(down), np.abs(across)) - 0.8 * radius
    elif kind == 1:
        outside = np.hypot(down, across / 0.6) - radius
    else:
        outside = np.maximum(down - 0.6 * radius, np.abs(across) * 0.9 - down * 0.5 - 0.5 * radius)
    return (0.5 - outside).clip(0, 1).astype(np.float32)


def all_shapes() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Every combination, and the number of each factor's value."""
    sizes = (3, len(RADII), len(PLACES), len(PLACES))
    numbers = np.array(list(product(*map(range, sizes))))
    images = [shape(k, RADII[s], PLACES[r], PLACES[c]) for k, s, r, c in numbers]
    return np.stack(images), numbers


class Shapes(Dataset):
    """Item i is one of the images, drawn by i alone, as input and as target."""

    def __init__(self, images: NDArray[np.float32], length: int) -> None:
        self.images, self.length = images, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        chosen = np.random.default_rng((0, item)).integers(len(self.images))
        image = torch.from_numpy(self.images[chosen])[None]
        return {"input": image, "target": image}


def shapes(work: Path, picture: Path) -> dict[str, Any]:
    """For each of BETAS the gap of each factor, its mean, and how many latents are active: means
    over the seeds, and the mean gap of each seed."""
    images, factors = all_shapes()
    order = np.random.default_rng(0).permutation(len(images))
    held_back, training = order[: len(order) // 5], order[len(order) // 5 :]
    seen = torch.from_numpy(images[held_back])[:, None]
    found, walks = {}, {}
    for name, terms in BETAS.items():
        folder = work / f"shapes-{name.replace(' ', '-')}"
        models = [_trained(images[training], terms, seed, folder) for seed in SEEDS]
        rows = [_figures(model, seen, factors[held_back]) for model in models]
        found[name] = {
            **{figure: float(np.mean([row[figure] for row in rows])) for figure in rows[0]},
            "mean_gap_of_each_seed": [row["mean_gap"] for row in rows],
        }
        walks[name] = _walk(models[0], seen)
    _draw(walks, found, picture)
    return found


def _trained(
    images: NDArray[np.float32], terms: dict[str, float], seed: int, folder: Path
) -> HUModel:
    settings = Train(
        iterations=ITERATIONS,
        batch=64,
        lr=1e-3,
        seed=seed,
        device="cpu",
        precision="fp32",
        channels_last=False,
        clip_gradient_norm=10.0,
        checkpoint_every=ITERATIONS,
    )
    model, _ = fit(
        lambda: DenseVAE((SIDE, SIDE), LATENTS, hidden=(256, 256), likelihood="bernoulli"),
        lambda model, train: Variational(model, train, **terms),
        Shapes(images, ITERATIONS * settings.batch),
        settings,
        Normalize(centre=0, scale=1),
        folder / f"seed-{seed}",
    )
    return model


def _figures(model: HUModel, images: torch.Tensor, factors: NDArray[np.int64]) -> dict[str, float]:
    """Of images [count, 1, rows, columns] that the training has not seen."""
    codes, use = latent.encode(model, images), latent.latent_use(model, images)
    gaps = mutual_information_gap(codes.numpy(), factors)
    return {
        "mean_gap": float(gaps.mean()),
        **{f"gap_of_{name}": float(gap) for name, gap in zip(FACTORS, gaps, strict=True)},
        "active_latents": use.active(),
        "kl_nats": float(use.kl.sum()),
        "mean_square_error": float((latent.decode(model, codes) - images).square().mean()),
    }


def _walk(model: HUModel, images: torch.Tensor) -> NDArray[np.float32]:
    """One image with each latent moved in turn, [latents x 9, rows, columns]."""
    code = latent.encode(model, images)[7]
    order = latent.latent_use(model, images).by_variance()
    moved = [latent.traverse(code, number, steps=9) for number in order]
    return latent.decode(model, torch.cat(moved))[:, 0].numpy()


def _draw(
    walks: dict[str, NDArray[np.float32]], found: dict[str, dict[str, Any]], picture: Path
) -> None:
    figure = Figure(figsize=(17, 3.4), layout="constrained")
    for number, (name, images) in enumerate(walks.items(), start=1):
        axes = figure.add_subplot(1, len(walks), number)
        framed = np.pad(images, ((0, 0), (1, 1), (1, 1)), constant_values=0.4)
        rows = framed.reshape(LATENTS, 9, *framed.shape[1:]).transpose(0, 2, 1, 3)
        axes.imshow(rows.reshape(LATENTS * framed.shape[1], -1), cmap="gray", vmin=0, vmax=1)
        row = found[name]
        title = f"{name}: gap {row['mean_gap']:.2f}, {row['active_latents']:.1f} active"
        axes.set(title=title, xticks=[], yticks=[], xlabel="-3 to +3 sigma")
        axes.set_ylabel("a latent a row, by its variance")
    figure.savefig(picture, dpi=110)
