"""Every configuration trains in bf16 on any CPU, emulated or not: finite, and to some end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.images import body_slice
from torch.utils.data import Dataset

from pipeline.config.component import named
from pipeline.config.load import load_config
from pipeline.config.run import RunConfig
from pipeline.models.adapters.base import build_model
from pipeline.models.adapters.restorer import Restorer
from pipeline.models.computing import processor
from pipeline.training.loop import train
from pipeline.training.precision import Precision
from pipeline.training.steps.adversarial_frames import AdversarialFrames
from pipeline.training.steps.base import Step
from pipeline.training.steps.temporal_consistency import Consistent

CONFIGS = [
    path
    for path in sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
    if not path.stem.endswith("_gpu")  # the same parts in other numbers
]
ITERATIONS, SIDE = 4, 32
TINY = [
    *(f"train.iterations={ITERATIONS}", "train.batch=2", "train.accumulate=1", "train.workers=0"),
    *("train.device=cpu", "train.log_every=1", "train.compile=false"),
    "train.warmup=0",
]
#: Smaller networks of the same kind, where the configured one takes seconds an iteration.
SMALLER = {
    "REDCNN": ["model.args.channels=8"],
    "DnCNN": ["model.args.channels=8"],
    "EDSR": ["model.args.channels=8", "model.args.blocks=2"],
}


class Same(Dataset):
    """The same two items again and again, so that any network can learn them."""

    def __init__(self, items: list[dict[str, torch.Tensor]], length: int) -> None:
        self.items, self.length = items, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        return self.items[number % 2]


def tiny(path: Path, precision: str, *changes: str) -> RunConfig:
    full = load_config(path)
    smaller = next((more for name, more in SMALLER.items() if name in full.model.target), [])
    patches = [f"data.patch=[{SIDE}, {SIDE}]"] if full.task in ("denoise", "restore") else []
    asked = [*TINY, *smaller, *patches, f"train.precision={precision}", *changes]
    return load_config(path, asked)


def items_of(config: RunConfig) -> list[dict[str, torch.Tensor]]:
    """Two items as the run's task makes them, of noise and smooth shapes."""
    generator = np.random.default_rng(0)
    make = {"segment": _labelled, "generate": _images, "restore": _pictures, "denoise": _pairs}
    return [make[config.task](config, generator) for _ in range(2)]


def _pairs(config: RunConfig, generator: np.random.Generator) -> dict[str, torch.Tensor]:
    target = torch.from_numpy(body_slice(SIDE))[None]
    noisy = [
        target + 30 * torch.from_numpy(generator.standard_normal(target.shape, np.float32))
        for _ in range(2)
    ]
    return {"input": noisy[0], "partner": noisy[1], "target": target}


