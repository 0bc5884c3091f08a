"""Decisions made on a disk: saved as a file, taken in once, and held to what the page asks for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import Tab, chromium, opened
from helpers.review import case_of, collected, write_case
from typer.testing import CliRunner

from flows.cli.app import app
from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.pseudonyms import installation_key
from pipeline.review.carried_decisions import FORMAT, TakenIn, read_decisions, take_in
from pipeline.review.decisions import (
    Decision,
    Policy,
    audit_of,
    decide,
    decisions,
    files_digest,
    require_sendable,
    set_policy,
)
from pipeline.review.static_export import write_disk
from pipeline.review.worklist import Collection, collect


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    for number in (1, 2):
        write_case(tmp_path / "results", number)
    return collected(tmp_path / "results")


@pytest.fixture
def derived(collection: Collection) -> Path:
    return collection.root / "derived-1"


@pytest.fixture
def carried(collection: Collection, derived: Path, tmp_path: Path) -> Callable[..., list[TakenIn]]:
    """Take in one decision on the first case, as a disk that is written now would have it."""
    usual = {
        "case": case_of(collection, derived),
        "files_sha256": files_digest(derived),
        "reader": "anna",
        "verdict": "reject",
        "reason": "blurred",
        "seen": "",
        "made": "2026-11-29T10:00:00.000Z",
    }

    def taken(**changes: Any) -> list[TakenIn]:
        file = tmp_path / "decisions.json"
        file.write_text(json.dumps({"format": FORMAT, "decisions": [usual | changes]}))
        return take_in(collection, read_decisions(file))

    return taken


def test_a_decision_is_recorded_with_when_and_how_it_came(
    collection: Collection, derived: Path, carried: Callable[..., list[TakenIn]]
) -> None:
    (taken,) = carried()
    assert (taken.outcome, taken.reader, taken.verdict) == ("recorded", "anna", "reject")
    record = audit_of(collection.root).records()[-1]
    wanted = {"act": "reject", "reason": "blurred", "login": "file from a disk"}
    assert wanted.items() <= record.items()
    assert record["made"] == "2026-11-29T10:00:00+00:00"
    assert audit_of(collection.root).faults() == []
    set_policy(collection.root, Policy(send="accepted"))
    with pytest.raises(LdctError, match="rejected by anna: blurred"):
        require_sendable(collection.root, derived)


def test_the_same_file_twice_records_once(
    collection: Collection, carried: Callable[..., list[TakenIn]]
) -> None:
    carried()
    count = len(audit_of(collection.root).records())
    (taken,) = carried()
    assert taken.outcome == "taken in before"
    assert len(audit_of(collection.root).records()) == count


def test_a_decision_that_its_reader_did_not_see_stays(
    collection: Collection, derived: Path, carried: Callable[..., list[TakenIn]]
) -> None:
    cid = case_of(collection, derived)
    decide(collection.root, cid, derived, Decision(reader="ben", verdict="accept"))
    (taken,) = carried()
    assert (taken.outcome, taken.reason.split(";")[0]) == ("refused", "ben accepted it meanwhile")
    last = decisions(collection.root)["derived-1"]
    assert (last.act, last.reader) == ("accept", "ben")
    (taken,) = carried(seen=last.time)  # of a disk written after it
    assert taken.outcome == "recorded"
    assert decisions(collection.root)["derived-1"].act == "reject"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"reason": " "}, "a rejection needs a reason"),
        ({"files_sha256": "0" * 64}, "its files changed since the disk was written"),
        ({"case": "s-000000000000"}, "no derived series here is this case"),
        ({"case": "../derived-1"}, "no derived series here is this case"),
    ],
)
def test_what_the_page_would_refuse_is_refused(
    collection: Collection, carried: Callable[..., list[TakenIn]], changes: dict, reason: str
) -> None:
    (taken,) = carried(**changes)
    assert (taken.outcome, taken.reason.split(":")[0]) == ("refused", reason)
    assert decisions(collection.root) == {}


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"reader": "no such <name>"}, "decisions.0.reader"),
        ({"verdict": "delete"}, "decisions.0.verdict"),
        ({"made": "yesterday"}, "decisions.0.made"),
        ({"login": "admin"}, "decisions.0.login"),
    ],
)
def test_a_file_that_no_page_writes_is_named(
    carried: Callable[..., list[TakenIn]], changes: dict, place: str
) -> None:
    with pytest.raises(ConfigError, match=rf"decisions\.json is no file of decisions .*{place}"):
        carried(**changes)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format": "another", "decisions": []}'])
def test_another_file_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"other\.json is no file of decisions"):
        read_decisions(file)
    with pytest.raises(ConfigError, match=r"absent\.json cannot be read"):
        read_decisions(tmp_path / "absent.json")


@pytest.fixture(scope="module")
def browser(require_program: Callable[[str], str]) -> Iterator[Any]:
    with chromium(require_program) as found:
        yield found


def decide_on(tab: Tab, cid: str, verdict: str, reason: str = "") -> None:
    tab.go(f"case/{cid}")
    if reason:
        tab.page.fill("aside textarea", reason)
    tab.page.click(f"#{verdict}")
    tab.until(f"document.querySelector('#said').textContent.startsWith('{verdict}ed; save it as')")


def test_decisions_go_from_a_disk_into_the_log(
    browser: Any, collection: Collection, tmp_path: Path
) -> None:
    collection = collect(collection.root, key=installation_key())  # as the command does
    disk = tmp_path / "disk"
    tab = opened(browser, (disk / write_disk(collection, disk)).as_uri())
    tab.page.fill("#reader", "anna")
    first, second = (case_of(collection, collection.root / f"derived-{n}") for n in (1, 2))
    tab.go(f"case/{first}")
    tab.page.click("#reject")
    tab.until("document.querySelector('#said').textContent.includes('a rejection needs a reason')")
    decide_on(tab, first, "reject", "blurred")
    decide_on(tab, second, "reject", "a slip")
    decide_on(tab, second, "accept")
    tab.page.reload()
    tab.go("worklist")
    text = tab.ask("document.querySelector('tbody').innerText")
    assert "rejected by anna: blurred" in text
    assert "accepted by anna" in text
    with tab.page.expect_download() as saving:
        tab.page.click("#carry")
    file = tmp_path / saving.value.suggested_filename
    saving.value.save_as(file)
    assert tab.errors == []
    tab.page.close()
    assert "SECRET" not in file.read_text()
    command = ["review", "decisions", str(collection.root), str(file), "--json"]
    for outcomes in ({"recorded"}, {"taken in before"}):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
        taken = json.loads(result.stdout)["decisions"]
        assert {each["outcome"] for each in taken} == outcomes
    decided = {
        cid: decisions(collection.root)[f"derived-{n}"] for n, cid in ((1, first), (2, second))
    }
    assert {cid: each.act for cid, each in decided.items()} == {first: "reject", second: "accept"}
