"""The server of the review page: on loopback only, with a one-time token.

No path is built from a request: series, planes and files are looked up by name in what was found
at the start.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pipeline.core.errors import LdctError
from pipeline.core.types import Json
from pipeline.review.assets import REPORT, REPORT_POLICY, load_assets, report_page
from pipeline.review.service import Review
from pipeline.review.worklist import Collection

COOKIE = "ldct-review"
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
MAX_BODY_BYTES = 64 * 1024


class AccessControl(BaseHTTPMiddleware):
    """Admits the first request with the token, and then those with the cookie that it got."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        super().__init__(app)
        self.token: str | None = token
        self.session = secrets.token_urlsafe(32)

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Answer 403, redirect with the cookie, or pass the request on; add the headers."""
        response = self._refusal(request)
        if response is None and "token" in request.query_params:
            response = self._admit(request.query_params["token"])
        if response is None:
            response = await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    def _refusal(self, request: Request) -> Response | None:
        """403 for another host name (DNS rebinding), another page's request, or no cookie."""
        port = request.url.port or 80
        hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        host = request.headers.get("host", "")
        if host not in hosts:
            return PlainTextResponse("refused: not this computer's own address", 403)
        origin = request.headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return PlainTextResponse("refused: asked for by another page", 403)
        if request.url.path == HEALTH:
            return None
        cookie = request.cookies.get(COOKIE, "")
        if "token" in request.query_params or _same(cookie, self.session):
            return None
        return PlainTextResponse("refused: open the link that `ldct review` printed", 403)

    def _admit(self, token: str) -> Response:
        if self.token is None or not _same(token, self.token):
            return PlainTextResponse(
                "refused: this link is wrong or was used already; start `ldct review` again", 403
            )
        self.token = None
        response = RedirectResponse("/", 303)
        response.set_cookie(COOKIE, self.session, httponly=True, samesite="strict", path="/")
        return response


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def make_app(collection: Collection, *, token: str, assets: Path | None = None) -> Starlette:
    """The application; assets: the built page's folder. Raises ConfigError if it is not built."""
    files = load_assets(assets)
    review = Review(collection)
    api = _Api(review)
    routes = [
        Route(f"/{name}" if name != "index.html" else "/", _asset(content, kind))
        for name, (content, kind) in files.items()
    ]
    routes += [
        Route(f"/{REPORT}", api.report),
        Route(HEALTH, api.health),
        Route("/api/worklist", api.worklist),
        Route("/api/changes/{cid}", api.changes),
        Route("/api/geometry/{sid}", api.geometry),
        Route("/api/planes/{sid}/{direction}/{number:int}", api.planes),
        Route("/api/decision/{cid}", api.decide, methods=["POST"]),
        Route("/api/opened/{cid}", api.opened, methods=["POST"]),
        Route("/api/reading/{reader}", api.reading),
        Route("/api/reading/{reader}", api.score, methods=["POST"]),
        Route("/api/readings.csv", api.csv),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(AccessControl, token=token)],
        exception_handlers={
            LdctError: _unprocessable,
            ValidationError: _unprocessable,
            LookupError: _not_found,
        },
    )


def _asset(content: bytes, kind: str) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        return Response(content, media_type=kind)

    return endpoint


def _unprocessable(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": " ".join(str(error).split())}, 422)


def _not_found(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "not found"}, 404)


class _Api:
    """The endpoints of the page; synchronous ones run in Starlette's pool of threads.

    Each passes a request on to the method of Review that has the same name.
    """

    def __init__(self, review: Review) -> None:
        self.review = review

    def health(self, request: Request) -> Response:
        """Whether the reviewed folder is there; no answer at all where every thread hangs."""
        there = self.review.root.is_dir()
        return JSONResponse({"folder": "ok" if there else "gone"}, 200 if there else 503)

    def report(self, request: Request) -> Response:
        """The run's own page: it loads nothing and runs nothing."""
        page = report_page(self.review.root)
        if page is None:
            raise LookupError(REPORT)
        policy = {"Content-Security-Policy": REPORT_POLICY}
        return Response(page, media_type="text/html; charset=utf-8", headers=policy)

    def worklist(self, request: Request) -> Response:
        """All cases."""
        return JSONResponse(self.review.worklist())

    def changes(self, request: Request) -> Response:
        """What denoising changed in a case, as far as it is measured."""
        return JSONResponse(self.review.changes(request.path_params["cid"]).to_dict())

    def geometry(self, request: Request) -> Response:
        """Where the planes of a series lie."""
        return JSONResponse(self.review.geometry(request.path_params["sid"]))

    def planes(self, request: Request) -> Response:
        """A chunk of planes as little-endian int16; X-Faults: JSON of those not readable."""
        key = request.path_params
        content, faults = self.review.chunk(key["sid"], key["direction"], key["number"])
        return Response(
            content, media_type="application/octet-stream", headers={"X-Faults": faults}
        )

    def reading(self, request: Request) -> Response:
        """A reader's items and scores."""
        return JSONResponse(self.review.reading(request.path_params["reader"]))

    def csv(self, request: Request) -> Response:
        """All complete readings."""
        return Response(self.review.csv(), media_type="text/csv")

    async def decide(self, request: Request) -> Response:
        """Accept or reject a derived series."""
        body = await _body(request)
        return JSONResponse(self.review.decide(request.path_params["cid"], body))

    async def opened(self, request: Request) -> Response:
        """Record that a reader opened a case."""
        self.review.opened(request.path_params["cid"], await _body(request))
        return JSONResponse({})

    async def score(self, request: Request) -> Response:
        """Save a reader's scores of an item."""
        self.review.score(request.path_params["reader"], await _body(request))
        return JSONResponse({})


async def _body(request: Request) -> Json:
    """A small JSON object, as only the page itself can send it."""
    if request.headers.get("content-type") != "application/json":
        raise HTTPException(415)
    if int(request.headers.get("content-length", MAX_BODY_BYTES + 1)) > MAX_BODY_BYTES:
        raise HTTPException(413)
    body = await request.json()
    if not isinstance(body, dict):
        raise HTTPException(422)
    return body
