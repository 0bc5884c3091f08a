"""A folder that readers worked in with the version before: its record is whole, and goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.upgrade import unpack

from pipeline.core.errors import LdctError
from pipeline.core.pseudonyms import installation_key
from pipeline.review.decisions import (
    Decision,
    audit_of,
    decide,
    decisions,
    read_policy,
    require_sendable,
)
from pipeline.review.service import Review
from pipeline.review.study.reader_study import CRITERIA, Study, unblinded
from pipeline.review.study.statistics import study_statistics
from pipeline.review.worklist import collect

ACCEPTED, REJECTED = "s-02a6f950f8ce-redcnn-v1", "s-88c8c063aa4a-redcnn-v1"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return unpack(tmp_path)


def test_the_audit_is_whole_and_goes_on(site: Path) -> None:
    journal = audit_of(site / "applied")
    assert (len(journal.records()), journal.broken()) == (15, [])
    root = site / "applied"
    seen = decisions(root)[ACCEPTED].time
    again = Decision(reader="cy", verdict="reject", reason="a second look", seen=seen)
    decide(root, "case", root / ACCEPTED, again)
    assert (len(journal.records()), journal.broken()) == (16, [])


def test_what_readers_decided_still_says_what_may_be_sent(site: Path) -> None:
    root = site / "applied"
    assert read_policy(root).send == "accepted"
    require_sendable(root, root / ACCEPTED)
    with pytest.raises(LdctError, match="invented artefact"):
        require_sendable(root, root / REJECTED)


def test_the_page_shows_both_cases_with_their_originals(site: Path) -> None:
    collection = collect(site / "applied", [site / "in-two"], key=installation_key())
    found = Review(collection).worklist()
    assert sorted(row["decision"]["act"] for row in found["cases"]) == ["accept", "reject"]
    assert all(row["series"].keys() == {"original", "denoised"} for row in found["cases"])
    assert len(decisions(site / "applied")) == 2


def test_the_study_is_read_and_gives_its_statistics(site: Path) -> None:
    root = site / "applied"
    study = Study.model_validate(json.loads((root / "review" / "study.json").read_text()))
    readings = unblinded(root, study)
    assert len(readings) == 6
    assert {reading.reader for reading in readings} == {"anna", "ben"}
    assert study_statistics(readings).criteria.keys() == set(CRITERIA)
