"""Readers and cases random: a published study's figures, simulated studies, and no collapse."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from pipeline.review.study.reader_comparison import (
    ErrorCovariances,
    compare,
    compare_scores,
    compare_to_half,
    score_covariances,
    unseen_share,
)

#: Van Dyke et al., RSNA 1993: five readers, 45 patients with an aortic dissection and 69 without,
#: by spin-echo MRI and by cine MRI: empirical areas under the ROC curve. The commonest example of
#: the method: Hillis, Stat Med 26 (2007) 596, and the packages MRMCaov and RJafroc.
AREAS = np.array(
    [
        [0.91964573, 0.85877616, 0.90386473, 0.97310789, 0.82979066],
        [0.94782609, 0.90531401, 0.92173913, 0.99935588, 0.92995169],
    ]
)
#: Of these areas, by the jackknife, as MRMCaov 0.3 (Smith & Hillis 2020) prints them.
JACKKNIFE = ErrorCovariances(
    variance=0.0008022883, cov1=0.0003466137, cov2=0.0003440748, cov3=0.0002390284
)


def test_a_published_study_s_figures_come_out() -> None:
    """MRMCaov's printed analysis of the same study, random readers and random cases."""
    found = compare(AREAS, JACKKNIFE)
    assert found.reader_variance == pytest.approx(0.0005510306, abs=1e-9)
    assert found.difference == pytest.approx(0.04380032, abs=1e-7)
    assert found.standard_error == pytest.approx(0.02074862, abs=1e-7)
    assert found.degrees_of_freedom == pytest.approx(15.25967, abs=1e-4)
    assert found.interval == pytest.approx((-0.0003588544, 0.0879594986), abs=1e-7)
    assert found.p == pytest.approx(0.05166569, abs=1e-7)


def test_case_variance_below_none_is_none() -> None:
    """Hillis: without it the readers' alone counts, with one degree less than readers."""
    found = compare(AREAS, ErrorCovariances(1.0, 0.5, cov2=0.1, cov3=0.2))
    assert found.degrees_of_freedom == 4
    assert found.standard_error == pytest.approx(np.sqrt(2 / 5 * 0.0005510306), abs=1e-7)


def test_the_covariances_of_mean_scores_are_the_jackknife_s() -> None:
    scores = np.random.default_rng(0).integers(1, 6, (2, 3, 9)).astype(float)
    cases = scores.shape[2]
    left_out = np.stack([np.delete(scores, k, axis=2).mean(axis=2) for k in range(cases)])
    apart = (left_out - left_out.mean(axis=0)).reshape(cases, -1)
    jackknife = ((cases - 1) / cases * apart.T @ apart).reshape(2, 3, 2, 3)
    found = score_covariances(scores)
    assert found.variance == pytest.approx(np.einsum("ijij->", jackknife) / 6)
    assert found.cov1 == pytest.approx(np.mean([jackknife[0, j, 1, j] for j in range(3)]))
    pairs = [(j, k) for j in range(3) for k in range(3) if j != k]
    assert found.cov2 == pytest.approx(
        np.mean([jackknife[i, j, i, k] for i in range(2) for j, k in pairs])
    )
    assert found.cov3 == pytest.approx(np.mean([jackknife[0, j, 1, k] for j, k in pairs]))


def drawn_study(generator: np.random.Generator, readers: int, cases: int) -> NDArray[np.float64]:
    """Scores whose true difference is 0: readers 0.3, cases 0.5 and the rest 0.6 points apart."""
    level = generator.normal(0, 1, (1, cases))
    apart = (
        generator.normal(0, 0.3, (readers, 1))
        + generator.normal(0, 0.5, (1, cases))
        + generator.normal(0, 0.6, (readers, cases))
    )
    return np.stack([level - apart / 2, level + apart / 2])


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of new readers and new cases: 95 % of 2000 studies; over cases alone it would be far less."""
    generator = np.random.default_rng(1)
    held = alone = 0
    for _ in range(2000):
        scores = drawn_study(generator, 4, 25)
        low, high = compare_scores(scores).interval
        held += low <= 0 <= high
        by_case = (scores[1] - scores[0]).mean(axis=0)
        alone += abs(by_case.mean()) <= 1.96 * by_case.std(ddof=1) / np.sqrt(25)
    assert 0.93 < held / 2000 < 0.98
    assert alone / 2000 < 0.85


@pytest.mark.parametrize("cases", [2, 8, 40])
def test_equal_marks_give_no_interval_without_width(cases: int) -> None:
    """0 of N cases differed: at most 1 - 0.025^(1/N) of all do (Clopper-Pearson)."""
    found = compare_scores(np.full((2, 3, cases), 4.0))
    reach = 1 - 0.025 ** (1 / cases)
    assert found.interval == pytest.approx((-reach, reach))
    assert unseen_share(cases) == pytest.approx(reach)
    assert found.p is None


def test_one_reader_or_one_case_stands_for_no_other() -> None:
    with pytest.raises(ValueError, match="readers are random"):
        compare_scores(np.ones((2, 1, 10)))
    with pytest.raises(ValueError, match="cases are random"):
        compare_scores(np.ones((2, 4, 1)))


def test_a_preference_has_the_interval_of_a_mean_over_readers_and_cases() -> None:
    """Against the variance of a two-way layout, computed by itself."""
    generator = np.random.default_rng(4)
    shares = (generator.random((5, 40)) < generator.beta(3, 2, (1, 40))).astype(float)
    found = compare_to_half(shares)
    assert found.difference == pytest.approx(shares.mean() - 0.5)
    covariances = np.cov(shares) / 40
    between = covariances[~np.eye(5, dtype=bool)].mean()
    variance = shares.mean(axis=1).var(ddof=1) / 5 + max(between, 0)
    assert found.standard_error == pytest.approx(np.sqrt(variance))


def test_intervals_of_a_preference_hold_the_truth_as_often_as_they_say() -> None:
    """Readers and cases drawn for each study: the share that all would prefer is 0.6."""
    generator, held = np.random.default_rng(5), []
    for _ in range(1000):
        inclined = 0.3 * generator.standard_normal((6, 1)) + generator.standard_normal((1, 40))
        threshold = stats.norm.ppf(0.6) * np.sqrt(1 + 0.3**2 + 1)
        shares = (inclined + generator.standard_normal((6, 40)) + threshold > 0).astype(float)
        low, high = compare_to_half(shares).interval
        held.append(low <= 0.1 <= high)
    assert 0.92 <= np.mean(held) <= 0.985


def test_the_interval_of_a_preference_cannot_collapse() -> None:
    low, high = compare_to_half(np.ones((3, 10))).interval
    assert high - low >= 2 * unseen_share(10) - 1e-9
