"""Latent spaces of digits: `python benchmarks/latent_digits.py samples|beta|plane`.

samples  a conditional VAE of the digits that scikit-learn ships: are its samples digits?
beta     how many latents stay active as beta grows
plane    two latents trained on the KL term alone, on reconstruction alone, and on both

Each part writes benchmarks/results/latent_PART.json and pictures beside it, and goes on where it
was stopped. A part takes under 10 minutes on 2 quiet cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from digit_judge import Judge
from latent_training import fit, parser, timed
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.config.sections import Normalize
from pipeline.core.malloc import keep_freed_memory
from pipeline.core.units import Window
from pipeline.data.images import ImageItems
from pipeline.evaluation.latent import (
    cliff,
    lower_bound,
    pca_reconstruction,
    reconstruction_figures,
)
from pipeline.generative import latent
from pipeline.generative.latent_images import RECONSTRUCTED
from pipeline.ingest.bundled_pictures import Pictures, digits
from pipeline.models.adapters.base import HUModel
from pipeline.models.vae import DenseVAE
from pipeline.report.marked_images import save_grid, save_latent_plot

GREY = Window(8, 16)


def main() -> None:
    options = parser(__doc__.splitlines()[0])
    options.add_argument("part", choices=["samples", "beta", "plane"])
    arguments = options.parse_args()
    part = {"samples": samples_part, "beta": beta_part, "plane": plane_part}[arguments.part]
    timed(f"latent_{arguments.part}", lambda: part(arguments), arguments)


def of_digits(
    name: str,
    training: Pictures,
    arguments: argparse.Namespace,
    *,
    latents: int,
    sigma: float,
    labels: int = 0,
    iterations: int = 3000,
    **step: Any,
) -> HUModel:
    return fit(
        name,
        lambda: DenseVAE((8, 8), latents, hidden=(256, 256), labels=labels, sigma=sigma),
        lambda length: ImageItems(training.images, training.labels, seed=0, length=length),
        normalize=Normalize(centre=0, scale=16),
        arguments=arguments,
        train={"iterations": iterations, "batch": 64, "lr": 1e-3, "log_every": 100},
        **step,
    )


def as_batch(pictures: Pictures) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures.images))[:, None]


def samples_part(arguments: argparse.Namespace) -> dict[str, Any]:
    training, test = digits().split()
    judge = Judge(training, test)
    labelled = of_digits(
        "conditional", training, arguments, latents=10, sigma=0.25, labels=10, warmup=500
    )
    free = of_digits("unconditional", training, arguments, latents=10, sigma=0.2, warmup=500)
    wanted = torch.arange(1000) % 10
    generator = torch.Generator().manual_seed(0)
    drawn = latent.sample(labelled, 1000, generator, wanted).clamp(0, 16)
    from_prior = latent.sample(free, 1000, generator).clamp(0, 16)
    codes = latent.encode(free, as_batch(training))
    like = latent.decode(free, latent.codes_like(codes, 1000, components=20, seed=0)).clamp(0, 16)
    held_back, labels = as_batch(test), torch.from_numpy(test.labels)
    results = {
        "judge": judge.facts(),
        "conditional": {
            **judge.of(drawn),
            "obeys_its_label": float(np.mean(judge.labels(drawn) == wanted.numpy())),
            "spread_of_real": spread(drawn, wanted.numpy()) / spread(held_back, test.labels),
            **bound_and_quality(labelled, held_back, labels),
        },
        "unconditional, from the prior": {
            **judge.of(from_prior),
            **bound_and_quality(free, held_back),
        },
        "unconditional, from a fitted mixture": judge.of(like),
        "interpolation": interpolations(free, labelled, test),
        "pca_10": quality(
            pca_reconstruction(np.stack(training.images), np.stack(test.images), components=10),
            test,
        ),
    }
    draw_digits(labelled, free, test, drawn[:100], arguments)
    return results


def spread(images: torch.Tensor, labels: NDArray[np.int64]) -> float:
    """How much images of one label differ: pixels' standard deviation, mean over labels."""
    flat = images.flatten(1).numpy()
    return float(np.mean([flat[labels == label].std(axis=0).mean() for label in range(10)]))


def quality(output: NDArray[np.float32], test: Pictures) -> dict[str, float]:
    return reconstruction_figures(output, np.stack(test.images), GREY).to_dict()


def bound_and_quality(
    model: HUModel, images: torch.Tensor, labels: torch.Tensor | None = None
) -> dict[str, float]:
    """ELBO, bits, PSNR, SSIM and active latents of held-back digits."""
    bound = lower_bound(model, images, torch.Generator().manual_seed(0), labels=labels)
    output = latent.reconstruct(model, images, labels)[:, 0].numpy()
    figures = reconstruction_figures(output, images[:, 0].numpy(), GREY)
    use = latent.latent_use(model, images, labels)
    return {**bound.to_dict(), **figures.to_dict(), "active_latents": use.active()}


def interpolations(free: HUModel, labelled: HUModel, test: Pictures) -> dict[str, Any]:
    """Largest over mean step of 16 frames, over 300 pairs of held-back digits."""
    generator = np.random.default_rng(0)
    images, labels = as_batch(test), torch.from_numpy(test.labels)
    codes = {"unconditional": latent.encode(free, images)}
    codes["conditional, one label"] = latent.encode(labelled, images, labels)
    results = {}
    for name, ends in codes.items():
        for spherical in (False, True):
            steepest = []
            for first, last in generator.integers(len(images), size=(300, 2)):
                way = latent.interpolate(ends[first], ends[last], 16, spherical=spherical)
                label = labels[first].expand(16)
                given = () if name == "unconditional" else (label,)
                model = free if name == "unconditional" else labelled
                steepest.append(cliff(latent.decode(model, way, *given)[:, 0].numpy()))
            key = f"{name}, {'spherical' if spherical else 'straight'}"
            results[key] = {
                "median": float(np.median(steepest)),
                "largest": float(np.max(steepest)),
                "share_within_3": float(np.mean(np.array(steepest) <= 3)),
            }
    return results


