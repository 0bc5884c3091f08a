"""The page's server: loopback only, a one-time token, and nothing but what it has listed.

No path is ever built from a request: series, planes and files are looked up by name in what
was found at the start.
"""

from __future__ import annotations

import hmac
import secrets
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from pipeline.core.errors import LdctError
from pipeline.review.assets import REPORT, REPORT_POLICY, load_assets, report_page
from pipeline.review.service import Review
from pipeline.review.worklist import Collection

COOKIE = "ldct-review"
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
LARGEST_BODY = 64 * 1024


class Door(BaseHTTPMiddleware):
    """Lets in who brings the token, once, and then who has the cookie it was changed for."""

    def __init__(self, app: Any, token: str) -> None:
        super().__init__(app)
        self.token: str | None = token
        self.session = secrets.token_urlsafe(32)

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = self._refused(request)
        if response is None and "token" in request.query_params:
            response = self._entered(request.query_params["token"])
        if response is None:
            response = await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    def _refused(self, request: Request) -> Response | None:
        """Another host's name (DNS rebinding), another page's request, no cookie."""
        port = request.url.port or 80
        hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        host = request.headers.get("host", "")
        if host not in hosts:
            return PlainTextResponse("refused: not this computer's own address", 403)
        origin = request.headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return PlainTextResponse("refused: asked for by another page", 403)
        cookie = request.cookies.get(COOKIE, "")
        if "token" in request.query_params or _same(cookie, self.session):
            return None
        return PlainTextResponse("refused: open the link that `ldct review` printed", 403)

    def _entered(self, token: str) -> Response:
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
        middleware=[Middleware(Door, token=token)],
        exception_handlers={LdctError: _told, ValidationError: _told, LookupError: _nothing},
    )


def _asset(content: bytes, kind: str) -> Any:
    def send(request: Request) -> Response:
        return Response(content, media_type=kind)

    return send


def _told(request: Request, error: Exception) -> Response:
    told = " ".join(str(error).split())
    return JSONResponse({"error": told}, 422)


def _nothing(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "there is no such thing here"}, 404)


class _Api:
    """What the page asks for; synchronous, so that Starlette runs it in its pool of threads."""

    def __init__(self, review: Review) -> None:
        self.review = review

    def report(self, request: Request) -> Response:
        """The run's own page: it loads nothing and runs nothing."""
        page = report_page(self.review.root)
        if page is None:
            raise LookupError(REPORT)
        policy = {"Content-Security-Policy": REPORT_POLICY}
        return Response(page, media_type="text/html; charset=utf-8", headers=policy)

    def worklist(self, request: Request) -> Response:
        return JSONResponse(self.review.worklist())

    def changes(self, request: Request) -> Response:
        return JSONResponse(self.review.changes(request.path_params["cid"]))

    def geometry(self, request: Request) -> Response:
        return JSONResponse(self.review.geometry(request.path_params["sid"]))

    def planes(self, request: Request) -> Response:
        at = request.path_params
        content, faults = self.review.chunk(at["sid"], at["direction"], at["number"])
        return Response(
            content, media_type="application/octet-stream", headers={"X-Faults": faults}
        )

    def reading(self, request: Request) -> Response:
        return JSONResponse(self.review.reading(request.path_params["reader"]))

    def csv(self, request: Request) -> Response:
        return Response(self.review.csv(), media_type="text/csv")

    async def decide(self, request: Request) -> Response:
        body = await _body(request)
        return JSONResponse(self.review.decide(request.path_params["cid"], body))

    async def opened(self, request: Request) -> Response:
        self.review.opened(request.path_params["cid"], await _body(request))
        return JSONResponse({})

    async def score(self, request: Request) -> Response:
        self.review.score(request.path_params["reader"], await _body(request))
        return JSONResponse({})


async def _body(request: Request) -> dict[str, Any]:
    """A small JSON object, as only the page itself can send it."""
    if request.headers.get("content-type") != "application/json":
        raise HTTPException(415)
    if int(request.headers.get("content-length", LARGEST_BODY + 1)) > LARGEST_BODY:
        raise HTTPException(413)
    body = await request.json()
    if not isinstance(body, dict):
        raise HTTPException(422)
    return body
