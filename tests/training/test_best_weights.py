"""Which weights of a training are kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.images import body_slice
from torch import nn
from torch.utils.data import Dataset

from pipeline.metrics.image import psnr_db, ssim
from pipeline.training.best_weights import RANGE_HU, BestWeights


class Patches(Dataset):
    """Three bodies, each brighter than the one before; input and target are equal."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        if item >= 3:
            raise IndexError(item)
        image = torch.from_numpy(body_slice()[None] + np.float32(50 * item))
        return {"input": image, "target": image}


class Shift(nn.Module):
    """Adds a constant in HU, in training mode another one."""

    def __init__(self) -> None:
        super().__init__()
        self.shift_hu = nn.Parameter(torch.tensor(0.0))

    def forward(self, image_hu: torch.Tensor) -> torch.Tensor:
        return image_hu + self.shift_hu + (5000.0 if self.training else 0.0)

    def at(self, shift_hu: float) -> Shift:
        with torch.no_grad():
            self.shift_hu.fill_(shift_hu)
        return self


def best(every: int = 2) -> BestWeights:
    return BestWeights(Patches(), every, batch=2)


def test_the_weights_of_the_best_score_are_kept_and_later_steps_do_not_change_them() -> None:
    selection, model = best(every=1), Shift()
    scores = [
        selection.validate(model.at(shift_hu), iteration)["validation.ssim"]
        for iteration, shift_hu in enumerate((900.0, 100.0, 400.0), start=1)
    ]
    assert scores[1] > scores[2] > scores[0]
    assert selection.score == scores[1]
    assert selection.weights["shift_hu"].item() == 100


def test_the_score_is_the_mean_over_all_patches_of_the_model_as_it_is_used() -> None:
    model = Shift().at(300.0).train()
    found = best(every=1).validate(model, 1)
    score = found["validation.ssim"]
    images = [Patches()[item]["target"][0].numpy() for item in range(3)]
    expected = np.mean([ssim(image + np.float32(300), image, RANGE_HU) for image in images])
    assert score == pytest.approx(expected)
    decibels = [psnr_db(image + np.float32(300), image, RANGE_HU) for image in images]
    assert found["validation.psnr"] == pytest.approx(np.mean(decibels))
    assert score < 0.999
    assert model.training, "training goes on in its own mode"


def test_it_validates_every_so_many_iterations_and_after_the_last() -> None:
    selection, model = best(every=2), Shift().at(10.0)
    due = [bool(selection.validate(model, n, last=n == 5)) for n in range(1, 6)]
    assert due == [False, True, False, True, True]


def test_validation_draws_nothing_from_the_training_s_random_numbers() -> None:
    before = torch.get_rng_state()
    best(every=1).validate(Shift(), 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_resumed_training_keeps_the_best_so_far() -> None:
    first, model = best(every=1), Shift()
    first.validate(model.at(100.0), 1)
    resumed = best(every=1)
    resumed.load_state_dict(first.state_dict())
    resumed.validate(model.at(400.0), 2)
    assert resumed.weights["shift_hu"].item() == 100


def test_one_that_only_looks_keeps_no_weights_and_takes_old_checkpoints() -> None:
    watch, model = BestWeights(Patches(), 2, batch=2, chooses=False), Shift().at(100.0)
    assert watch.validate(model, 2).keys() == {"validation.ssim", "validation.psnr"}
    assert (watch.weights, watch.state_dict()) == ({}, {})
    watch.load_state_dict({})
    assert watch.validate(model.at(0.0), 4) == {"validation.ssim": pytest.approx(1)}, "no infinity"
