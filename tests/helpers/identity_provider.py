"""A small OpenID Connect provider, for tests: discovery, keys, the code flow with PKCE, ID tokens.

No password is asked for: `user` says who is logged in at it.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode

from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from helpers.review import running

CLIENT, SECRET = "ldct-review", "the client's secret"


@dataclass
class Provider:
    """What it answers, and what a test may change: `user` are the claims of who is logged in,
    `changed` overrides claims of the next ID tokens, `key` and `algorithm` sign them."""

    user: dict[str, Any]
    issuer: str = ""
    key: RSAKey | OctKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "k1"}))
    kid: str = "k1"
    algorithm: str = "RS256"
    algorithms: list[str] = field(default_factory=lambda: ["RS256"])
    changed: dict[str, Any] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    published: RSAKey | None = None

    def __post_init__(self) -> None:
        self.published = self.published or self.key

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self.configuration),
                Route("/keys", self.keys),
                Route("/authorize", self.authorize),
                Route("/token", self.token, methods=["POST"]),
            ]
        )

    def configuration(self, request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "id_token_signing_alg_values_supported": self.algorithms,
            }
        )

    def keys(self, request: Request) -> Response:
        assert self.published is not None
        return JSONResponse({"keys": [self.published.as_dict(private=False)]})

    def authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        back = urlencode({"code": code, "state": asked["state"]})
        return RedirectResponse(f"{asked['redirect_uri']}?{back}", 302)

    async def token(self, request: Request) -> Response:
        sent = {
            name: values[0] for name, values in parse_qs((await request.body()).decode()).items()
        }
        expected = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        asked = self.codes.pop(sent["code"], None)
        challenge = hashlib.sha256(sent.get("code_verifier", "").encode()).digest()
        if (
            request.headers.get("authorization") != f"Basic {expected}"
            or asked is None
            or base64.urlsafe_b64encode(challenge).rstrip(b"=").decode() != asked["code_challenge"]
            or sent["redirect_uri"] != asked["redirect_uri"]
        ):
            return JSONResponse({"error": "invalid_grant"}, 400)
        return JSONResponse(
            {
                "access_token": secrets.token_urlsafe(16),
                "token_type": "Bearer",
                "id_token": self.signed(nonce=asked.get("nonce")),
            }
        )

    def signed(self, **more: Any) -> str:
        """An ID token of who is logged in."""
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "sub": "1", "iat": now, "exp": now + 300}
        claims |= {**self.user, **more, **self.changed}
        header = {"alg": self.algorithm, "kid": self.kid}
        return jwt.encode(header, claims, self.key, algorithms=[self.algorithm])


@contextmanager
def provided(user: dict[str, Any]) -> Iterator[Provider]:
    """A provider that runs while the block lasts."""
    provider = Provider(user)
    with running(provider.app()) as port:
        provider.issuer = f"http://127.0.0.1:{port}"
        yield provider
