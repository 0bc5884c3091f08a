"""The whole loop on a real Orthanc: ask, get, derive, send back, count; both protocols."""

from __future__ import annotations

import threading
import time
from datetime import date
from pathlib import Path

import pydicom
import pytest
from helpers.dicom import identifying
from helpers.pacs import (
    PASSWORD,
    USER,
    Orthanc,
    derive,
    free_port,
    series_of,
    settings,
    write_ct,
)

from pipeline.pacs.incoming.query import PullCounts, add_to_ledger, count_matches, find_candidates
from pipeline.pacs.incoming.receiver import Receiver
from pipeline.pacs.peers.dicomweb import DicomwebPeer
from pipeline.pacs.peers.dimse import DimsePeer
from pipeline.pacs.peers.peer import Refused, Unreachable
from pipeline.pacs.settings.endpoints import Dicomweb, Dimse
from pipeline.pacs.settings.hospital import Pacs, RoutingRule
from pipeline.pacs.steps.sending import send_series
from pipeline.pacs.steps.worker import Worker
from pipeline.pacs.work.folder import WorkFolder
from pipeline.pacs.work.item import State
from pipeline.pacs.work.ledger import Ledger

MODEL = "models:/test/1"
KEY = b"a key for tests, of 32 bytes and more"
TODAY = date(2026, 11, 21)


@pytest.fixture
def service(orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch) -> Dicomweb:
    """Orthanc's DICOMweb, with its login in the environment."""
    monkeypatch.setenv("LDCT_TESTS_USER", USER)
    monkeypatch.setenv("LDCT_TESTS_PASSWORD", PASSWORD)
    return Dicomweb.model_validate({"url": orthanc.url, "login": {"env": "TESTS"}})


@pytest.fixture
def entity(orthanc: Orthanc) -> Dimse:
    return Dimse(host="127.0.0.1", port=orthanc.dicom_port, called="ORTHANC", timeout_s=30)


def images(folder: Path) -> dict[str, bytes]:
    found = [pydicom.dcmread(path) for path in folder.glob("*.dcm")]
    return {str(dataset.SOPInstanceUID): dataset.PixelData for dataset in found}


def test_a_dry_run_shows_what_matches_and_why(orthanc, service, tmp_path):
    orthanc.fill(write_ct(tmp_path, 1, StudyDate="20261120", ConvolutionKernel="B30f"))
    orthanc.fill(write_ct(tmp_path, 2, StudyDate="20261120", ConvolutionKernel=["Br40f", "3"]))
    orthanc.fill(
        write_ct(
            tmp_path, 3, StudyDate="20261120", BodyPartExamined="HEAD", ConvolutionKernel="B30f"
        )
    )
    orthanc.fill(write_ct(tmp_path, 4, StudyDate="20261101"))
    orthanc.fill(write_ct(tmp_path, 5, StudyDate="20261120", SeriesDescription="AI DENOISED x v1"))
    orthanc.fill(write_ct(tmp_path, 6, StudyDate="20261120", Modality="MR"))
    rule = RoutingRule.model_validate(
        {
            "name": "chest",
            "body_part": ["chest"],
            "kernel": ["b30f", "br40f"],
            "description": "^chest",
            "date": {"within_days": 2},
            "instances": 3,
        }
    )
    candidates = find_candidates(DicomwebPeer(service), [rule], today=TODAY)
    found = {a.series.series_uid.split(".")[-2]: a for a in candidates}
    assert sorted(found) == ["1", "2", "3", "5"]  # asked for by modality and date
    assert [n for n, candidate in found.items() if candidate.rule == "chest"] == ["1", "2"]
    why = {n: [str(r) for r in a.matches[0].reasons if not r.met] for n, a in found.items()}
    assert why["3"] == ["body part one of chest: HEAD (not met)"]
    assert why["5"][0] == "not made by this software: its own (not met)"
    facts = str([candidate.to_dict(KEY) for candidate in candidates])
    assert not [secret for secret in ("SECRET-4711", "20261120", "77.1.2") if secret in facts]


