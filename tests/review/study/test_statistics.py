"""The reader study: blind, random, resumable; its statistics against known answers."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.review.study.agreement import moments, resampled_kappa
from pipeline.review.study.power import StudyPlan
from pipeline.review.study.reader_study import (
    CRITERIA,
    Reading,
    Score,
    Study,
    as_csv,
    open_study,
    plan,
    save,
    scores,
    unblinded,
)
from pipeline.review.study.statistics import study_statistics, wilcoxon_p

CASES = [f"case-{number:02d}" for number in range(20)]


def readings_of(differences: list[int], *, readers: int = 1, original: int = 3) -> list[Reading]:
    """One reading of each case by each reader, the same difference in every criterion."""
    return [
        Reading(
            reader=f"reader-{reader}",
            case=f"case-{number:02d}",
            repeat=False,
            denoised_side="left",
            preference=int(np.sign(difference)),
            original=dict.fromkeys(CRITERIA, original),
            denoised=dict.fromkeys(CRITERIA, original + difference),
        )
        for reader in range(readers)
        for number, difference in enumerate(differences)
    ]


def test_a_plan_is_random_balanced_and_the_same_every_time() -> None:
    study = Study(cases=CASES, seed=3)
    items = plan(study, "anna")
    assert items == plan(study, "anna")
    first = [item.case for item in items if not item.repeat]
    assert sorted(first) == CASES
    assert first != CASES
    assert [item.case for item in plan(study, "ben")] != [item.case for item in items]
    again = [item.case for item in items if item.repeat]
    assert len(again) == 5
    assert len(set(again)) == 5
    sides = Counter(item.left for reader in "abcdefgh" for item in plan(study, reader))
    assert 0.35 < sides["original"] / sides.total() < 0.65


def test_the_name_of_an_item_holds_neither_case_nor_sides() -> None:
    names = [item.item for item in plan(Study(cases=CASES), "anna")]
    assert len(set(names)) == len(names)
    assert not any("case" in name or "original" in name for name in names)


def test_scores_go_on_where_they_stopped(tmp_path: Path) -> None:
    study = open_study(tmp_path, CASES[:3])
    item = plan(study, "anna")[0].item
    half = Score(item=item, left={"noise": 2})
    save(tmp_path, study, "anna", half)
    assert scores(tmp_path, "anna")[item] == half
    assert not half.complete
    full = dict.fromkeys(CRITERIA, 4)
    save(tmp_path, study, "anna", Score(item=item, left=full, right=full, preference="left"))
    assert scores(tmp_path, "anna")[item].complete
    assert open_study(tmp_path, ["another"]) == study  # fixed at its first use
    with pytest.raises(ConfigError, match="no item"):
        save(tmp_path, study, "ben", half)
    for name in ("../anna", "", "a" * 65, "anna/ben", ".anna", ".."):
        with pytest.raises(ConfigError, match="reader's name"):
            save(tmp_path, study, name, half)


def test_unblinding_puts_each_side_where_it_belongs(tmp_path: Path) -> None:
    """A reader who scores denoised 5 and prefers it, whichever side it is on."""
    study = open_study(tmp_path, CASES[:6])
    for item in plan(study, "anna"):
        good, bad = dict.fromkeys(CRITERIA, 5), dict.fromkeys(CRITERIA, 2)
        denoised_left = item.left == "denoised"
        score = Score(
            item=item.item,
            left=good if denoised_left else bad,
            right=bad if denoised_left else good,
            preference="left" if denoised_left else "right",
        )
        save(tmp_path, study, "anna", score)
    found = unblinded(tmp_path, study)
    assert len(found) == 6 + 2
    assert {reading.denoised["noise"] for reading in found} == {5}
    assert {reading.original["noise"] for reading in found} == {2}
    assert {reading.preference for reading in found} == {1}
    assert {reading.denoised_side for reading in found} == {"left", "right"}
    table = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert table[0]["reader"] == "anna"
    assert (table[0]["original noise"], table[0]["denoised confidence"]) == ("2", "5")
    assert len(table) == 8


def kappa(pairs: NDArray) -> float:
    return float(resampled_kappa(np.array([moments(np.array(pairs, float))]))[0])


def test_weighted_kappa_is_cohens() -> None:
    assert kappa(np.array([[1, 1], [3, 3], [5, 5], [2, 2]])) == pytest.approx(1)
    assert kappa(np.array([[1, 5], [5, 1]])) == pytest.approx(-1)
    assert np.isnan(kappa(np.array([[3, 3], [3, 3]])))
    drawn = np.random.default_rng(0).integers(1, 6, (40, 2))
    drawn[:25, 1] = drawn[:25, 0]
    truth = cohen_kappa_score(drawn[:, 0], drawn[:, 1], labels=range(1, 6), weights="quadratic")
    assert kappa(drawn) == pytest.approx(truth)


#: Of the size that the usual plan asks for.
READERS = StudyPlan().readers
ENOUGH = StudyPlan().cases_needed() or 0


def test_the_same_scores_are_not_inferior_and_much_worse_ones_are() -> None:
    equal = study_statistics(readings_of([0] * ENOUGH, readers=READERS)).criteria["noise"]
    low, high = equal.interval
    assert (equal.difference, equal.non_inferior) == (0, True)
    assert low < 0 < high
    assert equal.wilcoxon_p is None
    worse = study_statistics(readings_of([-1] * ENOUGH, readers=READERS)).criteria["noise"]
    assert (worse.difference, worse.non_inferior) == (-1, False)


def test_one_reader_with_two_cases_and_equal_marks_shows_nothing() -> None:
    found = study_statistics(readings_of([0, 0]))
    assert "5 readers who each read the same" in found.no_verdict
    assert "1 read the same 2" in found.no_verdict
    for criterion in found.criteria.values():
        assert criterion.non_inferior is None
        assert criterion.interval == (None, None)


@pytest.mark.parametrize(("readers", "cases"), [(READERS - 1, ENOUGH), (READERS, ENOUGH - 1)])
def test_below_the_plan_there_is_an_interval_and_no_verdict(readers: int, cases: int) -> None:
    found = study_statistics(readings_of([0] * cases, readers=readers))
    assert found.no_verdict
    assert found.criteria["noise"].interval[0] < 0
    assert found.criteria["noise"].non_inferior is None


def test_only_cases_that_all_readers_read_are_compared() -> None:
    every = readings_of([0] * ENOUGH + [-4] * 3, readers=READERS)
    read = [each for each in every if each.reader != "reader-0" or each.denoised["noise"] == 3]
    found = study_statistics(read)
    assert (found.common_cases, found.cases) == (ENOUGH, ENOUGH + 3)
    assert found.criteria["noise"].difference == 0


def test_wilcoxon_is_scipys() -> None:
    untied = np.array([0.5, -1.25, 2.0, 3.5, -0.1, 4.25, 6.0])
    exact = stats.wilcoxon(untied, method="exact").pvalue
    assert wilcoxon_p(untied) == pytest.approx(exact)
    tied = np.array([1.0, 1, -1, 0, 2, 2, 0])
    counted = stats.wilcoxon(tied, zero_method="pratt", method=stats.PermutationMethod()).pvalue
    assert wilcoxon_p(tied) == pytest.approx(counted)


def test_the_margin_decides() -> None:
    differences = [0, -1, 0, -1, 0, 0, -1, 0, 0, -1] * 10
    found = readings_of(differences, readers=10)
    for margin, verdict in ((1.0, True), (0.45, False)):
        plan = StudyPlan(readers=10, margin=margin)
        assert study_statistics(found, plan).criteria["noise"].non_inferior is verdict


def test_readers_who_agree_do_not_make_more_cases() -> None:
    differences = [0, 1, -1, 1, 0, 0, 1, -1, 0, 1]
    two = study_statistics(readings_of(differences, readers=2)).criteria["noise"]
    five = study_statistics(readings_of(differences, readers=5)).criteria["noise"]
    assert two.interval == five.interval
    assert two.degrees_of_freedom is None  # by cases alone: no reader differs


def test_one_case_gives_no_interval_and_no_verdict() -> None:
    found = study_statistics(readings_of([0], readers=3)).criteria["noise"]
    assert found.interval == (None, None)
    assert found.non_inferior is None


def test_intra_reader_kappa_is_of_repeats_only() -> None:
    first = readings_of([1, 0, -1, 1, 0], original=3)
    again = [replace(reading, repeat=True) for reading in first[:3]]
    found = study_statistics(first + again).criteria["noise"]
    assert found.intra_reader_kappa.kappa == 1
    assert found.intra_reader_kappa.pairs == 6
    assert found.inter_reader_kappa is None
    assert study_statistics(first).criteria["noise"].intra_reader_kappa is None


def test_preferences_are_counted_with_wilsons_interval() -> None:
    found = study_statistics(readings_of([1] * 8 + [-1] * 2 + [0] * 5)).preference
    assert (found.denoised, found.original, found.neither) == (8, 2, 5)
    assert found.share == 0.8
    assert found.interval == pytest.approx([0.49, 0.943], abs=0.001)
    assert found.sign_test_p == pytest.approx(2 * 56 / 1024)
    assert (found.share_of_all, found.interval_of_all) == (None, (None, None))  # of one reader


def test_a_preference_over_readers_and_cases_is_wider_than_over_readings() -> None:
    """Six readers who all see the same in each case add no cases."""
    case_by_case = [1] * 15 + [-1] * 5
    alone = readings_of(case_by_case)
    readings = [replace(one, reader=f"r{number}") for number in range(6) for one in alone]
    found = study_statistics(readings).preference
    assert (found.share, found.share_of_all) == (0.75, 0.75)
    narrow, wide = np.diff(found.interval)[0], np.diff(found.interval_of_all)[0]
    assert wide > 2 * narrow
    assert found.sign_test_p < 1e-6 < found.p_of_all


def test_a_study_without_readings_is_refused() -> None:
    with pytest.raises(NothingUsableError, match="no complete reading"):
        study_statistics([])
