"""A study in which lesions are marked: its order, marks held to the truth, verdicts, secrecy."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.review import write_case
from pydantic import ValidationError
from typer.testing import CliRunner

from flows.cli.app import app
from flows.tracking.reader_study import plan_lesions
from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.core.pseudonyms import installation_key
from pipeline.review.access.roles import Identity, Role
from pipeline.review.audit_log import FOLDER
from pipeline.review.decisions import audit_of
from pipeline.review.study import localisation
from pipeline.review.study.lesion_truth import TRUTH, Lesion, LesionTruth, kept_truth, save_truth
from pipeline.review.study.localisation import LesionMark, Localised, Marks, held_to, plan_of
from pipeline.review.study.localisation_statistics import WEIGHTED, localisation_statistics
from pipeline.review.study.power import LESION_PLAN, StudyPlan
from pipeline.review.study.reader_study import Study, open_study
from pipeline.review.study.service import StudyService
from pipeline.review.worklist import collect

RUNNER = CliRunner()
RADIUS_MM = 5.0
HERE, THERE = (0.0, 0.0, 30.0), (0.0, 8.0, 30.0)


def truth_of(with_lesions: int, without: int) -> LesionTruth:
    cases = {f"l{k}": [Lesion(at_mm=HERE)] for k in range(with_lesions)}
    return LesionTruth(radius_mm=RADIUS_MM, cases=cases | {f"n{k}": [] for k in range(without)})


def readings_of(truth: LesionTruth, readers: int, rating: dict[str, int]) -> list[Localised]:
    """Every lesion is found in both kinds, rated as its kind; no false mark."""
    return [
        Localised(
            f"r{k}",
            case,
            role,
            tuple(LesionMark(at_mm=each.at_mm, rating=rating[role]) for each in lesions),  # type: ignore[arg-type]
        )
        for k in range(readers)
        for case, lesions in truth.cases.items()
        for role in localisation.ROLES
    ]


def test_each_case_is_read_in_both_kinds_and_comes_back_after_all_others() -> None:
    study = Study(cases=[f"c{k}" for k in range(9)])
    items = plan_of(study, "anna")
    assert plan_of(study, "anna") == items != plan_of(study, "ben")
    first, second = items[:9], items[9:]
    assert sorted(item.case for item in first) == sorted(item.case for item in second)
    assert sum(item.role == "denoised" for item in first) == 4
    kinds = {(item.case, item.role) for item in items}
    assert len(kinds) == 18 == len({item.item for item in items})
    assert first[-1].case != second[0].case


def test_a_mark_is_on_the_nearest_lesion_within_its_radius() -> None:
    lesions = [Lesion(at_mm=HERE), Lesion(at_mm=THERE, radius_mm=7.0)]
    truth = LesionTruth(radius_mm=RADIUS_MM, cases={"l": lesions, "m": lesions, "n": [], "o": []})
    places = [(0, 1, 30), (0, 4.5, 30), (0, 5, 34), (0, 0, 36), (40, 0, 30)]
    marks = tuple(LesionMark(at_mm=place, rating=3) for place in places)
    held = held_to(truth, "l", marks)
    # 4.5 mm from either one's middle or less; 3 mm aside and 4 mm above THERE; 6 mm above HERE.
    assert [each.lesion for each in held] == [0, 1, 1, None, None]
    assert [each.away_mm for each in held] == pytest.approx(
        [1, 3.5, 5, 6, np.hypot(40, 0)], abs=1e-9
    )
    assert [each.lesion for each in held_to(truth, "n", marks[:1])] == [None]


def test_the_highest_rating_on_a_lesion_counts_and_others_on_it_are_not_false() -> None:
    truth = truth_of(2, 2)
    near = (0.0, 1.0, 30.0)
    marks = (LesionMark(at_mm=HERE, rating=2), LesionMark(at_mm=near, rating=4))
    far = (LesionMark(at_mm=(50.0, 0.0, 0.0), rating=1), LesionMark(at_mm=THERE, rating=3))
    readings = [
        Localised("r", case, role, {"l0": marks, "n1": far}.get(case, ()))
        for case in truth.cases
        for role in localisation.ROLES
    ]
    found = localisation.marked(readings, truth, localisation.common_cases(readings))
    assert found.lesions[0, 0].tolist() == [4, -np.inf]
    assert found.false_marks.max(axis=3)[0, 0].tolist() == [-np.inf] * 3 + [3]
    assert (found.false_marks[0, 0] > -np.inf).sum() == 2


def test_the_plan_decides_over_the_weighted_figure_alone() -> None:
    plan = StudyPlan(lesions=True, readers=5, margin=0.1, reader_sd=0, case_sd=0.1, residual_sd=0.3)
    needed = plan.cases_needed()
    assert needed is not None
    assert needed % 2 == 0
    truth = truth_of(needed // 2, needed // 2)
    same = {"original": 4, "denoised": 4}
    equal = localisation_statistics(readings_of(truth, 5, same), truth, plan)
    row = equal.criteria[WEIGHTED]
    assert (equal.no_verdict, row.difference, row.non_inferior) == ("", 0, True)
    low, high = row.interval
    assert low < 0 < high
    assert (row.original, equal.figures["lesions found"].denoised) == (1, 1)
    assert equal.figures["JAFROC"].non_inferior is None
    missed = [
        each if each.role == "original" else Localised(each.reader, each.case, each.role, ())
        for each in readings_of(truth, 5, same)
    ]
    worse = localisation_statistics(missed, truth, plan).criteria[WEIGHTED]
    assert (worse.original, worse.denoised, worse.non_inferior) == (1, 0.5, False)
    few = localisation_statistics(readings_of(truth, 4, same), truth, plan)
    assert f"{needed // 2} cases with lesions and {needed // 2} without" in few.no_verdict
    assert few.criteria[WEIGHTED].non_inferior is None
    assert few.criteria[WEIGHTED].difference == 0


def test_lesions_and_normal_cases_are_each_needed() -> None:
    """Many of one kind make up for none of the other."""
    plan = StudyPlan(lesions=True, margin=0.2, reader_sd=0, case_sd=0.1, residual_sd=0.3)
    needed = plan.cases_needed() or 0
    truth = truth_of(needed // 2 - 1, 2 * needed)
    same = {"original": 4, "denoised": 4}
    found = localisation_statistics(readings_of(truth, plan.readers, same), truth, plan)
    assert found.no_verdict.startswith("no verdict")
    with pytest.raises(NothingUsableError, match="all readers ended 0 cases"):
        localisation_statistics([], truth, plan)


def test_points_of_the_froc_are_at_each_rating() -> None:
    truth = truth_of(2, 2)
    rated = readings_of(truth, 2, {"original": 5, "denoised": 3})
    points = localisation_statistics(rated, truth).froc
    assert [(each.rating, each.llf) for each in points["original"]] == [
        (5, 1.0), (4, 1.0), (3, 1.0), (2, 1.0), (1, 1.0),
    ]  # fmt: skip
    assert [each.llf for each in points["denoised"]] == [0, 0, 1, 1, 1]
    assert {each.nlf for each in points["denoised"]} == {0.0}


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ({"a": [{"at_mm": HERE}], "n": [], "m": []}, "1 cases with lesions"),
        ({"a": [{"at_mm": HERE}], "b": [{"at_mm": HERE}], "n": []}, "1 cases without lesions"),
        (
            {"a": [{"at_mm": HERE, "weight": 0.4}, {"at_mm": THERE}], "n": [], "m": []},
            "give weights to all",
        ),
        (
            {"a": [{"at_mm": HERE, "weight": 0.4}, {"at_mm": THERE, "weight": 0.4}], "n": []},
            "add up to 0.8",
        ),
    ],
)
def test_a_truth_that_cannot_be_used_is_refused(cases: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LesionTruth(radius_mm=RADIUS_MM, cases=cases)


def test_a_truth_that_was_changed_is_refused(tmp_path: Path) -> None:
    save_truth(tmp_path, truth_of(2, 2))
    assert kept_truth(tmp_path) == truth_of(2, 2)
    path = tmp_path / FOLDER / TRUTH
    path.write_text(path.read_text().replace("30.0", "31.0"))
    with pytest.raises(ConfigError, match="changed since the study was planned"):
        kept_truth(tmp_path)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four cases."""
    folder = tmp_path_factory.mktemp("cases")
    for number in range(1, 5):
        write_case(folder, number, places_mm=[27.5, 30.0, 32.5])
    return folder


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """The cases, two of them with a lesion, and their YAML."""
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    cases = {
        "derived-1": [{"at_mm": list(HERE)}],
        "derived-2": [
            {"at_mm": list(HERE), "weight": 0.25},
            {"at_mm": list(THERE), "weight": 0.75},
        ],
        "derived-3": [],
        "derived-4": [],
    }
    (tmp_path / "truth.yaml").write_text(yaml.safe_dump({"radius_mm": RADIUS_MM, "cases": cases}))
    return tmp_path


