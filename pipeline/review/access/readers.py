"""Readers at their own workstations: they log in, and are known by name and role.

With `oidc` the page sends them to the hospital's identity provider and gets back who they are
(OpenID Connect Core 1.0, authorization code flow with PKCE, RFC 7636; by Authlib). With `proxy`
each request brings a token that a proxy signed.
"""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import urlsplit

import httpx
from joserfc.errors import JoseError
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from pipeline.config.credentials import credentials
from pipeline.core.errors import ConfigError
from pipeline.review.access.claims import (
    ALGORITHMS,
    LEEWAY_S,
    TIMEOUT_S,
    LoginError,
    SignedTokens,
    identity_of,
)
from pipeline.review.access.login_record import LoginRecord, Record
from pipeline.review.access.roles import Identity
from pipeline.review.access.sessions import Sessions
from pipeline.review.access.settings import AccessSettings, OpenIdConnect

COOKIE, STATE_COOKIE = "ldct-review", "ldct-login"
LOGIN, CALLBACK, LOGOUT = "/login", "/login/callback", "/logout"
#: How long a login may take.
LOGIN_S = 600
_PROVIDER = "provider"


class Readers:
    """Lets in who logged in. record: writes an act (logged in, logged out, refused) to the log."""

    def __init__(self, access: AccessSettings, record: Record) -> None:
        self.access, self._record = access, LoginRecord(record)
        self.sessions = Sessions(access.session)
        self.tokens = SignedTokens(access.proxy) if access.proxy else None
        self.oauth = _client(access.oidc) if access.oidc else None
        self.can_log_out = self.oauth is not None
        self.routes: list[Route] = []
        if self.oauth:
            self.routes = [
                Route(LOGIN, self.log_in),
                Route(CALLBACK, self.come_back),
                Route(LOGOUT, self.log_out, methods=["POST"]),
            ]

    @property
    def cookie(self) -> str:
        """The cookie of a login that was accepted."""
        return self._named(COOKIE)

    def _named(self, cookie: str) -> str:
        """By port, since browsers send cookies to every port of a host; `__Host-` ties it to this
        host and to TLS (RFC 6265bis): no other host of the domain can set it."""
        port = urlsplit(self.access.origin).port or (443 if self.access.is_secure else 80)
        return f"{'__Host-' if self.access.is_secure else ''}{cookie}-{port}"

    @property
    def middleware(self) -> list[Middleware]:
        """What the login needs while it lasts: its state, in a signed cookie of its own."""
        return [
            Middleware(
                SessionMiddleware,
                secret_key=secrets.token_urlsafe(32),
                session_cookie=self._named(STATE_COOKIE),
                max_age=LOGIN_S,
                same_site="lax",  # the provider's page sends the browser back
                https_only=self.access.is_secure,
            )
        ]

    def origins(self, request: Request) -> set[str]:
        """The one address that readers type."""
        return {self.access.origin}

    async def identity(self, request: Request) -> Identity | Response:
        """By the proxy's header, or by the cookie of a login."""
        if self.tokens and self.access.proxy:
            token = request.headers.get(self.access.proxy.header, "").removeprefix("Bearer ")
            try:
                claims = await run_in_threadpool(self.tokens.claims, token)
                return identity_of(claims, self.access, "proxy")
            except LoginError as error:
                return PlainTextResponse(f"refused: {error}", 403)
            except ConfigError as error:
                return PlainTextResponse(str(error), 503)
        found = self.sessions.of(request.cookies.get(self.cookie, ""))
        if found is not None:
            return found
        if request.method == "GET" and not request.url.path.startswith("/api/"):
            return RedirectResponse(LOGIN, 303)
        return JSONResponse({"error": "you are not logged in, or no longer: load the page"}, 401)

    async def log_in(self, request: Request) -> Response:
        """Send the browser to the provider."""
        from authlib.integrations.base_client import OAuthError

        provider = self._provider()
        try:
            await self._require_sound(provider)
            found = await provider.authorize_redirect(request, self.access.origin + CALLBACK)
        except (OAuthError, httpx.HTTPError, ValueError, RuntimeError) as error:
            return _unreachable(error)
        return found

    async def come_back(self, request: Request) -> Response:
        """The provider sent the browser back: look at what it says, and begin a session."""
        from authlib.integrations.base_client import OAuthError

        provider, oidc = self._provider(), self.access.oidc
        assert oidc is not None
        try:
            await self._require_sound(provider)
            expected = {
                "iss": {"essential": True, "value": oidc.issuer},
                "aud": {"essential": True, "value": oidc.client},
                "exp": {"essential": True},
            }
            token = await provider.authorize_access_token(
                request, claims_options=expected, leeway=LEEWAY_S
            )
            if "userinfo" not in token:
                raise LoginError("the provider sent no ID token")
            identity = identity_of(token["userinfo"], self.access, "oidc")
        except (OAuthError, JoseError, LoginError) as error:
            return await self._refused(error)
        except (httpx.HTTPError, ValueError, RuntimeError) as error:
            return _unreachable(error)
        request.session.clear()
        await self._end(request)  # of who was logged in here before
        claims, address = token["userinfo"], _address(request)
        await run_in_threadpool(self._record.logged_in, identity, claims, address)
        response = RedirectResponse("/", 303)
        response.set_cookie(
            self.cookie,
            self.sessions.begin(identity),
            httponly=True,
            secure=self.access.is_secure,
            samesite="lax",
            path="/",
        )
        return response

    async def log_out(self, request: Request) -> Response:
        """End the session here; the provider's own goes on."""
        if request.headers.get("content-type") != "application/json":
            return PlainTextResponse("refused: asked for by another page", 403)
        await self._end(request)
        response = JSONResponse({})
        response.delete_cookie(self.cookie, path="/", secure=self.access.is_secure, httponly=True)
        return response

    async def _end(self, request: Request) -> None:
        identity = self.sessions.end(request.cookies.get(self.cookie, ""))
        if identity is not None:
            await run_in_threadpool(self._record.logged_out, identity, _address(request))

    async def _refused(self, error: Exception) -> Response:
        """403 with what is wrong, in words of our own: a provider's may hold anything."""
        why = str(error) if isinstance(error, LoginError) else type(error).__name__
        await run_in_threadpool(self._record.refused, why)
        return PlainTextResponse(f"refused: {why}. Begin again at {self.access.origin}/", 403)

    def _provider(self) -> Any:
        assert self.oauth is not None
        return self.oauth.create_client(_PROVIDER)

    async def _require_sound(self, provider: Any) -> None:
        """Raises LoginError where the provider is not the one of the settings; leaves of its
        signatures those that only it can make."""
        assert self.access.oidc is not None
        metadata = await provider.load_server_metadata()
        if metadata.get("issuer") != self.access.oidc.issuer:
            raise ValueError("the provider names another issuer than the settings")
        offered = metadata.get("id_token_signing_alg_values_supported") or ["RS256"]
        metadata["id_token_signing_alg_values_supported"] = [
            name for name in offered if name in ALGORITHMS
        ] or ["RS256"]


def _client(oidc: OpenIdConnect) -> Any:
    """Authlib's OAuth. Raises ConfigError where the secret cannot be read."""
    # Here and not above: importing it changes which warnings the process shows.
    from authlib.integrations.starlette_client import OAuth

    secret = credentials(oidc.secret).token
    if not secret:
        raise ConfigError("oidc.secret: expected a token, the client's secret")
    oauth = OAuth()
    oauth.register(
        _PROVIDER,
        client_id=oidc.client,
        client_secret=secret,
        server_metadata_url=oidc.issuer.rstrip("/") + "/.well-known/openid-configuration",
        client_kwargs={
            "scope": "openid profile",
            "code_challenge_method": "S256",
            "verify": str(oidc.ca) if oidc.ca else True,
            "trust_env": False,  # no proxy or .netrc of the environment
            "timeout": TIMEOUT_S,
        },
    )
    return oauth


def _address(request: Request) -> str:
    """Of the computer that asks: a proxy's, where one stands before the page."""
    return request.client.host if request.client else ""


def _unreachable(error: Exception) -> Response:
    kind = type(error).__name__
    return PlainTextResponse(f"the identity provider cannot be used now ({kind}): try again", 503)
