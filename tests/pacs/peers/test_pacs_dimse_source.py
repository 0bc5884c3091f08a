"""A PACS without DICOMweb as source, on a real Orthanc: C-FIND, and C-GET or C-MOVE."""

from __future__ import annotations

import threading
from datetime import date
from pathlib import Path

import pytest
import yaml
from helpers.pacs import (
    Orthanc,
    derive,
    free_port,
    self_signed,
    series_of,
    settings,
    write_ct,
)

from flows.hospital.endpoints import open_source, peers
from pipeline.core.errors import ConfigError
from pipeline.pacs.incoming.query import add_to_ledger, find_candidates
from pipeline.pacs.peers.dimse import DimsePeer
from pipeline.pacs.peers.dimse_source import DimseSourcePeer, _Taken
from pipeline.pacs.peers.peer import Refused, Unreachable
from pipeline.pacs.settings.endpoints import Dimse, DimseSource
from pipeline.pacs.settings.hospital import RoutingRule, load_pacs
from pipeline.pacs.steps.worker import Worker, require_all
from pipeline.pacs.work.item import PacsSeries, State
from pipeline.pacs.work.ledger import Ledger

MODEL = "models:/test/1"
TODAY = date(2026, 11, 21)
CALLED = {"host": "127.0.0.1", "port": 1, "called": "ORTHANC", "calling": "LDCT"}


def source_of(orthanc: Orthanc, retrieve: str) -> dict:
    """The section of the YAML; Orthanc knows us."""
    port = free_port()
    known = {"AET": "LDCT", "Host": "127.0.0.1", "Port": port}
    orthanc.call("PUT", "/modalities/LDCT", json=known)
    source = {"dimse": {**CALLED, "port": orthanc.dicom_port, "timeout_s": 20}}
    if retrieve == "move":
        source |= {"retrieve": "move", "move": {"title": "LDCT", "port": port}}
    return source


@pytest.fixture(params=["get", "move"])
def chosen(request, orthanc, tmp_path):
    return settings(
        tmp_path / "work",
        source=source_of(orthanc, request.param),
        send={"dimse": {**CALLED, "port": orthanc.dicom_port}},
        rules=[{"name": "chest", "body_part": ["CHEST"], "kernel": ["STANDARD"], "instances": 2}],
    )


def test_from_the_pacs_and_back(chosen, orthanc, tmp_path):
    orthanc.fill(write_ct(tmp_path / "in", 1, count=4))
    orthanc.fill(write_ct(tmp_path / "in", 2, BodyPartExamined="HEAD"))
    orthanc.fill(write_ct(tmp_path / "in", 3, Modality="MR"))
    ledger, source = Ledger(chosen.work), open_source(chosen)
    found = find_candidates(source, list(chosen.rules), today=TODAY)
    assert len(found) == 2, "of the CT"
    counts = add_to_ledger(found, ledger, chosen, model=MODEL)
    assert (counts.matched, counts.new) == (1, 1)
    Worker(chosen, ledger, derive, peers(chosen), source).run_due()
    (work,) = ledger.all()
    assert (work.state, work.origin) == (State.SENT, "dimse")
    assert sum(orthanc.series().values()) == 4 + 3 + 3 + 4
    again = find_candidates(open_source(chosen), list(chosen.rules), today=TODAY)
    assert add_to_ledger(again, ledger, chosen, model=MODEL).new == 0


def test_images_come_as_they_are_each_once(chosen, orthanc, tmp_path):
    paths = write_ct(tmp_path / "in", 1, count=4)
    orthanc.fill(paths)
    series, folder = series_of(paths), tmp_path / "out"
    folder.mkdir()
    open_source(chosen).retrieve(series, folder)
    require_all(series.instance_uids, folder)


