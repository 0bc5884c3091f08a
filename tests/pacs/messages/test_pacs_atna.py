"""Audit messages (PS3.15 A.5) by syslog over TLS: what they say and what not, and that none is
lost."""

from __future__ import annotations

import errno
import getpass
import os
import ssl
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from helpers.pacs import FolderPeer, derive, free_port, self_signed, write_ct
from helpers.pacs_bench import MODEL, Bench
from helpers.syslog_server import syslog_server
from pydantic import ValidationError

from flows.hospital.auditing import AuditSender, auditing
from flows.hospital.ledger_status import release_work
from pipeline.config.connection import Tls
from pipeline.core.errors import ConfigError
from pipeline.pacs.incoming.receiver import Receiver
from pipeline.pacs.messages.atna_connection import TlsConnection
from pipeline.pacs.messages.atna_spool import AtnaSpool
from pipeline.pacs.messages.atna_trail import AtnaTrail
from pipeline.pacs.peers.dimse import DimsePeer
from pipeline.pacs.peers.peer import Refused
from pipeline.pacs.settings.atna import Atna
from pipeline.pacs.settings.endpoints import Dimse
from pipeline.pacs.steps.worker import Worker
from pipeline.pacs.work.folder import NoSpace
from pipeline.pacs.work.item import State
from pipeline.pacs.work.ledger import Ledger
from pipeline.review.access.login_record import LoginRecord
from pipeline.review.access.roles import Identity, Role
from pipeline.review.decisions import Decision, audit_of, decide

#: What a sender sees of a server that cuts a connection off: that depends on when it looks.
CUT_OFF = (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError)
SOURCE = {"url": "http://pacs.example.org/dicom-web"}
IDENTITY = ("SECRET-4711", "Geheim", "Gisela", "19520304", "1.2.826.0.1.3680043", "19991231")


class Site(Bench):
    """A bench with an audit repository that is not running yet."""

    def __init__(self, root: Path, **more) -> None:
        self.port, self.tls = free_port(), self_signed(root / "tls")
        atna = {
            "host": "127.0.0.1",
            "port": self.port,
            "tls": {"ca": self.tls["certificate"]},
            "site": "St. Elsewhere",
            "timeout_s": 5,
            **more.pop("atna", {}),
        }
        super().__init__(root, atna=atna, source=SOURCE, **more)
        self.trail = AtnaTrail(self.settings)

    def server(self, **more):
        return syslog_server(self.port, self.tls, **more)

    def arrived(self) -> list[ET.Element]:
        """What the repository has after all that waits was sent."""
        with self.server() as server:
            self.trail.spool.send()
        return server.messages


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def code(message: ET.Element, path: str) -> str:
    return message.find(path).get("csd-code")


def users(message: ET.Element) -> dict[str, str]:
    """UserID by role, "" for none."""
    found = {}
    for each in message.findall("ActiveParticipant"):
        role = each.find("RoleIDCode")
        found["" if role is None else role.get("csd-code")] = each.get("UserID")
    return found


def objects(message: ET.Element) -> dict[str, str]:
    """ParticipantObjectID by the code of its kind."""
    return {
        code(each, "ParticipantObjectIDTypeCode"): each.get("ParticipantObjectID")
        for each in message.findall("ParticipantObjectIdentification")
    }


def test_retrieving_and_sending_are_audited_without_identity(site):
    work = site.add()
    site.worker.run_due()
    retrieved, sent = site.arrived()
    for message in (retrieved, sent):
        assert code(message, "EventIdentification/EventID") == "110104"
        assert message.find("EventIdentification").get("EventOutcomeIndicator") == "0"
        source = message.find("AuditSourceIdentification")
        assert (source.get("AuditSourceID"), source.get("AuditEnterpriseSiteID")) == (
            "LDCT", "St. Elsewhere",
        )  # fmt: skip
        images = message.find(".//SOPClass")
        assert (images.get("UID"), images.get("NumberOfInstances")) == (
            "1.2.840.10008.5.1.4.1.1.2", "3",
        )  # fmt: skip
        named = objects(message)
        assert named["110180"].startswith("st-")
        assert named["2"] not in ("unknown", "SECRET-4711")
        assert message.find(".//ParticipantObjectName").text == work.id
    assert users(retrieved) == {"110153": "pacs.example.org", "110152": "LDCT"}
    assert users(sent) == {"110153": "LDCT", "110152": "X"}
    assert objects(retrieved) == objects(sent)
    said = "".join(ET.tostring(each, encoding="unicode") for each in (retrieved, sent))
    assert not [word for word in IDENTITY if word in said]
    assert site.trail.spool.waiting() == []