@pytest.mark.parametrize("way", ["stow", "c-store"])
def test_the_loop_over_dicomweb(orthanc, service, entity, tmp_path, way):
    orthanc.fill(write_ct(tmp_path, 1, count=5))
    orthanc.fill(write_ct(tmp_path, 2, BodyPartExamined="HEAD"))
    chosen: Pacs = settings(tmp_path / "work", rules=[{"name": "c", "body_part": ["CHEST"]}])
    ledger, source = Ledger(chosen.work), DicomwebPeer(service)
    destination = source if way == "stow" else DimsePeer(entity)
    worker = Worker(chosen, ledger, derive, {"": destination}, source)

    def pull() -> PullCounts:
        candidates = find_candidates(source, list(chosen.rules), today=TODAY)
        return add_to_ledger(candidates, ledger, chosen, model=MODEL)

    assert pull() == PullCounts(asked=2, matched=1, new=1)
    assert worker.run_due() == 3
    assert orthanc.series() == {"Chest 1": 5, "Chest 2": 3, "AI DENOISED test v1 | Chest 1": 5}
    # What was sent back is there to be found, and is not taken for an original.
    assert pull() == PullCounts(asked=3, matched=1, new=0)
    assert worker.run_due() == 0


def test_a_series_of_a_wrong_clock_is_told_of_although_no_rule_by_date_asks_for_it(
    orthanc, service, tmp_path
):
    orthanc.fill(write_ct(tmp_path, 1, StudyDate="20261120"))
    orthanc.fill(write_ct(tmp_path, 2, StudyDate="20361120"))
    orthanc.fill(write_ct(tmp_path, 3, StudyDate="20251120"))
    rule = RoutingRule.model_validate({"name": "chest", "date": {"within_days": 2}})
    candidates = find_candidates(DicomwebPeer(service), [rule], today=TODAY)
    counts = count_matches(candidates)
    assert (counts.asked, counts.matched, counts.wrong_clock) == (2, 1, 1)
    shown = [str(c.to_dict(KEY)["rules"]) for c in candidates if c.wrong_clock]
    assert "look at the scanner's" in shown[0]
    assert "2036" not in shown[0]


def test_what_is_retrieved_is_what_was_stored(orthanc, service, tmp_path):
    paths = write_ct(tmp_path / "in", 1)
    orthanc.fill(paths)
    (tmp_path / "out").mkdir()
    DicomwebPeer(service).retrieve(series_of(paths), tmp_path / "out")
    assert images(tmp_path / "out") == images(tmp_path / "in")
    identified = [set().union(*map(identifying, (tmp_path / n).glob("*"))) for n in ("in", "out")]
    assert identified[0] == identified[1]


def test_a_real_series_makes_the_round_trip(orthanc, service, entity, test_data, tmp_path):
    paths = sorted((test_data / "ct" / "abdomen-ge-crlm1006").rglob("*.dcm"))[:6]
    orthanc.fill(paths)
    series = series_of(paths)
    assert DicomwebPeer(service).list_instances(series.study_uid, series.series_uid) == series
    assert DimsePeer(entity).list_instances(series.study_uid, series.series_uid) == series
    (tmp_path / "out").mkdir()
    DicomwebPeer(service).retrieve(series, tmp_path / "out")
    assert len(images(tmp_path / "out")) == len(paths)
    orthanc.empty()
    assert send_series(tmp_path / "out", DimsePeer(entity)) == len(paths)
    orthanc.empty()
    assert send_series(tmp_path / "out", DicomwebPeer(service)) == len(paths)


def test_a_second_send_sends_nothing(orthanc, service, tmp_path, monkeypatch):
    write_ct(tmp_path, 1)
    peer = DicomwebPeer(service)
    assert send_series(tmp_path, peer) == 3
    monkeypatch.setattr(peer, "send", lambda paths: pytest.fail("sent again"))
    assert send_series(tmp_path, peer) == 3
    assert list(orthanc.series().values()) == [3]


def test_a_wrong_password_is_final_and_a_closed_port_is_not(orthanc, service, monkeypatch):
    monkeypatch.setenv("LDCT_TESTS_PASSWORD", "wrong")
    with pytest.raises(Refused, match="answered 401"):
        DicomwebPeer(service).list_instances("1.2", "1.3")
    closed = service.model_copy(update={"url": f"http://127.0.0.1:{free_port()}"})
    with pytest.raises(Unreachable, match="ConnectionError"):
        DicomwebPeer(closed).list_instances("1.2", "1.3")
    with pytest.raises(Unreachable, match="no association with X"):
        DimsePeer(Dimse(host="127.0.0.1", port=free_port(), called="X")).list_instances(
            "1.2", "1.3"
        )


