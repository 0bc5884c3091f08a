"""`ldct pacs accession`: which study work is of, for who may know it; audited, and in no log."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml
from helpers.pacs import derive, series_of, settings, write_ct
from typer.testing import CliRunner

from flows.cli import pacs as command
from flows.cli.app import app
from flows.runtime import progress
from pipeline.core.errors import ConfigError, LdctError
from pipeline.pacs.peers.peer import Unreachable
from pipeline.pacs.work.accession import StudyOfWork, studies_of_work
from pipeline.pacs.work.folder import WorkFolder
from pipeline.pacs.work.item import State, WorkItem
from pipeline.pacs.work.ledger import Ledger
from pipeline.review.decisions import audit_of

NUMBER = "ACC-4711"


@pytest.fixture
def work_folder(tmp_path: Path) -> Path:
    return settings(tmp_path / "work").work


def added(work_folder: Path, folder: Path, number: int = 1) -> tuple[WorkItem, list[Path]]:
    paths = write_ct(folder / f"in-{number}", number, AccessionNumber=f"{NUMBER}-{number}")
    ledger = Ledger(work_folder)
    return ledger.add(series_of(paths), "m", origin="x", rule="r", due=0), paths


class Source:
    """A source that knows one number, or does not answer."""

    def __init__(self, answer: str | LdctError) -> None:
        self.answer = answer

    def accession_number(self, study_uid: str, series_uid: str) -> str:
        if isinstance(self.answer, LdctError):
            raise self.answer
        return self.answer


def found(work_folder: Path, source: Source | None = None, *names: str) -> list[StudyOfWork]:
    return studies_of_work(work_folder, list(names), "a call from the ward", source)


def test_it_is_found_in_what_came_in_dead_letters_in_results_and_at_the_source(
    work_folder, tmp_path
):
    work, paths = added(work_folder, tmp_path)
    places = WorkFolder(work_folder)
    (only,) = found(work_folder)
    assert (only.accession_number, only.study_uid) == ("", work.study_uid)
    assert "no source to ask" in only.found_in
    assert found(work_folder, Source(NUMBER))[0].accession_number == NUMBER
    (silent,) = found(work_folder, Source(Unreachable("the DICOMweb service: ConnectionError")))
    assert (silent.accession_number, silent.found_in[-15:]) == ("", "ConnectionError")

    folder = places.series(work.id)
    folder.parent.mkdir(exist_ok=True)
    paths[0].parent.rename(folder)
    assert found(work_folder)[0].accession_number == f"{NUMBER}-1"
    derive(folder, "m", places.result(work.id))
    dead = places.dead(work.id)
    dead.mkdir(parents=True)
    folder.rename(dead / "series")
    assert found(work_folder)[0].found_in == "files"
    for path in (dead / "series").iterdir():
        path.write_bytes(b"damaged")
    assert found(work_folder)[0].accession_number == f"{NUMBER}-1"  # of the derived series

    ledger = Ledger(work_folder)
    ledger.advance(work, State.SENT)
    assert found(work_folder) == []
    assert found(work_folder, None, work.id)[0].state == "sent"


def test_who_asked_for_what_and_why_is_kept_and_what_was_shown_is_not(
    work_folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("SUDO_USER", "mueller")
    work, _ = added(work_folder, tmp_path)
    found(work_folder, Source(NUMBER))
    (record,) = audit_of(work_folder).records()
    assert (record["act"], record["reason"]) == ("accession shown", "a call from the ward")
    assert record["work"] == [work.id]
    assert record["user"].startswith("mueller as ")
    text = audit_of(work_folder).path.read_text()
    assert NUMBER not in text
    assert work.study_uid not in text
    assert audit_of(work_folder).faults() == []


def test_who_is_not_authorised_is_shown_nothing(work_folder, tmp_path, monkeypatch):
    added(work_folder, tmp_path)
    with pytest.raises(ConfigError, match="--reason"):
        studies_of_work(work_folder, [], " ", None)
    with monkeypatch.context() as other:
        other.setattr(os, "geteuid", lambda: 12345)
        with pytest.raises(ConfigError, match="not this account's"):
            found(work_folder)
    with monkeypatch.context() as other:
        other.setenv("LDCT_KEY_FILE", str(tmp_path / "no key"))
        with pytest.raises(ConfigError, match="LDCT_KEY_FILE"):
            found(work_folder)
        assert not (tmp_path / "no key").exists()
    with pytest.raises(ConfigError, match="there is no work w-of-nobody"):
        found(work_folder, None, "w-of-nobody")
    assert audit_of(work_folder).records() == []


def test_with_another_key_or_a_changed_audit_log_nothing_is_shown(
    work_folder, tmp_path, monkeypatch
):
    added(work_folder, tmp_path)
    found(work_folder)
    (tmp_path / "key").write_bytes(b"another key, of 32 bytes and more")
    with monkeypatch.context() as other:
        other.setenv("LDCT_KEY_FILE", str(tmp_path / "key"))
        with pytest.raises(LdctError, match="another key"):
            found(work_folder)
    log = audit_of(work_folder).path
    log.write_text(log.read_text().replace("a call", "no call"))
    with pytest.raises(LdctError, match="not what was signed"):
        found(work_folder)


@pytest.fixture
def hospital(work_folder: Path, tmp_path: Path) -> Path:
    """Of a folder of studies, which is asked for what no file of the work says."""
    described = {
        "model": "redcnn@pretrained",
        "work": str(work_folder),
        "source": {"folder": str(tmp_path / "in-1")},
        "rules": [{"name": "any"}],
        "send": {"dimse": {"host": "127.0.0.1", "port": 1, "called": "X"}},
    }
    path = tmp_path / "hospital.yaml"
    path.write_text(yaml.safe_dump(described))
    return path


def test_the_command_shows_it_and_logs_nothing_of_it(
    work_folder, hospital, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr(progress, "JSON_LINES", True)
    work, _ = added(work_folder, tmp_path)
    arguments = ["pacs", "accession", str(hospital), "--reason", "a call"]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    assert f"{NUMBER}-1" in shown.output
    assert work.study_uid in shown.output
    assert work.id in shown.output
    assert capfd.readouterr().err == ""
    (row,) = json.loads(CliRunner().invoke(app, [*arguments, work.id, "--json"]).output)["work"]
    assert (row["work"], row["accession_number"]) == (work.id, f"{NUMBER}-1")
    assert row["found_in"] == "source"


def test_the_journal_and_a_container_s_log_are_not_written_to(hospital, monkeypatch):
    arguments = ["pacs", "accession", str(hospital), "--reason", "a call"]
    about = os.fstat(1)
    with monkeypatch.context() as service:
        service.setenv("JOURNAL_STREAM", f"{about.st_dev}:{about.st_ino}")
        refused = CliRunner().invoke(app, arguments)
        assert isinstance(refused.exception, ConfigError)
        assert "journal" in str(refused.exception)
    monkeypatch.setattr(command.os, "getpid", lambda: 1)
    refused = CliRunner().invoke(app, arguments)
    assert "docker compose exec" in str(refused.exception)