def test_identifiers_are_study_uid_and_patient_id_alone(tmp_path):
    site = Site(tmp_path, atna={"identity": "identifiers"})
    site.add()
    site.worker.run_due()
    for message in site.arrived():
        assert objects(message)["2"] == "SECRET-4711"
        assert objects(message)["110180"].startswith("1.2.826.0.1.3680043")
        said = ET.tostring(message, encoding="unicode")
        assert not [word for word in ("Geheim", "Gisela", "19520304", "19991231") if word in said]


def test_a_server_that_is_down_gets_all_of_it_later_in_order(site):
    for number in (1, 2, 3):
        site.add(number)
        site.worker.run_due()
        with pytest.raises(ConnectionRefusedError):
            site.trail.spool.send()
    assert len(site.trail.spool.waiting()) == 6
    works = [each.find(".//ParticipantObjectName").text for each in site.arrived()]
    assert len(works) == 6
    assert [works[n] == works[n + 1] for n in range(5)] == [True, False, True, False, True]


def test_what_a_server_cut_off_is_sent_again(site):
    site.add()
    site.worker.run_due()
    with site.server(fails=1) as server:
        with pytest.raises(CUT_OFF):
            site.trail.spool.send()
        assert len(site.trail.spool.waiting()) == 2
        assert site.trail.spool.send() == 2
    assert len(server.messages) == 2


def test_a_server_that_is_not_known_gets_nothing(site, tmp_path):
    site.add()
    site.worker.run_due()
    other = self_signed(tmp_path / "other")
    server_of_others = syslog_server(site.port, other)
    with server_of_others as server, pytest.raises(OSError, match="certificate verify failed"):
        site.trail.spool.send()
    assert server.lines == []
    assert len(site.trail.spool.waiting()) == 2


@pytest.mark.parametrize("after_s", [0, 0.5])
def test_a_server_that_asks_for_our_certificate_is_shown_it(tmp_path, monkeypatch, after_s):
    """after_s: TLS 1.3's refusal comes while we send, or before we look for it."""
    own, end = self_signed(tmp_path / "own"), TlsConnection.end

    def end_later(connection: TlsConnection) -> None:
        time.sleep(after_s)
        end(connection)

    monkeypatch.setattr(TlsConnection, "end", end_later)
    for name, tls, taken in (("without", {}, 0), ("with", own, 2)):
        (tmp_path / name).mkdir()
        site = Site(tmp_path / name)
        ca = {"ca": site.tls["certificate"]}
        atna = site.settings.atna.model_copy(update={"tls": Tls.model_validate({**ca, **tls})})
        site.add()
        site.worker.run_due()
        spool = AtnaSpool(site.trail.spool.folder, atna)
        with site.server(clients=own["certificate"]) as server:
            if taken:
                assert spool.send() == taken
            else:
                with pytest.raises((*CUT_OFF, ssl.SSLError)):
                    spool.send()
        assert len(server.lines) == taken
        assert len(spool.waiting()) == 2 - taken


def test_a_server_that_closes_without_a_word_of_tls_has_taken_what_it_read(site, monkeypatch):
    site.add()
    site.worker.run_due()
    with site.server() as server, monkeypatch.context() as patched:
        unwrap = ssl.SSLSocket.unwrap

        def only_ours(connection: ssl.SSLSocket) -> object:
            return unwrap(connection) if not connection.server_side else None

        patched.setattr(ssl.SSLSocket, "unwrap", only_ours)
        assert site.trail.spool.send() == 2
    assert len(server.messages) == 2


def test_on_this_computer_it_may_go_in_the_clear(tmp_path):
    site = Site(tmp_path, atna={"tls": None})
    site.add()
    site.worker.run_due()
    with syslog_server(site.port) as server:
        assert site.trail.spool.send() == 2
    assert len(server.messages) == 2
    with pytest.raises(ValidationError, match="without tls"):
        Atna(host="arr.example.org", tls=None)


