"""A GAN of one number: the density that it draws, the real one, and what the critic makes of both.

Figure 1 of Goodfellow et al., NeurIPS 2014, with the project's own step and loop.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import gaussian_kde, norm, wasserstein_distance
from torch import nn
from torch.utils.data import Dataset

from pipeline.config.sections import Normalize, Train
from pipeline.models.adapters.base import HUModel
from pipeline.training.loop import Checkpoint, Loop
from pipeline.training.steps.adversarial import Adversarial

MEAN, DEVIATION = 4.0, 0.5
SHOWN = (1, 300, 800, 3000)
BATCH, DRAWN = 64, 4000
#: Learns ten times as fast as the generator: one that lags behind lets the generator draw a density
#: of half the width (two time scales; Heusel et al., NeurIPS 2017).
CRITIC = {
    "target": "monai.networks.nets.FullyConnectedNet",
    "args": {"in_channels": 1, "out_channels": 1, "hidden_channels": [32, 32], "act": "leakyrelu"},
    "lr": 1e-2,
}


class Numbers(Dataset):
    """Numbers from the real density, as images of one pixel."""

    def __len__(self) -> int:
        return SHOWN[-1] * BATCH

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        drawn = np.random.default_rng((0, item)).normal(MEAN, DEVIATION)
        return {"target": torch.full((1, 1, 1), float(drawn))}


class Line(nn.Module):
    """A normal number to another number, as an image of one pixel."""

    latent_shape = (1,)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        return self.layers(latent)[:, :, None, None]


def densities(work: Path, picture: Path) -> dict[str, Any]:
    """The distance of the drawn numbers from real ones, at the iterations shown."""
    settings = Train(
        iterations=SHOWN[-1],
        batch=BATCH,
        lr=1e-3,
        device="cpu",
        precision="fp32",
        channels_last=False,
        log_every=1,
        checkpoint_every=SHOWN[-1],
    )
    torch.manual_seed(0)
    model = HUModel(Line(), normalize=Normalize(centre=0, scale=1), residual=False)
    objective = {"target": "pipeline.training.steps.gan_objectives.NonSaturating"}
    step = Adversarial(model, settings, discriminator=CRITIC, objective=objective, average=0)
    moments: dict[int, tuple[NDArray, NDArray]] = {}

    def log(metrics: dict[str, float], iteration: int) -> None:
        if iteration in SHOWN:
            moments[iteration] = _moment(step)

    Loop(model, step, "cpu", settings, Checkpoint(work, "0" * 16)).run(Numbers(), start=0, log=log)
    _draw(moments, picture)
    real = np.random.default_rng(1).normal(MEAN, DEVIATION, DRAWN)
    again = np.random.default_rng(2).normal(MEAN, DEVIATION, DRAWN)
    found = {
        f"iteration {iteration}": {
            "wasserstein_distance": wasserstein_distance(drawn, real),
            "mean": float(drawn.mean()),
            "standard_deviation": float(drawn.std()),
            "critic_of_real_numbers": float(np.interp(real, PLACES, critic).mean()),
        }
        for iteration, (drawn, critic) in moments.items()
    }
    return {
        **found,
        "real against real": {"wasserstein_distance": wasserstein_distance(again, real)},
    }


PLACES = np.linspace(-2, 7, 200)


@torch.no_grad()
def _moment(step: Adversarial) -> tuple[NDArray, NDArray]:
    """Numbers drawn, and the probability of being real that the critic gives to PLACES."""
    latent = torch.randn(DRAWN, 1, generator=torch.Generator().manual_seed(0))
    drawn = step.generator.network(latent).flatten().numpy()
    places = torch.from_numpy(PLACES).float()[:, None, None, None]
    return drawn.astype(np.float64), torch.sigmoid(step.scores(places)).flatten().numpy()


def _draw(moments: dict[int, tuple[NDArray, NDArray]], picture: Path) -> None:
    figure = Figure(figsize=(13, 3), layout="constrained")
    for number, (iteration, (drawn, critic)) in enumerate(moments.items(), start=1):
        axes = figure.add_subplot(1, len(moments), number)
        axes.plot(PLACES, norm.pdf(PLACES, MEAN, DEVIATION), "k:", label="real")
        axes.plot(PLACES, gaussian_kde(drawn)(PLACES), color="#1f7a4d", label="generated")
        axes.plot(PLACES, critic, "--", color="#1f5f8b", label="critic: probability of real")
        axes.axhline(0.5, color="#cccccc", lw=0.8)
        axes.set(title=f"after {iteration} turns", ylim=(0, 1.6), xlabel="the number")
        if number == 1:
            axes.legend(loc="upper right", fontsize=8)
    figure.savefig(picture, dpi=110)
