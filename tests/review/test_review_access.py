"""Readers log in by a real OpenID Connect flow; each role may do what it may, nothing else."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from helpers.identity_provider import CLIENT, Provider, provided
from helpers.pacs import free_port, self_signed
from helpers.review import running, write_case
from helpers.review_access import ANNA, ROLES, app_of, case_at, oidc_access, plain_page, site
from joserfc.jwk import RSAKey

from flows.hospital.review_watch import ReviewWatch
from pipeline.config.credentials import server_context
from pipeline.core.errors import ConfigError
from pipeline.review.access.login_record import REFUSED_EVERY_S, LoginRecord
from pipeline.review.access.roles import OWN_COMPUTER, Identity, NotAllowedError, Role
from pipeline.review.access.settings import AccessSettings, load_access
from pipeline.review.decisions import audit_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_case(tmp_path, 1)
    return tmp_path


@pytest.fixture(autouse=True)
def page(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    plain_page(tmp_path_factory.mktemp("built"), monkeypatch)


@pytest.fixture
def provider() -> Iterator[Provider]:
    with provided(dict(ANNA)) as found:
        yield found


@pytest.fixture
def address(root: Path, provider: Provider) -> Iterator[str]:
    with site(root, provider) as found:
        yield found


@pytest.fixture
def browser(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, follow_redirects=True) as found:
        yield found


def test_a_reader_is_sent_to_the_provider_and_comes_back_by_name(
    browser: httpx.Client, root: Path
) -> None:
    assert browser.get("/").text.startswith("the index.html")
    me = browser.get("/api/worklist").json()["me"]
    assert me == {
        "reader": "anna.b@hospital.example",
        "roles": ["reader", "releaser"],
        "can_log_out": True,
    }
    cid = case_at(browser)
    decided = browser.post(f"/api/decision/{cid}", json={"verdict": "accept"})
    assert decided.json()["decision"]["reader"] == "anna.b@hospital.example"
    acts = [(r["act"], r.get("reader"), r.get("login")) for r in audit_of(root).records()]
    assert ("logged in", "anna.b@hospital.example", "oidc") in acts
    assert acts[-1] == ("accept", "anna.b@hospital.example", "oidc")
    assert audit_of(root).faults() == []


def test_no_reader_writes_under_another_name(browser: httpx.Client) -> None:
    browser.get("/")
    cid = case_at(browser)
    body = {"reader": "ben", "verdict": "accept"}
    assert browser.post(f"/api/decision/{cid}", json=body).status_code == 403
    assert browser.post(f"/api/opened/{cid}", json={"reader": "ben"}).status_code == 403
    assert browser.get("/api/reading/ben").status_code == 403
    assert browser.post("/api/reading/ben", json={}).status_code == 403
    assert browser.get("/api/reading/anna.b@hospital.example").status_code == 200


#: What each group alone may do: look, take part in a study, decide, export.
MAY = {"radiology": (1, 1, 0, 0), "seniors": (1, 1, 1, 0), "it": (1, 1, 0, 1)}


@pytest.mark.parametrize("group", MAY)
def test_a_role_may_do_what_it_may_do_and_nothing_else(
    browser: httpx.Client, provider: Provider, group: str
) -> None:
    provider.user["groups"] = [group]
    browser.get("/")
    cid, name = case_at(browser), "anna.b@hospital.example"
    sid = browser.get("/api/worklist").json()["cases"][0]["series"]["original"]["sid"]
    looks, reads, decides, exports = MAY[group]
    asked = {
        ("GET", "/"): looks,
        ("GET", "/app.js"): looks,
        ("GET", "/api/worklist"): looks,
        ("GET", "/api/decisions"): looks,
        ("GET", f"/api/changes/{cid}"): looks,
        ("GET", f"/api/geometry/{sid}"): looks,
        ("GET", f"/api/planes/{sid}/slices/0"): looks,
        ("POST", f"/api/opened/{cid}"): looks,
        ("GET", f"/api/marks/{cid}"): looks,
        ("GET", f"/api/reading/{name}"): reads,
        ("POST", f"/api/decision/{cid}"): decides,
        ("GET", "/api/readings.csv"): exports,
    }
    for (method, path), allowed in asked.items():
        body = {"json": {"verdict": "accept"}} if method == "POST" else {}
        status = browser.request(method, path, **body).status_code
        assert status == (200 if allowed else 403), (method, path)


def test_every_route_asks_for_a_role(address: str) -> None:
    """Who is not logged in gets nothing at all."""
    with httpx.Client(base_url=address) as stranger:
        for path in ("/", "/app.js", "/report.html"):
            assert stranger.get(path).headers["location"] == "/login"
        for path in ("worklist", "decisions", "changes/x", "geometry/x", "planes/x/y/0"):
            assert stranger.get(f"/api/{path}").status_code == 401
        for path in ("decision/x", "opened/x", "reading/x"):
            assert stranger.post(f"/api/{path}", json={}).status_code == 401
        assert stranger.get("/api/readings.csv").status_code == 401
        assert stranger.get("/health").json() == {"folder": "ok"}


def test_no_route_is_open_but_health_and_the_login(root: Path, address: str) -> None:
    """Every route that the application has, those that are yet to be written too."""
    routes = app_of(root, oidc_access(address, "https://id.example")).routes
    paths = {route.path: sorted(route.methods) for route in routes}
    opened = {"/health", "/login", "/login/callback", "/logout"}
    assert opened < paths.keys()
    with httpx.Client(base_url=address) as stranger:
        for path, methods in paths.items():
            if path in opened:
                continue
            asked = re.sub("{.*?}", "0", path)
            for method in methods:
                assert stranger.request(method, asked).status_code in (303, 401), (method, path)


def test_an_export_of_readings_is_recorded_with_who_asked(
    browser: httpx.Client, provider: Provider, root: Path
) -> None:
    provider.user["groups"] = ["it"]
    browser.get("/")
    assert browser.get("/api/readings.csv").status_code == 200
    last = audit_of(root).records()[-1]
    assert last["act"] == "readings exported"
    assert (last["reader"], last["login"]) == ("anna.b@hospital.example", "oidc")


def test_who_opens_a_case_is_recorded_with_how_they_logged_in(
    browser: httpx.Client, root: Path
) -> None:
    browser.get("/")
    assert browser.post(f"/api/opened/{case_at(browser)}", json={}).status_code == 200
    last = audit_of(root).records()[-1]
    assert (last["act"], last["reader"], last["login"]) == (
        "opened",
        "anna.b@hospital.example",
        "oidc",
    )


def test_that_the_page_starts_and_ends_is_in_the_audit_log(root: Path, provider: Provider) -> None:
    port = free_port()
    access = oidc_access(f"http://127.0.0.1:{port}", provider.issuer)
    with running(app_of(root, access), port=port):
        pass
    assert [record["act"] for record in audit_of(root).records()][-2:] == ["started", "ended"]


def test_strangers_do_not_fill_the_audit_log(address: str, root: Path) -> None:
    with httpx.Client(base_url=address) as stranger:
        for number in range(30):
            answer = stranger.get(f"/login/callback?code={number}&state={number}")
            assert answer.status_code == 403
    refusals = [r for r in audit_of(root).records() if r["act"] == "login refused"]
    assert [r["times"] for r in refusals] == [1]


def test_refusals_are_counted_and_written_once_a_minute_for_a_reason() -> None:
    clock, written = [0.0], []
    record = LoginRecord(written.append, now=lambda: clock[0])
    for _ in range(5):
        record.refused("one")
    record.refused("another")
    clock[0] = REFUSED_EVERY_S
    record.refused("one")
    found = [(each["reason"], each["times"]) for each in written]
    assert found == [("one", 1), ("another", 1), ("one", 5)]


def test_keys_that_the_provider_changed_are_asked_for_again(
    browser: httpx.Client, provider: Provider
) -> None:
    assert browser.get("/").status_code == 200
    browser.post("/logout", json={})
    provider.key = provider.published = RSAKey.generate_key(2048, {"kid": "k2"})
    provider.kid = "k2"
    assert browser.get("/").status_code == 200


@pytest.mark.parametrize(
    "claims",
    [{"preferred_username": "anna\n"}, {"groups": "radiology it"}, {"groups": {"it": True}}],
)
def test_claims_that_only_look_like_a_name_or_a_role_let_no_one_in(
    browser: httpx.Client, provider: Provider, claims: dict[str, Any]
) -> None:
    provider.user |= claims
    assert browser.get("/").status_code == 403


def test_a_second_login_in_a_browser_ends_the_first(browser: httpx.Client, address: str) -> None:
    browser.get("/")
    first = dict(browser.cookies)
    assert browser.get("/login").status_code == 200
    assert dict(browser.cookies) != first
    assert httpx.get(f"{address}/api/worklist", cookies=first).status_code == 401
    assert browser.get("/api/worklist").status_code == 200


def test_behind_a_proxy_that_ends_tls_the_address_is_that_of_readers(
    root: Path, provider: Provider
) -> None:
    """As deploy/nginx has it: http on this computer alone, and the Host that the browser sent."""
    access = oidc_access("https://review.example.org", provider.issuer)
    with running(app_of(root, access)) as port:
        here = f"http://127.0.0.1:{port}"
        assert httpx.get(f"{here}/").status_code == 403  # not by another name, but for /health
        headers = {"Host": "review.example.org", "X-Forwarded-For": "192.0.2.1"}
        sent = httpx.get(f"{here}/login", headers=headers)
    back = "redirect_uri=https%3A%2F%2Freview.example.org%2Flogin%2Fcallback"
    assert back in sent.headers["location"]
    cookie = sent.headers["set-cookie"].lower()
    assert cookie.startswith("__host-ldct-login-443=")
    assert all(f"; {each}" in cookie for each in ("secure", "httponly", "samesite=lax", "path=/"))
    assert "domain=" not in cookie


def test_without_a_role_here_a_login_is_refused_and_recorded(
    browser: httpx.Client, provider: Provider, root: Path
) -> None:
    provider.user["groups"] = ["kitchen"]
    answer = browser.get("/")
    assert answer.status_code == 403
    assert "no role here" in answer.text
    assert audit_of(root).records()[-1]["act"] == "login refused"
    provider.user = {"preferred_username": "../anna", "groups": ["it"]}
    assert browser.get("/").status_code == 403


def test_two_tabs_never_overwrite_each_other_unseen(browser: httpx.Client, root: Path) -> None:
    browser.get("/")
    cid = case_at(browser)
    first = browser.post(f"/api/decision/{cid}", json={"verdict": "accept", "seen": ""})
    shown = first.json()["decision"]
    assert browser.get("/api/decisions").json() == {cid: shown}  # what the other tab will show
    unseen = {"verdict": "reject", "reason": "blurred", "seen": ""}
    refused = browser.post(f"/api/decision/{cid}", json=unseen)
    assert refused.status_code == 409
    assert "accepted it meanwhile" in refused.json()["error"]
    assert refused.json()["case"]["decision"] == shown
    assert audit_of(root).records()[-1]["act"] == "accept"
    again = browser.post(f"/api/decision/{cid}", json={**unseen, "seen": shown["time"]})
    assert again.json()["decision"]["act"] == "reject"


def test_names_and_roles() -> None:
    assert OWN_COMPUTER.name("anna") == "anna"
    assert OWN_COMPUTER.rights == ["reader", "releaser", "admin"]
    admin = Identity("ivo", frozenset({Role.ADMIN}), "oidc")
    assert admin.rights == ["reader", "admin"]
    with pytest.raises(NotAllowedError, match="role releaser"):
        admin.require(Role.RELEASER)
    assert not Identity("x", frozenset(), "oidc").may(Role.READER)


def test_over_tls_only_browsers_with_a_certificate_get_in_and_health_is_known(
    root: Path, tmp_path: Path, provider: Provider
) -> None:
    own = self_signed(tmp_path)
    port = free_port()
    access = AccessSettings.model_validate(
        {
            "address": f"https://127.0.0.1:{port}",
            "tls": {**own, "ca": own["certificate"]},
            "oidc": {"issuer": provider.issuer, "client": CLIENT, "secret": {"env": "REVIEW"}},
            "roles": ROLES,
        }
    )
    context = server_context(access.tls)
    known = ssl.create_default_context(cafile=own["certificate"])
    options = {"ssl_context_factory": lambda config, default: context}
    with running(app_of(root, access), port=port, **options):
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{access.origin}/", verify=known)
        assert ReviewWatch("127.0.0.1", port, context).health().well
        known.load_cert_chain(own["certificate"], own["key"])
        with httpx.Client(base_url=access.origin, verify=known, follow_redirects=True) as reader:
            assert reader.get("/").status_code == 200
            (cookie,) = [c for c in reader.cookies.jar if "review" in c.name]
            assert cookie.name == f"__Host-ldct-review-{port}"
            assert cookie.secure
    assert not ReviewWatch("127.0.0.1", port, context).health().well


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"address": "http://review.example.org"}, "address.*https"),
        ({"listen": {"host": "0.0.0.0"}}, "tls needs a certificate"),
        ({"oidc": None}, "oidc or proxy"),
        ({"roles": {}}, "roles"),
        ({"roles": {"boss": ["x"]}}, "roles"),
        ({"address": "https://review.example.org/sub"}, "address"),
        (
            {"oidc": {"issuer": "http://id.example", "client": "c", "secret": {"env": "X"}}},
            "issuer",
        ),
        ({"oidc": {"issuer": "https://id", "client": "c", "secret": "plain text"}}, "secret"),
    ],
)
def test_settings_that_would_let_strangers_in_are_refused(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    import yaml

    sound = {
        "address": "https://review.example.org:8443",
        "oidc": {"issuer": "https://id.example", "client": "c", "secret": {"env": "X"}},
        "roles": ROLES,
    }
    path = tmp_path / "access.yaml"
    path.write_text(yaml.safe_dump(sound))
    assert load_access(path).origin == "https://review.example.org:8443"
    path.write_text(yaml.safe_dump(sound | changes))
    with pytest.raises(ConfigError, match=named):
        load_access(path)
