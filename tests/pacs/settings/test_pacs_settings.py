"""A hospital's YAML: what it may say, where secrets are, and TLS both ways."""

from __future__ import annotations

import datetime
import functools
import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from helpers.pacs import free_port, self_signed, settings, write_ct

from pipeline.config.connection import Login
from pipeline.config.credentials import Credentials, credentials
from pipeline.core.errors import ConfigError
from pipeline.pacs.incoming.receiver import Receiver
from pipeline.pacs.peers.dicomweb import DicomwebPeer
from pipeline.pacs.peers.dimse import DimsePeer
from pipeline.pacs.peers.peer import Refused, Unreachable
from pipeline.pacs.settings.endpoints import Dicomweb, Dimse
from pipeline.pacs.settings.hospital import RoutingRule, load_pacs
from pipeline.pacs.settings.rules import SeriesFacts, first_match, has_wrong_clock, match_rules
from pipeline.pacs.work.ledger import Ledger

MINIMAL = {
    "model": "redcnn",
    "work": "work",
    "rules": [{"name": "all"}],
    "send": {"dimse": {"host": "pacs", "port": 104, "called": "PACS"}},
}


def written(folder: Path, **changes) -> Path:
    path = folder / "hospital.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, **changes}))
    return path


def test_a_minimal_yaml_listens_on_loopback_and_selects_ct(tmp_path):
    read = load_pacs(written(tmp_path))
    assert read.receive.host == "127.0.0.1"
    assert read.rules[0].modality == ("CT",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rule": []}, "rule: Extra inputs"),
        ({"rules": []}, "rules: "),
        ({"rules": [{"name": "a", "description": "("}]}, "rules.0.description: .*no regular"),
        ({"send": {}}, "send: .*either dicomweb or dimse"),
        ({"source": {"url": "ftp://pacs/x"}}, "source.url: .*expected http"),
        ({"source": {"url": "https://u:p@pacs/x"}}, "source.url: .*no user, password"),
        ({"source": {"url": "http://pacs", "login": {"env": "A"}}}, "source: .*use https"),
        ({"source": {"url": "https://pacs", "login": {}}}, "login: .*either env or file"),
        ({"receive": {"tls": {}}}, "receive: .*needs a certificate"),
        ({"rules": [{"name": "a", "date": {"within_days": 1, "since": "2026-01-01"}}]}, "not both"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=f"hospital.yaml: .*{message}"):
        load_pacs(written(tmp_path, **changes))


def test_the_yaml_of_the_documentation_is_one(tmp_path):
    text = (Path(__file__).parents[3] / "docs" / "pacs.md").read_text()
    example = text.partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "hospital.yaml").write_text(example)
    assert load_pacs(tmp_path / "hospital.yaml").rules[0].instances == 50


def test_the_defaults_of_the_documentation_are_those(tmp_path):
    text = (Path(__file__).parents[3] / "docs" / "pacs.md").read_text()
    table = text.partition("Keys that are left out have these values:\n\n")[2].partition("\n\n")[0]
    rows = [row.strip("| ").split(" | ") for row in table.splitlines()[2:]]
    read = load_pacs(written(tmp_path, schedule={"time_zone": "UTC"}))
    for key, default in rows:
        value = functools.reduce(getattr, key.strip("`").split("."), read)
        assert (f"{value:g}" if isinstance(value, float) else str(value)) == default, key
    assert len(rows) > 15


def test_a_redirect_is_not_followed():
    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:1/metadata")
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        peer = DicomwebPeer(Dicomweb(url=f"http://127.0.0.1:{server.server_port}/x"))
        with pytest.raises(Refused, match="redirects elsewhere"):
            peer.list_instances("1.2", "1.3")
        server.shutdown()


def test_secrets_come_from_the_environment_or_a_private_file_and_are_not_shown(
    tmp_path, monkeypatch
):
    with pytest.raises(ConfigError, match="LDCT_SITE_USER"):
        credentials(Login(env="SITE"))
    monkeypatch.setenv("LDCT_SITE_USER", "me")
    monkeypatch.setenv("LDCT_SITE_PASSWORD", "hush")
    found = credentials(Login(env="SITE"))
    assert found == Credentials("me", "hush")
    assert "hush" not in f"{found!r} {found}"
    path = tmp_path / "login"
    path.write_text("token: abc")
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        credentials(Login(file=path))
    path.chmod(0o600)
    assert credentials(Login(file=path)).token == "abc"
    path.write_text("password: [hush")
    with pytest.raises(ConfigError) as refused:
        credentials(Login(file=path))
    assert "hush" not in f"{refused.value} {refused.value.__cause__}"


def facts(**changes) -> SeriesFacts:
    given = {
        "modality": "CT",
        "description": "Thorax 1.0 Br40",
        "body_part": "CHEST",
        "kernel": "Br40f\\3",
        "study_date": datetime.date(2026, 11, 20),
        "instances": 300,
        "ours": False,
    }
    return SeriesFacts(**{**given, **changes})


