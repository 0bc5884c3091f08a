"""One person on their own computer: a link that works once, and then a cookie."""

from __future__ import annotations

import hmac
import secrets

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from pipeline.review.access.roles import OWN_COMPUTER, Identity

COOKIE = "ldct-review"
NAMES = ("127.0.0.1", "localhost")


class OwnComputer:
    """Lets in the first request with the token, and then those with the cookie that it got."""

    can_log_out = False

    def __init__(self, token: str) -> None:
        self.token: str | None = token
        self.session = secrets.token_urlsafe(32)
        self.routes: list[Route] = []
        self.middleware: list[Middleware] = []

    def origins(self, request: Request) -> set[str]:
        """Loopback, at the port that was asked."""
        port = _port(request)
        return {f"http://{name}:{port}" for name in NAMES}

    async def identity(self, request: Request) -> Identity | Response:
        """Whoever has the cookie; the token gets it, once."""
        if "token" in request.query_params:
            return self._admit(request, request.query_params["token"])
        if _same(request.cookies.get(_cookie(request), ""), self.session):
            return OWN_COMPUTER
        return PlainTextResponse("refused: open the link that `ldct review` printed", 403)

    def _admit(self, request: Request, token: str) -> Response:
        if self.token is None or not _same(token, self.token):
            return PlainTextResponse(
                "refused: this link is wrong or was used already; start `ldct review` again", 403
            )
        self.token = None
        response = RedirectResponse("/", 303)
        name = _cookie(request)
        response.set_cookie(name, self.session, httponly=True, samesite="strict", path="/")
        return response


def _port(request: Request) -> int:
    return request.url.port or 80


def _cookie(request: Request) -> str:
    """By port: browsers send cookies to every port of a host, and two pages may be open."""
    return f"{COOKIE}-{_port(request)}"


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
