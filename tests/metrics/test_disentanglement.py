"""Codes that hold two factors each in a latent of its own, mixed, or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.core.errors import LdctError
from pipeline.metrics.disentanglement import mutual_information_gap

RANDOM = np.random.default_rng(0)
FACTORS = RANDOM.integers(0, 10, (4000, 2))


def turned(degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    noise = RANDOM.standard_normal((len(FACTORS), 1))
    return np.concatenate([(FACTORS - 4.5) @ turn, noise], axis=1)


def test_a_latent_for_each_factor_is_nearly_one_and_a_mixture_nearly_nothing() -> None:
    own, mixed = (mutual_information_gap(turned(angle), FACTORS) for angle in (0, 45))
    assert (own > 0.9).all()  # a little is lost where a part of the codes ends within a value
    assert (mixed < 0.1).all()
    between = mutual_information_gap(turned(15), FACTORS)
    assert (mixed < between).all()
    assert (between < own).all()


def test_codes_that_know_nothing_have_no_gap() -> None:
    codes = RANDOM.standard_normal((len(FACTORS), 4))
    assert mutual_information_gap(codes, FACTORS) == pytest.approx([0, 0], abs=0.02)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(LdctError, match="2 or more"):
        mutual_information_gap(turned(0)[:, :1], FACTORS)
    with pytest.raises(LdctError, match="one value"):
        mutual_information_gap(turned(0), np.zeros_like(FACTORS))
