"""Texture by a discriminator: its features are matched, and it sees where holes are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.restore import run
from helpers.training import settings

from pipeline.core.errors import ConfigError
from pipeline.losses.image import PooledL1
from pipeline.models.adapters.base import build_model
from pipeline.training.steps.base import Batch
from pipeline.training.steps.paired_adversarial import PairedAdversarial

PATCHES = {"spatial_dims": 2, "channels": 4, "num_layers_d": 1, "norm": None, "bias": True}
HOLE = {"target": "square_holes", "args": {"side": 16, "share": 0.2}}
FILLER = {"target": "hole_filler", "args": {"outputs": 1, "features": [4, 4, 4, 4, 4, 4]}}


def step_of(
    *, weights: dict[str, float], discriminator: dict[str, Any] | None = None
) -> PairedAdversarial:
    torch.manual_seed(0)
    config = run(HOLE, model=FILLER)
    judge = {"target": "patch_discriminator", "args": {**PATCHES, "in_channels": 2}}
    return PairedAdversarial(
        build_model(config),
        PooledL1(4),
        settings(),
        discriminator=discriminator or judge,
        objective={"target": "hinge"},
        weights=weights,
        conditional=True,
    )


def batch() -> Batch:
    target = 255 * torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    seen = target.clone()
    seen[..., 8:24, 8:24] = torch.nan
    return {"input": seen, "target": target}


def test_beside_holes_the_discriminator_sees_where_they_are() -> None:
    step, seen = step_of(weights={"content": 1}), batch()
    judged = step.judged(seen, step.real(seen))
    assert judged.shape == (2, 2, 32, 32)
    assert torch.equal(judged[:, 1:], seen["input"].isfinite().float())
    for _ in range(2):
        logged = step.backward(seen, share=1.0)
        step.update()
    assert all(value == value for value in logged.values())


def test_matched_features_draw_the_output_to_the_target() -> None:
    step, seen = step_of(weights={"content": 0, "adversarial": 0, "feature_matching": 1}), batch()
    real = step.real(seen)
    assert float(step.feature_matching(seen, real, real)) == 0
    near, far = (real + offset for offset in (0.1, 0.5))
    distances = [float(step.feature_matching(seen, one, real)) for one in (near, far)]
    assert 0 < distances[0] < distances[1]
    loss, logged = step.generator_loss(seen)
    assert loss.item() == pytest.approx(logged["feature_matching_loss"])
    loss.backward()
    assert any(w.grad is not None and bool(w.grad.any()) for w in step.generator.parameters())


def test_a_discriminator_without_inner_layers_is_refused() -> None:
    plain = {"target": "fcn", "args": {"in_channels": 2, "out_channels": 1, "features": [2, 2]}}
    step = step_of(weights={"content": 1, "feature_matching": 1}, discriminator=plain)
    with pytest.raises(ConfigError, match="feature_matching"):
        step.feature_matching(batch(), torch.zeros(2, 1, 32, 32), torch.zeros(2, 1, 32, 32))
