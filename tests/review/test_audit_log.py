"""The audit log against who can write it and has not the installation's key."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from pathlib import Path

import pytest
from helpers.pacs import write_ct
from typer.testing import CliRunner

from flows.cli.app import app
from pipeline.core.errors import ConfigError, LdctError
from pipeline.review.audit_log import Journal
from pipeline.review.decisions import Decision, audit_of, decide, require_sendable


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    made = Journal(tmp_path / "out" / "review" / "audit.jsonl")
    for number in range(4):
        made.append({"act": "opened", "number": number})
    assert made.faults() == []
    return made


def rechained(lines: list[bytes], **changes: object) -> bytes:
    """The lines with a change to each, and a chain that is right again: no key is needed."""
    found, before = b"", "0" * 64
    for line in lines:
        record = {**json.loads(line), **changes, "after": before}
        written = json.dumps(record, sort_keys=True).encode()
        before = hashlib.sha256(written).hexdigest()
        found += written + b"\n"
    return found


def test_lines_cut_off_at_the_end_are_missed(journal):
    lines = journal.path.read_bytes().splitlines(keepends=True)
    journal.path.write_bytes(b"".join(lines[:3]))
    (fault,) = journal.faults()
    assert fault.line == 4
    assert "the log had 4 lines" in fault.reason
    journal.append({"act": "as if nothing had been"})
    assert journal.path.read_bytes().count(b"\n") == 4
    (fault,) = journal.faults()
    assert "the log had 4 lines" in fault.reason  # whatever was added since


def test_a_log_that_was_removed_or_emptied_is_missed(journal):
    journal.path.unlink()
    assert "the log had 4 lines" in journal.faults()[0].reason
    journal.append({"act": "begun anew"})
    assert "the log had 4 lines" in journal.faults()[0].reason
    (anchor,) = (Path(word.rstrip(".,")) for word in journal.faults()[0].reason.split()[-1:])
    anchor.unlink()  # as the message says, by who removed the log
    assert journal.faults() == []


def test_recomputed_entries_are_noticed(journal):
    lines = journal.path.read_bytes().splitlines()
    journal.path.write_bytes(rechained(lines, number=7))
    reasons = {fault.reason for fault in journal.faults()}
    assert "is not what was signed" in reasons


def test_entries_without_signature_or_with_anothers_are_noticed(journal, monkeypatch, tmp_path):
    lines = journal.path.read_bytes().splitlines()
    forged = json.loads(lines[0])
    for name in ("hmac", "key"):
        del forged[name]
    forged["after"] = hashlib.sha256(lines[-1]).hexdigest()
    journal.path.write_bytes(b"\n".join([*lines, json.dumps(forged).encode()]) + b"\n")
    assert [(fault.line, fault.reason) for fault in journal.faults()] == [
        (5, "is not signed, after lines that are")
    ]
    journal.path.write_bytes(b"\n".join(lines) + b"\n")
    monkeypatch.setenv("LDCT_ANCHORS", str(tmp_path / "others"))
    other = tmp_path / "other.key"
    other.write_bytes(b"another key, of 32 bytes and some more")
    monkeypatch.setenv("LDCT_KEY_FILE", str(other))
    assert {fault.reason.split(" (")[0] for fault in journal.faults()} == {
        "is signed with another key than this installation's"
    }


def test_a_line_that_a_kill_left_unanchored_is_no_fault(journal):
    """Between a line and its anchor."""
    (anchor,) = (Path(name) for name in journal_anchors(journal))
    before = anchor.read_bytes()
    journal.append({"act": "accept"})
    anchor.write_bytes(before)
    assert journal.faults() == []


def journal_anchors(journal: Journal) -> list[str]:
    from pipeline.review.anchors import folder

    return [str(path) for path in folder().glob("a-*.json")]


def _append(path: Path, number: int) -> None:
    for one in range(10):
        Journal(path).append({"act": "opened", "number": number * 10 + one})


def test_four_processes_at_once_leave_one_whole_log(journal):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_append, args=(journal.path, n)) for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert len(journal.records()) == 44
    assert journal.faults() == []


def test_a_moved_log_is_whole_and_told_to_have_no_anchor(journal, tmp_path):
    moved = tmp_path / "moved"
    journal.path.parent.parent.rename(moved)
    result = CliRunner().invoke(app, ["review", "audit", str(moved)])
    assert result.exit_code == 0, result.output
    assert "no anchor" in result.output
    audit_of(moved).append({"act": "opened"})
    assert audit_of(moved).is_anchored()


def test_a_decision_that_was_forged_sends_nothing(tmp_path):
    root = tmp_path / "out"
    folder = root / "derived-1"
    write_ct(folder, 1)
    decide(root, "case", folder, Decision(reader="anna", verdict="reject", reason="smeared"))
    journal = audit_of(root)
    journal.path.write_bytes(rechained(journal.path.read_bytes().splitlines(), act="accept"))
    with pytest.raises(LdctError, match="is not whole: line 1 is not what was signed"):
        require_sendable(root, folder, accepted=True)
    journal.path.write_bytes(b"")
    with pytest.raises(LdctError, match="the log had 1 lines"):
        require_sendable(root, folder, accepted=True)


def test_a_half_line_of_a_kill_sends_what_was_accepted(tmp_path):
    root = tmp_path / "out"
    folder = root / "derived-1"
    write_ct(folder, 1)
    decide(root, "case", folder, Decision(reader="anna", verdict="accept"))
    with audit_of(root).path.open("a") as stream:
        stream.write('{"act": "rej')
    require_sendable(root, folder, accepted=True)
    assert CliRunner().invoke(app, ["review", "audit", str(root)]).exit_code == 1


def test_an_anchor_that_cannot_be_written_is_named(journal, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LDCT_ANCHORS", str(tmp_path / "file" / "folder"))
    with pytest.raises(ConfigError, match="LDCT_ANCHORS"):
        journal.append({"act": "opened"})
    monkeypatch.delenv("LDCT_ANCHORS")
    assert len(journal.records()) == 4  # nothing was written that could not be anchored