def test_no_transfer_is_done_without_its_message(site, monkeypatch):
    """On a full disk the step is undone, as if it had not begun."""
    work = site.add()
    site.worker.step(), site.worker.step()

    def full(spool, event):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(AtnaSpool, "add", full)
        with pytest.raises(NoSpace):
            site.worker.step()
    assert site.ledger.get(work.id).state is State.DERIVED
    site.worker.run_due()
    assert site.ledger.get(work.id).state is State.SENT
    assert len(site.arrived()) == 2


def test_a_send_that_failed_for_good_is_a_failure(site):
    site.add()
    site.destination.answers = [Refused("C-STORE was answered with status 0x0110")]
    site.worker.run_due()
    _, failed = site.arrived()
    assert failed.find("EventIdentification").get("EventOutcomeIndicator") == "8"
    assert users(failed)["110152"] == "X"


def test_receiving_is_audited_whether_or_not_a_rule_matches(tmp_path):
    port = free_port()
    site = Site(
        tmp_path,
        receive={"port": port, "silence_s": 0},
        rules=[{"name": "first", "description": "Chest 1"}],
    )
    receiver = Receiver(site.settings, Ledger(site.settings.work), MODEL, b"a key of tests")
    server = receiver.start()
    try:
        caller = Dimse(host="127.0.0.1", port=port, called="LDCT", calling="CT1")
        for number in (1, 2):
            DimsePeer(caller).send(write_ct(tmp_path / "in", number))
    finally:
        server.shutdown()
    swept, end = receiver.sweep(), time.monotonic() + 20
    while swept.added + swept.unmatched < 2 and time.monotonic() < end:
        time.sleep(0.1)  # the end of an association is noted in its own thread
        swept += receiver.sweep()
    assert (swept.added, swept.unmatched) == (1, 1)
    messages = site.arrived()
    assert len(messages) == 2
    for message in messages:
        assert users(message) == {"110153": "CT1", "110152": "LDCT"}
        assert message.find(".//SOPClass").get("NumberOfInstances") == "3"


def test_a_release_names_who_released(site):
    work = site.add()
    site.worker.step(), site.worker.step()
    site.ledger.advance(work, State.HELD, "kernel B30f")
    release_work(site.settings, [work.id], "Mrs. Geheim's doctor asked")
    message = site.arrived()[-1]
    assert code(message, "EventIdentification/EventID") == "110103"
    assert code(message, "EventIdentification/EventTypeCode") == "released"
    assert message.find("ActiveParticipant").get("UserID") == getpass.getuser()
    assert "Geheim" not in ET.tostring(message, encoding="unicode")
    with pytest.raises(ConfigError, match="nothing to release"):
        release_work(site.settings, [work.id], "again")
    assert site.trail.spool.waiting() == []


def test_each_decision_of_a_reader_is_audited_once(tmp_path):
    site = Site(tmp_path, release="reader")
    works = [site.add(number) for number in (1, 2)]
    site.worker.run_due()
    site.trail.look_at_reviews(site.ledger)
    for work, verdict in zip(works, ("accept", "reject"), strict=True):
        folder = site.places.result(work.id) / "s-1-test-v1"
        decision = Decision(reader="anna", verdict=verdict, reason="blurred")
        decide(site.places.results, work.id, folder, decision)
    before = len(site.trail.spool.waiting())
    for _ in range(2):
        AtnaTrail(site.settings).look_at_reviews(site.ledger)
    assert len(site.trail.spool.waiting()) == before + 2
    decided = site.arrived()[-2:]
    assert [code(m, "EventIdentification/EventTypeCode") for m in decided] == [
        "accepted",
        "rejected",
    ]
    for message, work in zip(decided, works, strict=True):
        assert message.find("ActiveParticipant").get("UserID") == "anna"
        assert message.find(".//ParticipantObjectName").text == work.id
        assert objects(message)["110180"].startswith("st-")


def test_without_the_section_nothing_is_kept(tmp_path):
    bench = Bench(tmp_path)
    bench.add()
    bench.worker.run_due()
    assert not (bench.settings.work / "atna").exists()