@pytest.mark.parametrize(
    ("rule", "changes", "expected"),
    [
        ({}, {}, True),
        ({}, {"ours": True}, False),
        ({}, {"modality": "MR"}, False),
        ({"kernel": ["br40f"]}, {}, True),
        ({"kernel": ["Br40f\\3"]}, {}, True),
        ({"kernel": ["B30f"]}, {}, False),
        ({"kernel": ["B30f"]}, {"kernel": ""}, False),
        ({"description": r"thorax .* br\d+"}, {}, True),
        ({"description": "^br40"}, {}, False),
        ({"instances": 301}, {}, False),
        ({"station": ["ct1"]}, {"station": "CT1"}, True),
        ({"station": ["CT1"]}, {"station": "CT10"}, False),
        ({"station": ["CT1"]}, {}, False),
        ({"institution": ["City Hospital"]}, {"institution": "City hospital"}, True),
        ({"institution": ["City Hospital"]}, {"institution": "Other"}, False),
        ({"calling": ["CT1", "GATE"]}, {"callers": ("CT2", "GATE")}, True),
        ({"calling": ["CT1"]}, {"callers": ("CT2",)}, False),
        ({"calling": ["CT1"]}, {}, False),
        ({"date": {"within_days": 1}}, {}, True),
        ({"date": {"within_days": 0}}, {}, False),
        ({"date": {"since": "2026-11-20"}}, {}, True),
        ({"date": {"until": "2026-11-19"}}, {}, False),
        ({"date": {"since": "2026-11-01"}}, {"study_date": None}, False),
    ],
)
def test_rules(rule, changes, expected):
    chosen = RoutingRule.model_validate({"name": "r", **rule})
    matches = match_rules(facts(**changes), [chosen], today=datetime.date(2026, 11, 21))
    assert (first_match(matches) == "r") is expected
    assert not has_wrong_clock(facts(**changes), datetime.date(2026, 11, 21))
    assert "2026-11-20" not in " ".join(
        reason.found for match in matches for reason in match.reasons
    )


@pytest.mark.parametrize(
    ("study_date", "wrong"),
    [
        (datetime.date(2026, 11, 22), False),  # tomorrow, further east
        (datetime.date(2026, 11, 23), True),
        (datetime.date(2099, 1, 1), True),
        (datetime.date(1970, 1, 1), True),  # a clock without its battery
        (datetime.date(1998, 1, 1), False),
        (None, False),
    ],
)
def test_a_clock_that_is_wrong_is_told_from_a_date_that_is_old(study_date, wrong):
    today = datetime.date(2026, 11, 21)
    found = facts(study_date=study_date)
    assert has_wrong_clock(found, today) is wrong
    rule = RoutingRule.model_validate({"name": "r", "date": {"within_days": 1}})
    ((*_, last),) = (match.reasons for match in match_rules(found, [rule], today=today))
    assert ("look at the scanner's" in last.found) is wrong


@pytest.fixture
def certificate(tmp_path: Path) -> dict[str, str]:
    """A self-signed certificate of 127.0.0.1, and its key."""
    return self_signed(tmp_path)


def test_c_store_over_tls_both_sides_known(tmp_path, certificate):
    port, own = free_port(), {**certificate, "ca": certificate["certificate"]}
    chosen = settings(tmp_path / "work", receive={"port": port, "tls": own})
    server = Receiver(chosen, Ledger(chosen.work), "m", b"k" * 32).start()
    paths = write_ct(tmp_path / "in", 1)
    try:
        entity = {"host": "127.0.0.1", "port": port, "called": "LDCT", "timeout_s": 10}
        DimsePeer(Dimse.model_validate({**entity, "tls": own})).send(paths)
        assert len(list(tmp_path.rglob("incoming/*/*/*.dcm"))) == 3
        unknown = Dimse.model_validate({**entity, "tls": {"ca": own["ca"]}})
        with pytest.raises(Unreachable):  # no certificate of its own
            DimsePeer(unknown).send(paths)
        with pytest.raises(Unreachable):  # not in the clear
            DimsePeer(Dimse.model_validate(entity)).send(paths)
    finally:
        server.shutdown()


def test_https_is_checked_against_the_authority_of_the_configuration(certificate):
    described = {"url": "https://127.0.0.1:1/x", "tls": {"ca": certificate["certificate"]}}
    peer = DicomwebPeer(Dicomweb.model_validate(described))
    session = peer._client._session
    context = session.get_adapter(described["url"]).poolmanager.connection_pool_kw["ssl_context"]
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert [each["serialNumber"] for each in context.get_ca_certs()] == ["01"]
    assert not session.trust_env
