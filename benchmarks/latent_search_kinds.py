"""What benchmarks/latent_search.py fills holes of."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.core.units import Window


@dataclass(frozen=True)
class Kind:
    """Which images: a generator's configuration, the hole, and where a pixel counts as still.

    still: the most that it changes, in grey levels or HU. chosen: numbers of training images that
    moves are tuned on, and of test images; the middle one of each also becomes a sequence.
    """

    config: str
    settings: tuple[str, ...]
    hole: tuple[slice, slice]
    still: float
    shown: Window
    tuning: tuple[int, ...]
    test: tuple[int, ...]


KINDS = {
    "digits": Kind(
        "vae_digits",
        (
            *("generation.image_size=[16, 16]", "generation.label=none"),
            "model.args={image_size: [16, 16], latents: 10, hidden: [256, 256], sigma: 0.25}",
        ),
        (slice(5, 11), slice(4, 12)),
        0.5,
        Window(8, 16),
        (3, 40, 77),
        (2, 35, 68, 101, 134, 167),
    ),
    "ct": Kind(
        "vae_ct",
        (
            *("generation.image_size=[64, 64]", "generation.label=none", "train.precision=fp32"),
            "model.args={image_size: [64, 64], latents: 32, channels: [16, 32, 64], sigma: 0.1}",
        ),
        (slice(24, 42), slice(22, 44)),
        10.0,
        Window(-250, 1500),
        (6, 16, 26),
        (2, 8, 14, 20, 26, 32),
    ),
}
