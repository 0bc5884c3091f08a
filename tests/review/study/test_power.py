"""How many readers and cases a study needs: against simulated studies; fixed before readings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.review import collected, write_case

from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.review.decisions import audit_of
from pipeline.review.study.power import PLANNED, StudyPlan, deviations_of_pilot, read_plan, set_plan
from pipeline.review.study.reader_comparison import compare_scores
from pipeline.review.study.reader_study import CRITERIA, Score, open_study, plan, save
from pipeline.review.study.service import StudyService

SEVERAL = StudyPlan(readers=6)


def drawn_scores(chosen: StudyPlan, generator: np.random.Generator, cases: int) -> np.ndarray:
    """Of no true difference, with the plan's own standard deviations."""
    readers = chosen.readers
    apart = (
        generator.normal(0, chosen.reader_sd, (readers, 1))
        + generator.normal(0, chosen.case_sd, (1, cases))
        + generator.normal(0, chosen.residual_sd, (readers, cases))
    )
    level = generator.normal(3, 0.8, (1, cases))
    return np.stack([level - apart / 2, level + apart / 2])


def test_simulated_studies_of_the_needed_size_succeed_as_often_as_planned() -> None:
    cases = SEVERAL.cases_needed()
    assert cases is not None
    generator = np.random.default_rng(2)
    found = [
        compare_scores(drawn_scores(SEVERAL, generator, cases)).interval[0] > -SEVERAL.margin
        for _ in range(1500)
    ]
    assert np.mean(found) == pytest.approx(SEVERAL.power_of(6, cases), abs=0.025)
    assert SEVERAL.power_of(6, cases) >= SEVERAL.power_of_each == pytest.approx(1 - 0.2 / 6)
    assert SEVERAL.power_of(6, cases - 1) < SEVERAL.power_of_each


def test_more_readers_need_fewer_cases_and_two_never_suffice() -> None:
    needed = [SEVERAL.cases_needed(readers) for readers in range(5, 11)]
    assert needed == sorted(needed, reverse=True)
    assert SEVERAL.cases_needed(2) is None
    wide = SEVERAL.model_copy(update={"margin": 1.0}).cases_needed()
    assert wide < SEVERAL.cases_needed()


def test_a_pilot_s_deviations_are_those_it_was_drawn_with() -> None:
    wide = StudyPlan(readers=60, reader_sd=0.3, case_sd=0.5, residual_sd=0.7)
    drawn = drawn_scores(wide, np.random.default_rng(3), 400)
    found = deviations_of_pilot([drawn])
    assert found["reader_sd"] == pytest.approx(0.3, abs=0.08)
    assert found["case_sd"] == pytest.approx(0.5, abs=0.05)
    assert found["residual_sd"] == pytest.approx(0.7, abs=0.02)
    with pytest.raises(NothingUsableError, match="a pilot needs 2 readers"):
        deviations_of_pilot([np.ones((2, 1, 9))])


def test_a_plan_is_fixed_once_anybody_has_marked_anything(tmp_path: Path) -> None:
    assert read_plan(tmp_path) == StudyPlan()
    set_plan(tmp_path, SEVERAL)
    assert read_plan(tmp_path) == SEVERAL
    study = open_study(tmp_path, ["a", "b"])
    save(tmp_path, study, "anna", Score(item=plan(study, "anna")[0].item, left={"noise": 2}))
    with pytest.raises(ConfigError, match="before its first reading"):
        set_plan(tmp_path, StudyPlan(margin=2))
    assert read_plan(tmp_path) == SEVERAL
    assert audit_of(tmp_path).broken() == []


def test_a_choice_is_forced_where_the_plan_says_so(tmp_path: Path) -> None:
    write_case(tmp_path, 1)
    study = StudyService(collected(tmp_path))
    assert not study.reading("anna")["forced_choice"]
    set_plan(tmp_path, StudyPlan(forced_choice=True))
    reading = study.reading("anna")
    assert reading["forced_choice"]
    full = dict.fromkeys(CRITERIA, 3)
    score = {"item": reading["items"][0]["item"], "left": full, "right": full}
    with pytest.raises(ConfigError, match="choose left or right"):
        study.save("anna", {**score, "preference": "neither"}, "")
    study.save("anna", {**score, "preference": "left"}, "")
    assert study.reading("anna")["items"][0]["complete"]


def test_a_plan_of_a_version_before_is_read(tmp_path: Path) -> None:
    """It says nothing of a forced choice."""
    kept = SEVERAL.model_dump(exclude={"forced_choice"})
    audit_of(tmp_path).append({"act": PLANNED, **kept})
    assert read_plan(tmp_path) == SEVERAL


def test_a_plan_that_no_number_of_cases_fulfils_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="plan more readers"):
        set_plan(tmp_path, StudyPlan(readers=2))
