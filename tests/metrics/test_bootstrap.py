"""The bootstrap against the four that it replaced, and its kappa against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from pipeline.evaluation.aggregate import intervals
from pipeline.evaluation.per_patient import PatientFigures, WindowFigures
from pipeline.metrics.bootstrap import bootstrap_distribution, percentile_interval, times_drawn
from pipeline.promotion.compare import paired_interval
from pipeline.quality.model_observer import bootstrap_d_prime
from pipeline.review.study.agreement import interval_over_cases, moments, resampled_kappa

KINDS = ("input", "output", "change")
TAILS = [0.025, 0.975]


def gains_db(count: int = 12) -> NDArray[np.float64]:
    return np.random.default_rng(4).normal(0.3, 0.8, count)


def test_a_paired_interval_is_the_one_of_before() -> None:
    differences = gains_db()
    drawn = np.random.default_rng(0).integers(12, size=(2000, 12))
    before = np.quantile(differences[drawn].mean(axis=1), TAILS)
    assert paired_interval(differences) == pytest.approx(tuple(before), abs=1e-12)


def test_the_intervals_over_patients_are_those_of_before() -> None:
    """In windows that all patients have, and in one that five of seven have."""
    psnr = np.random.default_rng(7).normal(30, 2, 7)
    weights = np.array([3.0, 10, 4, 8, 1, 12, 6])
    patients = {
        f"p-{n}": PatientFigures(
            slices=1,
            windows={
                name: WindowFigures(
                    centre_hu=0,
                    width_hu=1,
                    **{kind: {"psnr": psnr[n] + shift} for shift, kind in enumerate(KINDS)},
                )
                for name in (("soft_tissue", "lung") if n < 5 else ("soft_tissue",))
            },
        )
        for n in range(7)
    }
    found = intervals(patients, weights.tolist(), np.random.default_rng(2)).windows
    generator = np.random.default_rng(2)
    for name, count in (("soft_tissue", 7), ("lung", 5)):
        drawn = generator.integers(count, size=(2000, count))
        weight = weights[:count]
        for shift, kind in enumerate(KINDS):
            values = (psnr[:count] + shift) * weight
            means = values[drawn].sum(axis=1) / weight[drawn].sum(axis=1)
            before = np.quantile(means, TAILS)
            assert found[name][kind]["psnr"] == pytest.approx(tuple(before), abs=1e-12)


def multinomial_interval(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """As the reader study's statistics drew their cases before."""
    generator = np.random.default_rng(0)
    times = generator.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=2000)
    drawn = times @ sums
    return np.quantile(drawn[:, 1] / drawn[:, 0], TAILS)


def test_a_reader_study_s_interval_differs_by_the_draws_alone() -> None:
    differences = gains_db(40)
    sums = np.column_stack([np.ones(40), differences])
    found = interval_over_cases(sums, lambda drawn: drawn[:, 1] / drawn[:, 0], seed=0)
    # The bounds of 2000 resamplings vary by about 0.03 standard errors of the mean.
    error = differences.std() / np.sqrt(40)
    assert found == pytest.approx(tuple(multinomial_interval(sums)), abs=0.15 * error)


def test_the_replicates_of_an_observer_differ_by_the_draws_alone() -> None:
    generator = np.random.default_rng(5)
    absent, present = generator.normal(size=(60, 4)), generator.normal(0.8, 1, (60, 4))

    def d_prime(*drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        return bootstrap_d_prime(present, absent, *map(times_drawn, drawn))

    found = bootstrap_distribution(d_prime, 60, 60, generator=generator, resamplings=1000)
    weights = [generator.multinomial(60, np.full(60, 1 / 60), 1000).astype(float) for _ in "ab"]
    before = bootstrap_d_prime(present, absent, *weights)
    spread = before.std()
    assert percentile_interval(found) == pytest.approx(
        percentile_interval(before), abs=0.25 * spread
    )
    assert found.std() == pytest.approx(spread, rel=0.1)


def test_the_kappa_of_each_resampling_is_scikit_learn_s() -> None:
    """Cases of two to five pairs of scores each, drawn together."""
    generator = np.random.default_rng(1)
    cases = [generator.integers(1, 6, (count, 2)) for count in (2, 3, 4, 5, 2, 3)]
    sums = np.array([moments(case.astype(float)) for case in cases])
    drawn = generator.integers(6, size=(50, 6))
    found = resampled_kappa(sums[drawn].sum(axis=1))
    for kappa, indices in zip(found, drawn, strict=True):
        pairs = np.concatenate([cases[index] for index in indices])
        truth = cohen_kappa_score(*pairs.T, labels=range(1, 6), weights="quadratic")
        assert kappa == pytest.approx(truth, abs=1e-12)


def test_figures_of_one_call_see_the_same_draws() -> None:
    values = np.stack([gains_db(), gains_db() + 0.1])
    found = bootstrap_distribution(
        lambda drawn: values[:, drawn].mean(axis=2), 12, generator=np.random.default_rng(3)
    )
    assert found.shape == (2, 2000)
    np.testing.assert_allclose(found[1] - found[0], 0.1, atol=1e-12)


def test_a_distribution_needs_two_cases_and_an_interval_may_be_of_its_values() -> None:
    with pytest.raises(ValueError, match="two or more"):
        bootstrap_distribution(lambda drawn: drawn[:, 0], 1, generator=np.random.default_rng(0))
    values = np.array([0.1, 0.2, 0.5, np.inf])
    assert percentile_interval(values, 0.5, method="inverted_cdf") == (0.1, 0.5)


def test_draws_are_counted_row_by_row() -> None:
    drawn = np.array([[0, 0, 2], [1, 2, 0]])
    np.testing.assert_array_equal(times_drawn(drawn), [[2, 0, 1], [1, 1, 1]])