def test_two_processes_retrieve_one_after_the_other(chosen, orthanc, tmp_path):
    """By C-MOVE both would listen on one port."""
    faults: list[Exception] = []

    def retrieve(number: int) -> None:
        folder = tmp_path / f"out-{number}"
        folder.mkdir()
        try:
            open_source(chosen).retrieve(wanted[number], folder)
            require_all(wanted[number].instance_uids, folder)
        except Exception as fault:
            faults.append(fault)

    wanted = {}
    for number in (1, 2):
        paths = write_ct(tmp_path / "in", number)
        orthanc.fill(paths)
        wanted[number] = series_of(paths)
    threads = [threading.Thread(target=retrieve, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_an_image_that_was_not_asked_for_is_not_taken(chosen, orthanc, tmp_path):
    paths = write_ct(tmp_path / "in", 1)
    orthanc.fill(paths)
    whole = series_of(paths)
    less = PacsSeries(whole.study_uid, whole.series_uid, frozenset(sorted(whole.instance_uids)[:2]))
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(Unreachable, match="could not send"):
        open_source(chosen).retrieve(less, folder)
    came = sorted(folder.glob("*.dcm"))  # Orthanc ends a C-MOVE at the first that is not taken
    assert not came or series_of(came).instance_uids <= less.instance_uids


def test_dates_are_searched_for(chosen, orthanc, tmp_path):
    orthanc.fill(write_ct(tmp_path / "in", 1, StudyDate="20261120"))
    orthanc.fill(write_ct(tmp_path / "in", 2, StudyDate="20250101"))
    rule = RoutingRule.model_validate({"name": "new", "date": {"within_days": 2}})
    source = open_source(chosen)
    assert isinstance(source, DimseSourcePeer)
    found = [series for series, _ in source.candidates(rule, today=TODAY)]
    assert [series.study_uid.endswith(".77.1.1") for series in found] == [True]


def test_a_pacs_that_does_not_know_us_is_named(orthanc, tmp_path):
    """Orthanc sends nothing by C-MOVE to a title that it does not know."""
    paths = write_ct(tmp_path / "in", 1)
    orthanc.fill(paths)
    source = source_of(orthanc, "move")
    source["move"]["title"] = "UNKNOWN"
    chosen = settings(tmp_path / "work", source=source)
    (tmp_path / "out").mkdir()
    with pytest.raises((Refused, Unreachable), match="C-MOVE"):
        open_source(chosen).retrieve(series_of(paths), tmp_path / "out")


def test_what_a_source_moves_comes_over_tls_from_who_has_a_certificate(tmp_path):
    """The listener that C-MOVE needs, as Debian's Orthanc 1.10 cannot speak TLS."""
    known, other = (self_signed(tmp_path / name) for name in ("known", "other"))
    port, paths = free_port(), write_ct(tmp_path / "in", 1)
    move = {"title": "LDCT", "port": port, "tls": {**known, "ca": known["certificate"]}}
    described = {"dimse": CALLED, "retrieve": "move", "move": move}
    source = DimseSourcePeer(
        DimseSource.model_validate(described), tmp_path / "work", max_image_mib=8
    )
    (tmp_path / "out").mkdir()
    taken = _Taken(series_of(paths), tmp_path / "out")
    pacs = {"host": "127.0.0.1", "port": port, "called": "LDCT", "calling": "ORTHANC"}
    with source._listening(taken):
        for tls in (None, {"ca": known["certificate"]}, {**other, "ca": known["certificate"]}):
            with pytest.raises(Unreachable):
                DimsePeer(Dimse.model_validate({**pacs, "tls": tls})).send(paths)
        assert list((tmp_path / "out").iterdir()) == []
        tls = {**known, "ca": known["certificate"]}
        DimsePeer(Dimse.model_validate({**pacs, "tls": tls})).send(paths)
    assert len(list((tmp_path / "out").iterdir())) == 3


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"dimse": CALLED, "retrieve": "move"}, "source: .*go together"),
        ({"dimse": CALLED, "move": {}}, "source: .*go together"),
        ({"dimse": {**CALLED, "commit": True}}, "source: .*of a destination"),
        ({"dimse": {**CALLED, "port": -1}}, "source.dimse.port: "),
        (
            {"dimse": CALLED, "retrieve": "move", "move": {"tls": {}}},
            "source.move: .*needs a certificate",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, source, message):
    text = {"model": "m", "work": "work", "rules": [{"name": "any"}], "source": source,
            "send": {"dimse": CALLED}}  # fmt: skip
    (tmp_path / "hospital.yaml").write_text(yaml.safe_dump(text))
    with pytest.raises(ConfigError, match=f"hospital.yaml: .*{message}"):
        load_pacs(tmp_path / "hospital.yaml")