def served(root: Path) -> StudyService:
    """As `ldct review` serves it, which names cases by the installation's key."""
    return StudyService(collect(root, key=installation_key()))


def invoked(*arguments: object) -> str:
    ended = RUNNER.invoke(app, ["review", *map(str, arguments)], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def planned(root: Path, *options: object) -> dict:
    return json.loads(invoked("plan", root, "--lesions", root / "truth.yaml", *options, "--json"))


def read_all(root: Path, study: StudyService, reader: str) -> None:
    """Lesions of the original rated 5 and of the denoised 3, one false mark in derived-3."""
    names = {cid: case.folder.name for cid, case in study.collection.cases.items() if case.folder}
    for item in plan_of(open_study(root, []), reader):
        rating = 5 if item.role == "original" else 3
        places = [lesion.at_mm for lesion in kept_truth(root).cases[item.case]]
        marks = [{"at_mm": place, "rating": rating} for place in places]
        if names[item.case] == "derived-3":
            marks = [{"at_mm": [90, 90, 90], "rating": 4}]
        study.save(reader, {"item": item.item, "marks": marks, "ended": True}, "own computer")


def test_a_study_from_its_plan_to_its_table(root: Path) -> None:
    assert planned(root)["lesions"] is True
    plan = planned(root, "--readers", 6)
    assert plan["cases_needed"] == LESION_PLAN.cases_needed(6)
    assert "Readers mark lesions" in invoked("plan", root)
    study = served(root)
    reading = study.reading("anna")
    assert reading["kind"] == "lesions"
    assert len(reading["items"]) == 8
    assert "4 cases are here, with lesions or without" in reading["note"]
    shown = json.dumps(reading)
    assert "original" not in shown
    assert not any(cid in shown for cid in study.collection.cases)
    for reader in ("anna", "ben"):
        read_all(root, study, reader)
    found = json.loads(invoked("stats", root, "--csv", root / "marks.csv", "--json"))
    assert found["no_verdict"].startswith("no verdict: the plan needs 6 readers")
    # Against derived-3's false mark of 4: 5 is higher, 3 is not; derived-4 has none.
    row = found["criteria"][WEIGHTED]
    assert (row["original"], row["denoised"], row["difference"]) == (1.0, 0.5, -0.5)
    assert found["figures"]["false marks per case"]["original"] == 0.25
    assert "lesions found at false marks per case" in invoked("stats", root)
    rows = list(csv.DictReader(io.StringIO((root / "marks.csv").read_text())))
    # Two readers and two kinds: 1 + 2 lesions, a false mark, and a reading without any.
    assert len(rows) == 2 * 2 * (1 + 2 + 1 + 1)
    assert {row["lesion"] for row in rows if row["lesions_in_case"] == "2"} == {"1", "2"}
    assert [row["rating"] for row in rows if row["mark"] == ""] == [""] * 4
    assert audit_of(root).broken() == []


def test_a_pilot_s_marks_say_how_much_they_vary(
    root: Path, written: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    planned(root)
    study = served(root)
    for reader in ("anna", "ben"):
        read_all(root, study, reader)
    later = tmp_path_factory.mktemp("later")
    shutil.copytree(written, later, dirs_exist_ok=True)
    (later / "truth.yaml").write_text((root / "truth.yaml").read_text())
    options = ["--pilot", str(root), "--margin", "0.9", "--json"]
    found = json.loads(invoked("plan", later, "--lesions", later / "truth.yaml", *options))
    assert (found["reader_sd"], found["margin"]) == (0, 0.9)
    assert found["residual_sd"] >= 0.1
    refused = RUNNER.invoke(app, ["review", "plan", str(later), "--pilot", str(tmp_scores(later))])
    assert "lesions are marked in one of the two studies" in str(refused.exception)


def tmp_scores(beside: Path) -> Path:
    """A folder whose study is of scores."""
    folder = beside / "scores"
    folder.mkdir()
    open_study(folder, ["a"])
    return folder


def test_what_is_not_planned_right_is_refused(root: Path) -> None:
    text = (root / "truth.yaml").read_text()
    for wrong, message in (
        (text.replace("derived-4", "derived-9"), "derived-9 is no case with"),
        (text.replace("radius_mm: 5.0", "radius_mm: 0"), "radius_mm"),
        ("a: [", "cannot be read"),
    ):
        (root / "truth.yaml").write_text(wrong)
        arguments = ["review", "plan", str(root), "--lesions", str(root / "truth.yaml")]
        refused = RUNNER.invoke(app, arguments)
        assert isinstance(refused.exception, ConfigError), message
        assert message in str(refused.exception)
    assert not (root / FOLDER / TRUTH).exists()


def test_marks_are_saved_at_once_and_unseen_until_all_have_ended(root: Path) -> None:
    planned(root)
    study = served(root)
    item = study.reading("anna")["items"][0]["item"]
    body = {"item": item, "marks": [{"at_mm": HERE, "rating": None}]}
    study.save("anna", body, "own computer")
    again = study.reading("anna")["items"][0]
    assert again["score"]["marks"] == [{"at_mm": list(HERE), "rating": None}]
    assert not again["complete"]
    with pytest.raises(ValidationError, match="rate every mark"):
        study.save("anna", {**body, "ended": True}, "own computer")
    with pytest.raises(ConfigError, match="anna has no item"):
        study.save("anna", {**body, "item": "other"}, "own computer")
    with pytest.raises(ConfigError, match="anna has read 0 of 8"):
        study.csv(Identity("anna", frozenset(Role), "own computer"))
    read_all(root, study, "anna")
    assert len(study.csv(Identity("anna", frozenset(Role), "own computer")).splitlines()) == 11
    with pytest.raises(ConfigError, match="before its first reading"):
        plan_lesions(root, root / "truth.yaml", [], {}, None)
    assert Marks(item=item).ended is False