def test_a_part_sends_beside_the_work_and_says_once_that_it_cannot(site, capsys):
    site.add()
    site.worker.run_due()
    sender = AuditSender(site.settings)
    sender.look(), sender.look()
    assert capsys.readouterr().err.count("2 audit messages wait: Connection") == 1
    with site.server() as server, auditing(site.settings):
        pass
    assert len(server.messages) == 2


def test_a_part_that_starts_and_stops_is_audited(site):
    with pytest.raises(KeyboardInterrupt), auditing(site.settings, part="ldct pacs work"):
        raise KeyboardInterrupt
    with auditing(site.settings):  # a command that is no part
        pass
    messages = site.arrived()
    kinds = [code(each, "EventIdentification/EventTypeCode") for each in messages]
    assert kinds == ["110120", "110121"]
    for message in messages:
        assert code(message, "EventIdentification/EventID") == "110100"
        assert message.find("EventIdentification").get("EventActionCode") == "E"
        application = message.find("ActiveParticipant")
        assert users(message) == {"110150": str(os.getpid()), "110151": getpass.getuser()}
        assert application.get("UserIsRequestor") == "false"
        assert application.get("AlternativeUserID") == "AETITLES=LDCT"
        assert application.get("UserName") == "ldct pacs work"
        assert message.find("ParticipantObjectIdentification") is None


def test_a_part_starts_on_a_full_disk_and_says_that_it_is_not_audited(site, monkeypatch, capsys):
    def full(spool, event):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(AtnaSpool, "add", full)
    with auditing(site.settings, part="ldct pacs work"):
        assert "start or stop of ldct pacs work not audited: OSError" in capsys.readouterr().err


def test_logins_and_the_page_that_starts_and_ends_are_audited(site):
    site.places.results.mkdir(parents=True)
    log = audit_of(site.places.results)
    log.append({"act": "opened", "reader": "ben"})
    site.trail.look_at_reviews(site.ledger)  # what was before is not sent
    record = LoginRecord(log.append)
    anna = Identity("anna", frozenset(Role), "oidc")
    log.append({"act": "started"})
    record.logged_in(anna, {"sub": "4711"}, "10.1.2.3")
    record.refused("the token has expired")
    record.logged_out(anna, "10.1.2.3")
    log.append({"act": "ended"})
    site.trail.look_at_reviews(site.ledger)
    started, logged_in, refused, logged_out, ended = site.arrived()
    kinds = ("110120", "110122", "110122", "110123", "110121")
    messages = (started, logged_in, refused, logged_out, ended)
    assert tuple(code(each, "EventIdentification/EventTypeCode") for each in messages) == kinds
    outcomes = [each.find("EventIdentification").get("EventOutcomeIndicator") for each in messages]
    assert outcomes == ["0", "0", "4", "0", "0"]
    for message in (logged_in, logged_out):
        assert code(message, "EventIdentification/EventID") == "110114"
        person = message.find("ActiveParticipant")
        assert (person.get("UserID"), person.get("UserIsRequestor")) == ("anna", "true")
        where = person.get("NetworkAccessPointID"), person.get("NetworkAccessPointTypeCode")
        assert where == ("10.1.2.3", "2")
    assert refused.find("ActiveParticipant").get("UserID") == "unknown"
    assert "expired" not in ET.tostring(refused, encoding="unicode")
    assert started.find("ActiveParticipant").get("UserName") == "ldct review"


def test_several_destinations_each_have_their_message(tmp_path):
    place = {"host": "127.0.0.1", "port": 1, "called": "X"}
    (tmp_path / "results").mkdir()
    send = [
        {"name": "archive", "dimse": place},
        {"name": "web", "dicomweb": {"url": "https://research.example.org/dw"}},
        {"name": "drive", "folder": str(tmp_path / "results")},
    ]
    site = Site(tmp_path, send=send)
    to = {name: FolderPeer(tmp_path / name) for name in ("archive", "web", "drive")}
    site.worker = Worker(site.settings, site.ledger, derive, to, site.source)
    site.add()
    site.worker.run_due()
    _, *sent = site.arrived()
    assert {users(each)["110152"] for each in sent} == {"X", "research.example.org", "folder"}
