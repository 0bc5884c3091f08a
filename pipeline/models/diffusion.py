"""Denoising diffusion (Ho et al., NeurIPS 2020): images from noise that is taken away in steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

Prediction = Literal["epsilon", "sample", "v_prediction"]


class Diffusion(nn.Module):
    """A U-Net that knows how much noise an image [batch, 1, rows, columns] in [-1, 1] has.

    MONAI's diffusion U-Net, noise schedules and sampler. An image with noise of timestep t is
    sqrt(a_t) image + sqrt(1 - a_t) noise, where a_t falls from about 1 to about 0 over `timesteps`.
    The network predicts the noise (`epsilon`), the image (`sample`) or the velocity sqrt(a_t)
    noise - sqrt(1 - a_t) image (Salimans & Ho, ICLR 2022), which is well posed at every timestep.

    A code is the noise itself, of the image's shape, and `decode` brings it to an image by the
    deterministic sampler of Song et al. (DDIM, ICLR 2021) in `sampling_steps`: the same noise
    gives the same image. Raises ValueError where these do not divide `timesteps`, or where an
    image's sides cannot be halved once for each of `channels` but the first.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        *,
        channels: Sequence[int] = (32, 64),
        blocks: int = 2,
        groups: int = 8,
        labels: int = 0,
        timesteps: int = 1000,
        sampling_steps: int = 50,
        prediction: Prediction = "v_prediction",
        schedule: str = "cosine",
    ) -> None:
        super().__init__()
        _check(image_size, 2 ** (len(channels) - 1), timesteps, sampling_steps)
        from monai.networks.schedulers import DDIMScheduler  # MONAI takes seconds to import

        from pipeline.models.diffusion_unet import ResidualDiffusionUNet

        self.image_size, self.labels = tuple(image_size), labels
        self.latent_shape = (1, *image_size)
        self.timesteps, self.prediction = timesteps, prediction
        self.sampler = DDIMScheduler(timesteps, schedule, prediction_type=prediction)
        self.sampler.set_timesteps(sampling_steps)
        #: From pure noise on. MONAI's own are spaced wider than its sampler steps.
        self.visited = range(timesteps - 1, -1, -(timesteps // sampling_steps))
        self.body = ResidualDiffusionUNet(channels, blocks=blocks, groups=groups, labels=labels)

    def noisy(
        self, image: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor
    ) -> torch.Tensor:
        """Images with the noise of their timesteps [batch]."""
        return self.sampler.add_noise(image, noise, timestep)

    def wanted(
        self, image: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor
    ) -> torch.Tensor:
        """What the network should predict of these images with this noise."""
        if self.prediction == "sample":
            return image
        if self.prediction == "epsilon":
            return noise
        return self.sampler.get_velocity(image, noise, timestep)

    def predicted(
        self, noisy: torch.Tensor, timestep: torch.Tensor, label: torch.Tensor | None = None
    ) -> torch.Tensor:
        """What the network makes of noisy images, in float32; label [batch] where conditional."""
        return self.body(noisy, timestep, class_labels=label).float()

    def decode(self, latent: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
        """The image of each noise [batch, 1, rows, columns]."""
        if (label is None) != (self.labels == 0):
            expected = f"a label in 0 ... {self.labels - 1}" if self.labels else "no label"
            raise ValueError(f"this network takes {expected} with each image")
        image = latent
        for timestep in self.visited:
            now = torch.full((len(latent),), timestep, device=latent.device)
            predicted = self.predicted(image, now, label)
            image, _ = self.sampler.step(predicted, timestep, image)
        return image

    def drawn(self, latent: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """The same for labels that are one-hot already [batch, labels]."""
        return self.decode(latent, condition.argmax(dim=1))

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """The image of each noise, by the name that torch asks for."""
        return self.decode(latent)


def _check(image_size: Sequence[int], factor: int, timesteps: int, sampling_steps: int) -> None:
    if any(side < factor or side % factor for side in image_size):
        raise ValueError(f"image_size: expected multiples of {factor}, got {tuple(image_size)}")
    if sampling_steps < 1 or timesteps % sampling_steps:
        raise ValueError(
            f"sampling_steps must divide timesteps, got {sampling_steps} and {timesteps}"
        )
