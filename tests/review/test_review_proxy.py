"""A proxy that readers log in to: its signed tokens are read, and nothing else that it sends."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from helpers.pacs import free_port
from helpers.review import running, write_case
from helpers.review_access import ANNA, ROLES, app_of, plain_page
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from pipeline.core.errors import ConfigError
from pipeline.review.access.claims import LoginError, SignedTokens
from pipeline.review.access.settings import AccessSettings, SignedHeader

ISSUER, AUDIENCE = "https://proxy.example", "review"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_case(tmp_path, 1)
    return tmp_path


@pytest.fixture(autouse=True)
def page(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    plain_page(tmp_path_factory.mktemp("built"), monkeypatch)


def token(key: RSAKey | OctKey, algorithm: str = "RS256", kid: str = "k1", **changes: Any) -> str:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 60, **ANNA} | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode({"alg": algorithm, "kid": kid}, claims, key, algorithms=[algorithm])


@pytest.fixture
def proxy_key(tmp_path: Path) -> RSAKey:
    key = RSAKey.generate_key(2048, {"kid": "k1"})
    keys = {"keys": [key.as_dict(private=False)]}
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    return key


def test_a_proxy_s_signed_token_is_read_and_a_plain_header_is_not(
    root: Path, tmp_path: Path, proxy_key: RSAKey
) -> None:
    port = free_port()
    header = "X-Forwarded-Access-Token"
    access = AccessSettings.model_validate(
        {
            "address": f"http://127.0.0.1:{port}",
            "proxy": {
                "header": header,
                "issuer": ISSUER,
                "audience": AUDIENCE,
                "keys": str(tmp_path / "keys.json"),
            },
            "roles": ROLES,
        }
    )
    app = app_of(root, access)
    with running(app, port=port), httpx.Client(base_url=access.origin) as client:

        def status(value: str) -> int:
            return client.get("/api/worklist", headers={header: value}).status_code

        good = token(proxy_key)
        found = client.get("/api/worklist", headers={header: f"Bearer {good}"})
        assert found.json()["me"]["reader"] == ANNA["preferred_username"]
        assert found.json()["me"]["can_log_out"] is False
        assert status(good) == 200
        assert client.get("/api/worklist").status_code == 403
        for bad in (
            "anna",
            "",
            token(RSAKey.generate_key(2048, {"kid": "k1"})),
            good[:-4] + "AAAA",
        ):
            assert status(bad) == 403


@pytest.mark.parametrize(
    "changes",
    [{"iss": "https://evil.example"}, {"aud": "other"}, {"aud": None}, {"exp": None}, {"exp": 9e8}],
)
def test_a_token_for_somewhere_else_or_another_time_is_refused(
    tmp_path: Path, proxy_key: RSAKey, changes: dict[str, Any]
) -> None:
    keys = str(tmp_path / "keys.json")
    settings = SignedHeader(header="X-T", issuer=ISSUER, audience=AUDIENCE, keys=keys)
    tokens = SignedTokens(settings)
    assert tokens.claims(token(proxy_key))["iss"] == ISSUER
    with pytest.raises(LoginError, match="refused"):
        tokens.claims(token(proxy_key, **changes))
    secret = OctKey.import_key((tmp_path / "keys.json").read_text())
    with pytest.raises(LoginError):
        tokens.claims(token(secret, "HS256"))


def test_keys_that_cannot_be_read_for_a_while_leave_those_from_before(
    tmp_path: Path, proxy_key: RSAKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a stranger's bad token keeps every reader out while the provider is away."""
    monkeypatch.setattr("pipeline.review.access.claims.ASK_AGAIN_S", 0)
    path = tmp_path / "keys.json"
    settings = SignedHeader(header="X-T", issuer=ISSUER, audience=AUDIENCE, keys=str(path))
    tokens = SignedTokens(settings)
    assert tokens.claims(token(proxy_key))["iss"] == ISSUER
    path.rename(tmp_path / "away")
    with pytest.raises(ConfigError, match="cannot read the keys"):
        tokens.claims("not.a.token")
    assert tokens.claims(token(proxy_key))["iss"] == ISSUER
    new = RSAKey.generate_key(2048, {"kid": "k2"})
    path.write_text(json.dumps({"keys": [new.as_dict(private=False)]}))
    assert tokens.claims(token(new, kid="k2"))["iss"] == ISSUER
    with pytest.raises(LoginError):
        tokens.claims(token(proxy_key))  # no longer published


def odd(header: object, payload: object = None) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()) for part in (header, payload)]
    return b".".join([*(part.rstrip(b"=") for part in parts), b"AAAA"]).decode()


@pytest.mark.parametrize(
    "bad",
    [
        odd([]),
        odd({}),
        odd({"alg": ["RS256"]}),
        odd({"alg": "RS256", "kid": {"k": 1}}),
        odd({"alg": "RS256", "kid": "k1", "crit": ["b64"], "b64": False}),
        odd({"alg": "none"}, {"iss": ISSUER}),
        odd({"alg": "RS256", "kid": "../../etc/passwd"}),
        "a.b",
        "." * 5,
        "\u00e9." * 3,
        "x" * 100_000,
    ],
)
def test_whatever_stands_in_the_header_is_refused_in_words(
    tmp_path: Path, proxy_key: RSAKey, bad: str
) -> None:
    keys = str(tmp_path / "keys.json")
    tokens = SignedTokens(SignedHeader(header="X-T", issuer=ISSUER, audience=AUDIENCE, keys=keys))
    with pytest.raises(LoginError, match="refused"):
        tokens.claims(bad)