class Reception:
    """A receiver that Orthanc can send to."""

    def __init__(self, orthanc: Orthanc, work: Path, source=None, **receive) -> None:
        self.orthanc, port = orthanc, free_port()
        self.settings: Pacs = settings(
            work,
            rules=[{"name": "chest", "body_part": ["CHEST"]}],
            receive={"port": port, "silence_s": 0, "callers": ["ORTHANC"], **receive},
        )
        self.ledger = Ledger(self.settings.work)
        self.receiver = Receiver(self.settings, self.ledger, MODEL, KEY, source)
        self.server = self.receiver.start()
        orthanc.call("PUT", "/modalities/LDCT", json=["LDCT", "127.0.0.1", port])

    @property
    def places(self) -> WorkFolder:
        return WorkFolder(self.settings.work)

    def send(self, number: int, only: int | None = None) -> None:
        """Have Orthanc send what it has of a series, or its first images."""
        for name in self.orthanc.call("GET", "/series"):
            row = self.orthanc.call("GET", f"/series/{name}")
            if row["MainDicomTags"]["SeriesDescription"] == f"Chest {number}":
                chosen = row["Instances"][:only] if only else [name]
                self.orthanc.call("POST", "/modalities/LDCT/store", json=chosen)

    def wait_closed(self) -> None:
        for _ in range(1200):
            if not self.receiver._associations.studies:
                return
            time.sleep(0.05)
        pytest.fail("the association stays open")

    def sweep(self) -> int:
        self.wait_closed()
        return self.receiver.sweep().added


@pytest.fixture
def reception(orthanc, tmp_path):
    made = Reception(orthanc, tmp_path / "work")
    yield made
    made.server.shutdown()


def test_a_received_study_goes_the_whole_way(orthanc, entity, reception, tmp_path):
    orthanc.fill(write_ct(tmp_path / "in", 1, count=5))
    orthanc.fill(write_ct(tmp_path / "in2", 2, BodyPartExamined="HEAD"))
    reception.send(1)
    reception.send(2)
    assert reception.sweep() == 1
    (work,) = reception.ledger.all()
    assert (work.origin, work.instances, work.rule) == ("c-store", 5, "chest")
    received = reception.places.series(work.id)
    assert images(received) == images(tmp_path / "in")
    worker = Worker(reception.settings, reception.ledger, derive, {"": DimsePeer(entity)})
    assert worker.run_due() == 3
    assert orthanc.series()["AI DENOISED test v1 | Chest 1"] == 5
    # What no rule wants was acknowledged, so it is kept for a person.
    assert len(list(reception.places.unmatched.rglob("*.dcm"))) == 3
    names = " ".join(str(path) for path in reception.settings.work.rglob("*"))
    assert not [secret for secret in ("826.0.1", "Geheim") if secret in names]


def test_a_received_series_of_a_wrong_clock_is_told_of(orthanc, reception, tmp_path):
    orthanc.fill(write_ct(tmp_path / "in", 1, StudyDate="20990101"))
    orthanc.fill(write_ct(tmp_path / "in", 2, StudyDate="20260101"))
    reception.send(1)
    reception.send(2)
    reception.wait_closed()
    swept = reception.receiver.sweep()
    assert (swept.added, swept.wrong_clock) == (2, 1)


def test_a_study_sent_twice_is_processed_once(orthanc, reception, tmp_path):
    orthanc.fill(write_ct(tmp_path, 1))
    for _ in range(2):
        reception.send(1)
        reception.sweep()
    (work,) = reception.ledger.all()
    assert len(list(reception.places.series(work.id).glob("*.dcm"))) == 3
    assert list(reception.places.arrived.iterdir()) == []