def _pictures(config: RunConfig, generator: np.random.Generator) -> dict[str, torch.Tensor]:
    model = build_model(config)
    assert isinstance(model, Restorer)
    # A step on two places at once takes one place more of both.
    more = int(
        issubclass(named(config.step, key="step", base=Step), (Consistent, AdversarialFrames))
    )
    places = model.channels * (1 + 2 * model.neighbours) + more
    small = _smooth(generator, model.input_shape[1] + more, SIDE // model.enlarges, config)
    if model.hides:
        small[:, :4, :4] = float("nan")
    return {"input": small, "target": _smooth(generator, places, SIDE, config)}


def _images(config: RunConfig, generator: np.random.Generator) -> dict[str, torch.Tensor]:
    network: Any = build_model(config).network
    side, _ = getattr(network, "image_size", (104, 104))  # MS-SSIM needs 99
    image = _smooth(generator, 1, side, config)
    return {"input": image, "target": image, "label": torch.tensor(int(generator.integers(2)))}


def _smooth(
    generator: np.random.Generator, channels: int, side: int, config: RunConfig
) -> torch.Tensor:
    """[channels, side, side], within the normalisation's centre and a half of its scale more."""
    waves = np.linspace(0, np.pi, side, dtype=np.float32)
    wave = np.sin(waves).clip(min=0)  # of pi in float32 the sine is below 0
    shape = np.outer(wave, wave) * generator.uniform(0.3, 1)
    levels = config.normalize_hu.centre + 0.5 * config.normalize_hu.scale * shape
    return torch.from_numpy(np.stack([levels] * channels).astype(np.float32))


def _labelled(config: RunConfig, generator: np.random.Generator) -> dict[str, torch.Tensor]:
    settings = config.grid
    labels = np.zeros(settings.patch, np.uint8)
    for number in range(1, settings.channels):
        labels[..., 2 * number : 8 + 2 * number, 4:20] = number
    image_hu = np.where(labels > 0, 40.0, -900.0) + generator.normal(0, 20, labels.shape)
    return {
        "input": torch.from_numpy(image_hu.astype(np.float32))[None],
        "target": torch.from_numpy(labels)[None],
    }


def trained(
    config: RunConfig, folder: Path
) -> tuple[list[dict[str, float]], list[Precision], dict[str, torch.Tensor]]:
    """What was logged, what was computed in, and the weights; NotFiniteError stops it."""
    logged: list[dict[str, float]] = []
    chosen: list[Precision] = []
    settings = config.train
    model = train(
        config,
        Same(items_of(config), settings.iterations * settings.batch * settings.accumulate),
        folder=folder,
        log=lambda metrics, iteration: logged.append(metrics),
        data_digest="0" * 64,
        on_precision=chosen.append,
    )
    return logged, chosen, model.state_dict()


@pytest.fixture(autouse=True)
def any_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """bf16 may be asked for, though it is emulated where the processor has none."""
    monkeypatch.setattr(processor, "_cpu_has_fast_bf16", lambda: True)


PLANNED = [path for path in CONFIGS if load_config(path).is_complete]
VOLUMES = [
    path
    for path in PLANNED
    if (config := load_config(path)).task == "segment" and config.grid.dimensions == 3
]


@pytest.mark.parametrize(
    "path", [path for path in PLANNED if path not in VOLUMES], ids=lambda path: path.stem
)
def test_a_configuration_trains_in_bf16(path: Path, tmp_path: Path) -> None:
    logged, chosen, weights = trained(tiny(path, "bf16"), tmp_path)
    assert [one.used for one in chosen] == ["bf16"]
    assert len(logged) == ITERATIONS
    assert all(np.isfinite(value) for metrics in logged for value in metrics.values())
    assert all(values.isfinite().all() for values in weights.values())
    assert {values.dtype for values in weights.values()} <= {torch.float32, torch.int64}


@pytest.mark.parametrize("path", VOLUMES, ids=lambda path: path.stem)
def test_volumes_train_in_fp32_where_bf16_is_wrong(path: Path, tmp_path: Path) -> None:
    logged, chosen, weights = trained(tiny(path, "auto"), tmp_path)
    assert [one.used for one in chosen] == ["fp32"]
    assert "3-D" in chosen[0].why
    assert all(np.isfinite(metrics["loss"]) for metrics in logged)
    assert all(values.isfinite().all() for values in weights.values())


def test_there_are_configurations_of_every_task() -> None:
    assert {load_config(path).task for path in PLANNED} == {
        *("denoise", "generate", "restore", "segment")
    }
    assert VOLUMES


LEARNERS = ["denoise_redcnn", "denoise_swift", "autoencoder_ct", "deblur", "vae_digits"]


@pytest.mark.parametrize("name", LEARNERS)
def test_the_loss_falls_in_bf16(name: str, tmp_path: Path) -> None:
    path = next(path for path in CONFIGS if path.stem == name)
    config = tiny(path, "bf16", "train.iterations=25", "train.lr=2e-3")
    logged, _, _ = trained(config, tmp_path)
    first, last = (np.mean([m["loss"] for m in part]) for part in (logged[:3], logged[-3:]))
    assert last < 0.9 * first
