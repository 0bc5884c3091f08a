"""DICOMweb over HTTPS before a real Orthanc: who it is is checked, and nothing of it is logged."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.pacs import (
    PASSWORD,
    USER,
    Orthanc,
    TlsFront,
    self_signed,
    series_of,
    write_ct,
)

from pipeline.pacs.peers.dicomweb import DicomwebPeer
from pipeline.pacs.peers.peer import Refused, Unreachable
from pipeline.pacs.settings.endpoints import Dicomweb
from pipeline.pacs.steps.sending import send_series


@pytest.fixture
def secure(orthanc: Orthanc, tmp_path: Path) -> Iterator[TlsFront]:
    """Orthanc behind HTTPS, with a certificate that nobody else trusts."""
    with TlsFront(orthanc.port, self_signed(tmp_path / "front")) as front:
        yield front
        front.shutdown()


@pytest.fixture(autouse=True)
def login(monkeypatch) -> None:
    monkeypatch.setenv("LDCT_TESTS_USER", USER)
    monkeypatch.setenv("LDCT_TESTS_PASSWORD", PASSWORD)


def peer(server: TlsFront, **changes: object) -> DicomwebPeer:
    described = {"url": server.url, "login": {"env": "TESTS"}, "tls": {"ca": server.ca}}
    return DicomwebPeer(Dicomweb.model_validate({**described, **changes}))


def test_a_series_goes_both_ways_and_no_log_says_whose_or_how(secure, tmp_path):
    log = io.StringIO()
    handler, root = logging.StreamHandler(log), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        paths = write_ct(tmp_path / "in", 1)
        series = series_of(paths)
        assert send_series(tmp_path / "in", peer(secure)) == 3
        (tmp_path / "out").mkdir()
        peer(secure).retrieve(series, tmp_path / "out")
        with pytest.raises(Unreachable):
            peer(secure, url="https://127.0.0.1:1").list_instances(
                series.study_uid, series.series_uid
            )
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert len(list((tmp_path / "out").glob("*.dcm"))) == 3
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    for secret in (PASSWORD, basic, series.study_uid, "SECRET-4711", "Geheim"):
        assert secret not in log.getvalue()


def test_a_certificate_that_the_ca_did_not_sign_is_refused(secure, tmp_path):
    other = self_signed(tmp_path)["certificate"]
    for tls in ({"ca": other}, {}):  # somebody else's, and the system's authorities
        with pytest.raises(Unreachable, match=r"tls\.ca.*(self.signed|issuer)"):
            peer(secure, tls=tls).list_instances("1.2", "1.3")


def test_a_certificate_of_another_host_is_refused(secure):
    elsewhere = secure.url.replace("127.0.0.1", "localhost")
    with pytest.raises(Unreachable, match="not valid for 'localhost'"):
        peer(secure, url=elsewhere).list_instances("1.2", "1.3")


def test_a_pacs_that_asks_for_our_certificate_is_shown_it(orthanc, tmp_path):
    known, other = (self_signed(tmp_path / name) for name in ("known", "other"))
    paths = write_ct(tmp_path / "in", 1)
    uids = series_of(paths).study_uid, series_of(paths).series_uid
    front = TlsFront(orthanc.port, self_signed(tmp_path / "front"), clients=known["certificate"])
    with front as asking:
        for own in ({}, other):  # none, and one of another authority
            with pytest.raises(Unreachable):
                peer(asking, tls={"ca": asking.ca, **own}).list_instances(*uids)
        assert orthanc.series() == {}
        assert send_series(tmp_path / "in", peer(asking, tls={"ca": asking.ca, **known})) == 3
        asking.shutdown()
    assert orthanc.series() == {"Chest 1": 3}


def test_the_login_is_used(secure, monkeypatch):
    with pytest.raises(Refused, match="answered 401"):
        peer(secure, login=None).list_instances("1.2", "1.3")
    monkeypatch.setenv("LDCT_TESTS_PASSWORD", "wrong")
    with pytest.raises(Refused, match="answered 401"):
        peer(secure).list_instances("1.2", "1.3")