def draw_digits(
    labelled: HUModel,
    free: HUModel,
    test: Pictures,
    drawn: torch.Tensor,
    arguments: argparse.Namespace,
) -> None:
    images, labels = as_batch(test), torch.from_numpy(test.labels)

    def save(name: str, pictures: torch.Tensor, columns: int, caption: str, **more: Any) -> None:
        save_grid(
            pictures[:, 0].numpy(),
            arguments.results / f"latent_digits_{name}.png",
            window=GREY,
            columns=columns,
            caption=caption,
            **more,
        )

    save("samples", drawn, 10, "Conditional VAE: column n was asked for the digit n.")
    restored = latent.reconstruct(free, images[:10])
    save(
        "reconstructions",
        torch.cat([images[:10], restored]),
        10,
        "Top: held-back digits. Bottom: through 10 latents and back.",
        marking=RECONSTRUCTED,
    )
    codes = latent.encode(free, images)
    one_of_each = [int((labels == digit).nonzero()[0]) for digit in range(10)]
    pairs = zip(one_of_each[:5], one_of_each[5:], strict=True)
    ways = [latent.interpolate(codes[a], codes[b], 10) for a, b in pairs]
    save(
        "interpolation",
        latent.decode(free, torch.cat(ways)),
        10,
        "From a held-back digit (left) to another (right), straight in 10 latents.",
    )
    order = latent.latent_use(free, images).by_variance()
    moved = [latent.traverse(codes[one_of_each[3]], number, steps=9) for number in order]
    save(
        "traversals",
        latent.decode(free, torch.cat(moved)),
        9,
        "A row for each latent, the one that varies most first: -3 to +3 sigma, the others fixed.",
    )
    wide = torch.from_numpy(stroke_pixels(test) > np.median(stroke_pixels(test)))
    bold = latent.attribute_vector(codes, wide)
    shares = torch.linspace(-2, 2, 9)[:, None]
    bolder = [codes[number] + shares * bold for number in one_of_each[:6]]
    save(
        "arithmetic",
        latent.decode(free, torch.cat(bolder)),
        9,
        "Code plus -2 to +2 times (mean of bold digits - mean of thin ones).",
    )


def stroke_pixels(pictures: Pictures) -> NDArray[np.int64]:
    """How many pixels of each digit are ink."""
    return (np.stack(pictures.images) > GREY.centre).sum(axis=(1, 2))


def beta_part(arguments: argparse.Namespace) -> dict[str, Any]:
    training, test = digits().split()
    rows = {}
    for beta in (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0):
        model = of_digits(
            f"beta {beta}",
            training,
            arguments,
            latents=10,
            sigma=0.2,
            iterations=2000,
            warmup=300,
            beta=beta,
        )
        figures = bound_and_quality(model, as_batch(test))
        use = latent.latent_use(model, as_batch(test))
        figures["variance_of_means"] = sorted(use.variance.tolist(), reverse=True)
        rows[str(beta)] = figures
        print(beta, figures["active_latents"], figures["kl"], figures["psnr"], flush=True)
    draw_beta(rows, arguments.results / "latent_beta.png")
    return {"threshold": latent.ACTIVE_VARIANCE, "latents": 10, "beta": rows}


def draw_beta(rows: dict[str, Any], path: Path) -> None:
    """Active latents, KL and PSNR of what is held back, against beta."""
    figure = Figure(figsize=(11, 3), layout="constrained")
    panels = {"active_latents": "active latents of 10", "kl": "KL, nats", "psnr": "PSNR, dB"}
    for number, (name, label) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, len(panels), number)
        axes.plot([float(beta) for beta in rows], [row[name] for row in rows.values()], "o-")
        axes.set(xscale="log", xlabel="beta", ylabel=label, ylim=(0, None))
        axes.grid(alpha=0.2)
    figure.savefig(path, dpi=110)


def plane_part(arguments: argparse.Namespace) -> dict[str, Any]:
    training, test = digits().split()
    trainings = {
        "KL alone": {"reconstruction": 0.0},
        "reconstruction alone": {"beta": 0.0},
        "both": {"warmup": 500},
    }
    panels, figures = {}, {}
    for title, step in trainings.items():
        model = of_digits(title, training, arguments, latents=2, sigma=0.2, **step)
        codes = latent.encode(model, as_batch(test)).numpy()
        panels[title] = (codes, test.labels)
        figures[title] = bound_and_quality(model, as_batch(test)) | {
            "within_3_sigma": float(np.mean(np.linalg.norm(codes, axis=1) < 3.41)),
            "spread": float(codes.std()),
        }
        across = torch.linspace(-2.5, 2.5, 15)
        grid = torch.cartesian_prod(across, across)
        save_grid(
            latent.decode(model, grid)[:, 0].numpy(),
            arguments.results / f"latent_plane_{title.replace(' ', '_')}.png",
            window=GREY,
            columns=15,
            caption=f"The plane of two latents from -2.5 to 2.5, trained on: {title}.",
        )
    save_latent_plot(panels, arguments.results / "latent_plane.png")
    return figures


if __name__ == "__main__":
    keep_freed_memory()
    main()
