"""What every request passes first: the host, the page that asks, and who is behind it."""

from __future__ import annotations

from typing import Protocol

from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pipeline.review.access.roles import Identity

#: Asked by a watchdog on this computer, which has no cookie; the answer says nothing else.
HEALTH = "/health"
#: The page may load from its own server and from nowhere else.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Access(Protocol):
    """Who is let in."""

    #: Its own routes, such as of a login; whoever asks them is not yet known.
    routes: list[Route]
    #: Whether somebody who is logged in can log out here.
    can_log_out: bool

    @property
    def middleware(self) -> list[Middleware]:
        """What its own routes need around them."""

    def origins(self, request: Request) -> set[str]:
        """The addresses, scheme and host and port, under which this server may be asked."""

    async def identity(self, request: Request) -> Identity | Response:
        """Who asks, or what they are answered who are not let in."""


class AccessControl(BaseHTTPMiddleware):
    """Refuses other hosts and other pages, asks who it is, and adds the headers.

    The rest of the application finds the Identity in request.state.identity.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        super().__init__(app)
        self.access = access
        self.open = {HEALTH, *(route.path for route in access.routes)}

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Answer 403, or what Access says, or pass the request on."""
        health = request.url.path == HEALTH
        response = None if health and _is_here(request) else self._refusal(request)
        if response is None and request.url.path not in self.open:
            found = await self.access.identity(request)
            if isinstance(found, Identity):
                request.state.identity = found
            else:
                response = found
        if response is None:
            response = await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    def _refusal(self, request: Request) -> Response | None:
        """403 for another host name (DNS rebinding), or another page's request."""
        host = request.headers.get("host", "").lower()
        origins = self.access.origins(request)
        if host not in {origin.partition("://")[2] for origin in origins}:
            return PlainTextResponse("refused: not this server's own address", 403)
        origin = request.headers.get("origin")
        if origin is not None and origin.lower() not in origins:
            return PlainTextResponse("refused: asked for by another page", 403)
        return None


def _is_here(request: Request) -> bool:
    """Whether a watchdog on this computer asks by one of its own names."""
    return request.url.hostname in ("127.0.0.1", "localhost", "::1")
