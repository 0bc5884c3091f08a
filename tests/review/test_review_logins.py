"""Who forges a login of the review page is refused; sessions begin anew, and end."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from helpers.identity_provider import CLIENT, Provider, provided
from helpers.review import write_case
from helpers.review_access import ANNA, JSON, case_at, plain_page, site
from joserfc.jwk import OctKey, RSAKey

from pipeline.review.access.roles import OWN_COMPUTER
from pipeline.review.access.sessions import MOST, Sessions
from pipeline.review.access.settings import Session
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


def forged(provider: Provider, **changes: Any) -> None:
    for name, value in changes.items():
        setattr(provider, name, value)


@pytest.mark.parametrize(
    "changes",
    [
        {"changed": {"iss": "https://evil.example"}},
        {"changed": {"aud": "another-client"}},
        {"changed": {"exp": 1_000_000_000}},
        {"changed": {"nonce": "guessed"}},
        {"key": RSAKey.generate_key(2048, {"kid": "k1"})},  # not the one that is published
        # Signed with what everybody knows, the public key, as if it were a secret.
        {"algorithm": "HS256", "algorithms": ["HS256"], "key": OctKey.import_key("k" * 32)},
    ],
    ids=["issuer", "audience", "expired", "nonce", "key", "symmetric"],
)
def test_a_forged_id_token_lets_no_one_in(
    browser: httpx.Client, provider: Provider, changes: dict[str, Any]
) -> None:
    forged(provider, **changes)
    assert browser.get("/").status_code == 403
    assert browser.get("/api/worklist").status_code == 401


def test_an_unsigned_token_lets_no_one_in(
    browser: httpx.Client, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsigned(**more: Any) -> str:
        now = int(time.time())
        claims = {"iss": provider.issuer, "aud": CLIENT, "sub": "1", "iat": now, "exp": now + 60}
        parts = ({"alg": "none"}, {**claims, **provider.user, **more})
        coded = [base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=") for each in parts]
        return b".".join([*coded, b""]).decode()

    monkeypatch.setattr(provider, "signed", unsigned)
    provider.algorithms = ["none"]
    assert browser.get("/").status_code == 403


def test_another_issuer_than_the_settings_say_is_refused(
    browser: httpx.Client, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "issuer", "http://127.0.0.1:1")
    assert browser.get("/").status_code == 503


def test_an_answer_that_this_browser_did_not_ask_for_is_refused(
    address: str, provider: Provider
) -> None:
    """Login CSRF: a code of somebody else's login, sent to a reader's browser."""
    with httpx.Client(base_url=address) as attacker:
        there = attacker.get("/login").headers["location"]
        back = httpx.get(there).headers["location"]
    with httpx.Client(base_url=address) as victim:
        assert victim.get(back).status_code == 403
        assert victim.get("/api/worklist").status_code == 401
        assert victim.get("/login/callback?code=x&state=y").status_code == 403


def test_a_cookie_that_was_there_before_is_not_the_session(
    address: str, browser: httpx.Client
) -> None:
    port = address.rpartition(":")[2]
    browser.cookies.set(f"ldct-review-{port}", "chosen by somebody", domain="127.0.0.1")
    browser.get("/")
    assert {c.value for c in browser.cookies.jar if c.name == f"ldct-review-{port}"} != {
        "chosen by somebody"
    }
    with httpx.Client(base_url=address) as attacker:
        attacker.cookies.set(f"ldct-review-{port}", "chosen by somebody")
        assert attacker.get("/api/worklist").status_code == 401


def test_other_pages_and_hosts_are_refused_and_no_address_leads_elsewhere(
    browser: httpx.Client, address: str
) -> None:
    browser.get("/")
    cid = case_at(browser)
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        assert browser.get("/api/worklist", headers=headers).status_code == 403
        assert browser.post("/logout", headers={**headers, **JSON}, content="{}").status_code == 403
    # A form of another page cannot say that it sends JSON.
    plain = browser.post(f"/api/decision/{cid}", data={"verdict": "accept"})
    assert plain.status_code == 415
    assert browser.post("/logout", data={}).status_code == 403
    with httpx.Client(base_url=address) as other:
        there = other.get("/login?next=https://evil.example&redirect_uri=https://evil.example")
        assert "evil" not in there.headers["location"]


def test_logging_out_ends_the_session_here(browser: httpx.Client, root: Path) -> None:
    browser.get("/")
    kept = dict(browser.cookies)
    assert browser.post("/logout", json={}).status_code == 200
    browser.cookies.update(kept)  # a copy of the cookie is worth nothing
    assert browser.get("/api/worklist").status_code == 401
    assert audit_of(root).records()[-1] == audit_of(root).records()[-1] | {
        "act": "logged out",
        "reader": "anna.b@hospital.example",
        "address": "127.0.0.1",
    }


def test_sessions_end_unused_and_after_their_longest_time() -> None:
    clock = [0.0]
    sessions = Sessions(Session(idle_s=10, longest_s=25), now=lambda: clock[0])
    cookie = sessions.begin(OWN_COMPUTER)
    for clock[0] in (9, 18, 24):
        assert sessions.of(cookie) is OWN_COMPUTER
    clock[0] = 26
    assert sessions.of(cookie) is None
    unused = sessions.begin(OWN_COMPUTER)
    clock[0] = 37
    assert sessions.of(unused) is None
    many = [sessions.begin(OWN_COMPUTER) for _ in range(MOST + 1)]
    assert sessions.of(many[0]) is None
    assert sessions.of(many[-1]) is OWN_COMPUTER
