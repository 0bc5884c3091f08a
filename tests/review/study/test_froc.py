"""JAFROC and its parts: published figures, brute force, a known truth, and no collapse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate, stats

from pipeline.review.study.froc import (
    UNMARKED,
    Marked,
    Merit,
    false_marks_per_case,
    jafroc,
    lesions_found,
)
from pipeline.review.study.reader_comparison import (
    ErrorCovariances,
    compare,
    compare_merits,
    hillis_degrees_of_freedom,
    unseen_share_of_merit,
)

#: The worked example of Chakraborty's book on FROC (RJafrocFrocBook, "AFROC vs. wAFROC"), which
#: RJafroc's UtilFigureOfMerit prints as AFROC 0.8472222 and wAFROC 0.7425: five cases with lesions,
#: of which one is not marked, and four without.
BOOK_LESIONS = [0.9, -0.2, 1.6, UNMARKED, 3, 2, 1, 2.5, 1]
BOOK_CASE_OF = [0, 1, 2, 2, 3, 3, 4, 4, 4]
BOOK_WEIGHTS = [1, 1, 0.1, 0.9, 0.9, 0.1, 0.3, 0.4, 0.3]
BOOK_FALSE = [[1.5], [], [], [], [], [], [0.5], [0.7, 0.6], [-0.3]]

#: wAFROC of five modalities by four readers, 200 mammograms, half with lesions (Zanca et al., Med
#: Phys 36 (2009) 765, RJafroc's dataset04), with the jackknife's covariances and the analysis of
#: random readers and random cases, as RJafroc's StSignificanceTesting prints them.
ZANCA = np.array(
    [
        [0.77926667, 0.72489167, 0.70362500, 0.80509167],
        [0.78700000, 0.72690000, 0.72261667, 0.80378333],
        [0.72969167, 0.71575833, 0.67230833, 0.77265833],
        [0.81013333, 0.74311667, 0.69435833, 0.82940833],
        [0.74880000, 0.68227500, 0.65517500, 0.77125000],
    ]
)
ZANCA_ERRORS = ErrorCovariances(
    variance=0.00092808365, cov1=0.00042203598, cov2=0.00033615564, cov3=0.00030431124
)


def book() -> Marked:
    """One reader, the same marks in both modalities."""
    padded = [row + [UNMARKED] * (2 - len(row)) for row in BOOK_FALSE]
    return Marked(
        lesions=np.tile(np.array(BOOK_LESIONS), (2, 1, 1)),
        case_of=np.array(BOOK_CASE_OF),
        weights=np.array(BOOK_WEIGHTS),
        false_marks=np.tile(np.array(padded), (2, 1, 1, 1)),
    )


def drawn(
    generator: np.random.Generator,
    *,
    readers: int = 3,
    with_lesions: int = 8,
    without: int = 7,
    rate: float = 0.6,
    mean: float = 1.5,
    reader_sd: float = 0.3,
    case_sd: float = 0.5,
    threshold: float = 0.0,
) -> Marked:
    """Marks whose truth is the same in both modalities: lesions rated N(mean, 1), false marks
    N(0, 1), `rate` of them a case (Poisson), with readers and cases that differ; none below the
    threshold is made."""
    per_case = generator.integers(1, 3, with_lesions)
    case_of = np.repeat(np.arange(with_lesions), per_case)
    cases = with_lesions + without
    reader = reader_sd * generator.standard_normal((2, readers, 1))
    easy = case_sd * generator.standard_normal(len(case_of))
    own = np.sqrt(1 - case_sd**2) * generator.standard_normal((2, readers, len(case_of)))
    lesions = mean + reader + easy + own
    most = 6
    count = generator.poisson(rate, (2, readers, cases))
    false = generator.standard_normal((2, readers, cases, most))
    kept = (np.arange(most) < count[..., None]) & (false >= threshold)
    return Marked(
        lesions=np.where(lesions >= threshold, lesions, UNMARKED),
        case_of=case_of,
        weights=1 / per_case[case_of],
        false_marks=np.where(kept, false, UNMARKED),
    )


def without_case(marked: Marked, case: int) -> Marked:
    """By hand: its lesions and its false marks are gone, and cases are counted again."""
    kept = marked.case_of != case
    of = marked.case_of[kept]
    return Marked(
        lesions=marked.lesions[:, :, kept],
        case_of=of - (of > case),
        weights=marked.weights[kept],
        false_marks=np.delete(marked.false_marks, case, axis=2),
    )


def test_the_figures_of_a_published_example_come_out() -> None:
    found = book()
    assert jafroc(found, weighted=False).values == pytest.approx(0.8472222, abs=1e-7)
    assert jafroc(found, weighted=True).values == pytest.approx(0.7425, abs=1e-12)
    # Its FROC: (NLF, LLF) = (5 / 9, 8 / 9) at the lowest rating; 5 lesions are rated 1 and higher.
    assert false_marks_per_case(found).values == pytest.approx(5 / 9)
    assert lesions_found(found).values == pytest.approx(8 / 9)
    assert lesions_found(found, 1.6).values == pytest.approx(4 / 9)
    assert false_marks_per_case(found, 0.7).values == pytest.approx(2 / 9)


def test_a_published_analysis_of_its_figures_comes_out() -> None:
    """Five modalities share the mean square of modality by reader, of 12 degrees of freedom."""
    rest = ZANCA - ZANCA.mean(axis=1, keepdims=True) - ZANCA.mean(axis=0) + ZANCA.mean()
    by_reader = (rest**2).sum() / 12
    assert by_reader == pytest.approx(0.00016960349, abs=1e-10)
    by_case = 4 * (ZANCA_ERRORS.cov2 - ZANCA_ERRORS.cov3)
    assert np.sqrt(2 / 4 * (by_reader + by_case)) == pytest.approx(0.01218567, abs=1e-8)
    freedom = hillis_degrees_of_freedom(by_reader, by_case, readers=12 + 1)
    assert freedom == pytest.approx(36.793343, abs=1e-4)
    found = compare(ZANCA[[4, 3]], ZANCA_ERRORS)
    assert found.difference == pytest.approx(0.0548791667, abs=1e-8)


@pytest.mark.parametrize("seed", [0, 1])
def test_figures_without_a_case_are_those_of_the_other_cases(seed: int) -> None:
    marked = drawn(np.random.default_rng(seed))
    figures = {
        "weighted": lambda of: jafroc(of, weighted=True),
        "not weighted": lambda of: jafroc(of, weighted=False),
        "found": lesions_found,
        "false": false_marks_per_case,
    }
    for name, figure in figures.items():
        merit: Merit = figure(marked)
        for case in range(merit.left_out.shape[2]):
            expected = figure(without_case(marked, case)).values
            assert merit.left_out[:, :, case] == pytest.approx(expected), (name, case)


def test_one_lesion_a_case_and_ratings_of_cases_are_an_roc_s_area() -> None:
    generator = np.random.default_rng(3)
    lesions = generator.integers(1, 6, (2, 2, 12)).astype(float)
    false = generator.integers(1, 6, (2, 2, 20, 1)).astype(float)
    marked = Marked(lesions, np.arange(12), np.ones(12), false)
    for weighted in (True, False):
        found = jafroc(marked, weighted=weighted).values
        for k, reader in np.ndindex(2, 2):
            u, _ = stats.mannwhitneyu(lesions[k, reader], false[k, reader, 12:, 0])
            assert found[k, reader] == pytest.approx(u / (12 * 8))


def true_figure(rate: float, mean: float, threshold: float) -> float:
    """Of `drawn` without differences between readers: how often a lesion beats the highest of a
    Poisson number of false marks above the threshold, ties one half."""

    def none_above(z: float) -> float:
        return float(np.exp(-rate * stats.norm.sf(z)))

    beaten, _ = integrate.quad(
        lambda z: stats.norm.pdf(z - mean) * none_above(z), threshold, mean + 9
    )
    missed = stats.norm.cdf(threshold - mean)
    return float(beaten + missed * none_above(threshold) / 2)


@pytest.mark.parametrize(("rate", "threshold"), [(0.6, 0.0), (1.5, 1.2)])
def test_the_figure_is_the_probability_that_it_is_said_to_be(rate: float, threshold: float) -> None:
    marked = drawn(
        np.random.default_rng(5),
        readers=10,
        with_lesions=300,
        without=300,
        rate=rate,
        reader_sd=0.0,
        threshold=threshold,
    )
    expected = true_figure(rate, 1.5, threshold)
    for weighted in (True, False):
        found = jafroc(marked, weighted=weighted).values.mean()
        assert found == pytest.approx(expected, abs=0.015)


def intervals(studies: int, figure: str, **how: float) -> NDArray[np.float64]:
    """[studies, ends] of the difference in studies of no true difference."""
    generator, found = np.random.default_rng(11), []
    for _ in range(studies):
        marked = drawn(generator, readers=4, with_lesions=25, without=25, **how)  # type: ignore[arg-type]
        merit = (
            false_marks_per_case(marked)
            if figure == "false"
            else jafroc(marked, weighted=figure == "weighted")
        )
        found.append(compare_merits(merit.values, merit.left_out, narrowest=0).interval)
    return np.array(found)


@pytest.mark.parametrize("figure", ["weighted", "not weighted", "false"])
def test_intervals_hold_the_truth_as_often_as_they_say(figure: str) -> None:
    """Without the least width, which would only widen them."""
    found = intervals(600, figure)
    held = ((found[:, 0] <= 0) & (found[:, 1] >= 0)).mean()
    assert 0.92 <= held <= 0.985


def test_no_interval_collapses_and_one_reader_has_none() -> None:
    marked = drawn(np.random.default_rng(7))
    same = replace(
        marked,
        lesions=marked.lesions[[0, 0]][:, [0, 0]],
        false_marks=marked.false_marks[[0, 0]][:, [0, 0]],
    )
    merit = jafroc(same, weighted=True)
    reach = unseen_share_of_merit(7)
    assert reach == pytest.approx(0.25 * (1 - 0.025 ** (1 / 7)))
    found = compare_merits(merit.values, merit.left_out, narrowest=reach)
    assert found.interval == pytest.approx((-reach, reach))
    with pytest.raises(ValueError, match="readers are random"):
        compare_merits(merit.values[:, :1], merit.left_out[:, :1], narrowest=reach)