def test_a_study_waits_for_silence_and_for_what_the_source_has_more(
    orthanc, service, tmp_path, monkeypatch
):
    orthanc.fill(write_ct(tmp_path / "in", 1, count=4))
    made = Reception(
        orthanc, tmp_path / "work", DicomwebPeer(service), silence_s=100, patience_s=1000
    )
    try:
        made.send(1, only=3)
        made.wait_closed()
        start = time.time()
        for later, taken in ((50, 0), (200, 0), (1100, 1)):  # not quiet; one lacks; patience ends
            monkeypatch.setattr(made.ledger, "now", lambda later=later: start + later)
            assert made.receiver.sweep().added == taken, later
        assert made.ledger.all()[0].instances == 3
        made.send(1)
        made.wait_closed()
        monkeypatch.setattr(made.ledger, "now", lambda: time.time() + 200)
        assert made.receiver.sweep().added == 1  # all four are there: no need for patience
        assert sorted(work.instances for work in made.ledger.all()) == [3, 4]
    finally:
        made.server.shutdown()


def test_an_open_association_holds_its_study(orthanc, reception, tmp_path):
    orthanc.fill(write_ct(tmp_path, 1))
    reception.send(1)
    reception.wait_closed()
    (study,) = reception.places.incoming.iterdir()
    reception.receiver._associations.studies[0] = {study.name}
    assert reception.receiver.sweep().added == 0
    reception.receiver._associations.studies.clear()
    assert reception.receiver.sweep().added == 1


def test_after_a_kill_between_ledger_and_move_the_next_sweep_moves_the_files(
    orthanc, reception, tmp_path
):
    orthanc.fill(write_ct(tmp_path, 1))
    reception.send(1)
    reception.wait_closed()
    reception.receiver._move_complete()
    (study,) = reception.places.arrived.iterdir()
    (folder,) = [path for path in study.iterdir() if path.is_dir()]  # beside who sent it
    series = series_of(sorted(folder.glob("*.dcm")))
    work = reception.ledger.add(series, MODEL, origin="c-store", rule="chest", due=0)
    worker = Worker(reception.settings, reception.ledger, derive, {})
    assert "not moved its files" in worker.step().note
    assert reception.sweep() == 1
    assert len(list(reception.places.series(work.id).glob("*.dcm"))) == 3


def test_unknown_callers_and_images_without_uids_are_refused(orthanc, reception, tmp_path):
    path = write_ct(tmp_path, 1)[0]
    port = reception.settings.receive.port
    stranger = Dimse(host="127.0.0.1", port=port, called="LDCT", calling="STRANGER")
    with pytest.raises((Refused, Unreachable), match="no association"):
        DimsePeer(stranger).send([path])
    known = stranger.model_copy(update={"calling": "ORTHANC"})
    nameless = pydicom.dcmread(path)
    del nameless.StudyInstanceUID
    nameless.save_as(tmp_path / "nameless.dcm")
    with pytest.raises(Refused, match="0xC000"):
        DimsePeer(known).send([tmp_path / "nameless.dcm"])
    assert list(reception.settings.work.rglob("*.dcm")) == []


def test_other_bytes_under_one_name_are_kept_beside_the_first(orthanc, reception, tmp_path):
    path = write_ct(tmp_path, 1)[0]
    known = DimsePeer(
        Dimse(
            host="127.0.0.1",
            port=reception.settings.receive.port,
            called="LDCT",
            calling="ORTHANC",
        )
    )
    known.send([path])
    known.send([path])
    changed = pydicom.dcmread(path)
    changed.PixelData = bytes(len(changed.PixelData))
    changed.save_as(tmp_path / "changed.dcm")
    known.send([tmp_path / "changed.dcm"])
    assert len(list(reception.places.incoming.rglob("*.dcm"))) == 2


def test_four_associations_at_once_lose_nothing(orthanc, reception, tmp_path):
    port = reception.settings.receive.port
    peer = DimsePeer(Dimse(host="127.0.0.1", port=port, called="LDCT", calling="ORTHANC"))
    lots = [write_ct(tmp_path / str(n), n, count=6) for n in range(1, 5)]
    threads = [threading.Thread(target=peer.send, args=(lot,)) for lot in lots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reception.sweep() == 4
    assert [work.instances for work in reception.ledger.all(State.FOUND)] == [6] * 4
