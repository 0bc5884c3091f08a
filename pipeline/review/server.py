"""The server of the review page: what it answers, and which role each answer needs.

No path is built from a request: series, planes and files are looked up by name in what was found
at the start. Who is let in is in pipeline.review.access.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipeline.core.errors import LdctError
from pipeline.core.types import Json
from pipeline.review.access.control import HEALTH, Access, AccessControl
from pipeline.review.access.roles import Identity, NotAllowedError, Role
from pipeline.review.assets import REPORT, REPORT_POLICY, load_assets, report_page
from pipeline.review.decisions import ConflictError
from pipeline.review.service import Review
from pipeline.review.worklist import Collection

MAX_BODY_BYTES = 64 * 1024


def make_app(collection: Collection, *, access: Access, assets: Path | None = None) -> Starlette:
    """The application; assets: the built page's folder. Raises ConfigError if it is not built."""
    files = load_assets(assets)
    api = _Api(Review(collection), can_log_out=access.can_log_out)
    routes = [
        _route(f"/{name}" if name != "index.html" else "/", _asset(content, kind), Role.READER)
        for name, (content, kind) in files.items()
    ]
    routes += [
        *access.routes,
        Route(HEALTH, api.health),
        _route(f"/{REPORT}", api.report, Role.READER),
        _route("/api/worklist", api.worklist, Role.READER),
        _route("/api/decisions", api.decisions, Role.READER),
        _route("/api/changes/{cid}", api.changes, Role.READER),
        _route("/api/geometry/{sid}", api.geometry, Role.READER),
        _route("/api/planes/{sid}/{direction}/{number:int}", api.planes, Role.READER),
        _route("/api/opened/{cid}", api.opened, Role.READER, method="POST"),
        _route("/api/reading/{reader}", api.reading, Role.READER),
        _route("/api/reading/{reader}", api.score, Role.READER, method="POST"),
        _route("/api/marks/{cid}", api.marks, Role.READER),
        _route("/api/marks/{cid}", api.save_marks, Role.READER, method="POST"),
        _route("/api/key-images/{cid}", api.key_images, Role.READER),
        _route("/api/key-images/{cid}", api.save_key_images, Role.READER, method="POST"),
        _route("/api/decision/{cid}", api.decide, Role.RELEASER, method="POST"),
        _route("/api/readings.csv", api.csv, Role.ADMIN),
    ]
    return Starlette(
        routes=routes,
        lifespan=api.lifespan,
        middleware=[*access.middleware, Middleware(AccessControl, access=access)],
        exception_handlers={
            NotAllowedError: _forbidden,
            ConflictError: _conflict,
            LdctError: _unprocessable,
            ValidationError: _unprocessable,
            LookupError: _not_found,
        },
    )


def _route(
    path: str,
    endpoint: Callable[[Request], Response] | Callable[[Request], Awaitable[Response]],
    role: Role,
    *,
    method: str = "GET",
) -> Route:
    """A route that needs a role: there is no way to write one that forgets to ask."""

    async def asked(request: Request) -> Response:
        who(request).require(role)
        if inspect.iscoroutinefunction(endpoint):
            return await endpoint(request)
        return await run_in_threadpool(endpoint, request)  # type: ignore[arg-type]

    return Route(path, asked, methods=[method])


def who(request: Request) -> Identity:
    """Who asks, as AccessControl found them."""
    return request.state.identity


def _asset(content: bytes, kind: str) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        return Response(content, media_type=kind)

    return endpoint


def _unprocessable(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": " ".join(str(error).split())}, 422)


def _forbidden(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 403)


def _conflict(request: Request, error: Exception) -> Response:
    """409, with the case as it is now."""
    assert isinstance(error, ConflictError)
    return JSONResponse({"error": str(error), "case": error.report}, 409)


def _not_found(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "not found"}, 404)


class _Api:
    """The endpoints of the page; synchronous ones run in Starlette's pool of threads.

    Each passes a request on to the method of Review that has the same name.
    """

    def __init__(self, review: Review, *, can_log_out: bool) -> None:
        self.review, self.can_log_out = review, can_log_out

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
        """All cases, and who asks."""
        identity = who(request)
        me = {
            "reader": identity.reader,
            "roles": identity.rights,
            "can_log_out": self.can_log_out,
        }
        return JSONResponse({**self.review.worklist(), "me": me})

    def decisions(self, request: Request) -> Response:
        """What was decided on each case, by whomever, in any tab."""
        return JSONResponse(self.review.decisions())

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
        """A reader's items, with scores or marks."""
        reader = who(request).name(request.path_params["reader"])
        return JSONResponse(self.review.study.reading(reader))

    def csv(self, request: Request) -> Response:
        """All complete readings."""
        return Response(self.review.study.csv(who(request)), media_type="text/csv")

    async def decide(self, request: Request) -> Response:
        """Accept or reject a derived series."""
        return await self._saved(request, self.review.decide)

    def marks(self, request: Request) -> Response:
        """The measurements on a case that were saved last."""
        return JSONResponse(self.review.marks(request.path_params["cid"]))

    async def save_marks(self, request: Request) -> Response:
        """Save measurements on a case as a DICOM SR."""
        return await self._saved(request, self.review.save_marks)

    def key_images(self, request: Request) -> Response:
        """The key images of a case that were saved last."""
        return JSONResponse(self.review.key_images(request.path_params["cid"]))

    async def save_key_images(self, request: Request) -> Response:
        """Save the key images of a case as a DICOM Key Object Selection."""
        return await self._saved(request, self.review.save_key_images)

    async def _saved(self, request: Request, save: Callable[[str, Json, str], Json]) -> Response:
        """What a reader sent on a case, saved in their name."""
        body = _named(request, await _body(request))
        cid, login = request.path_params["cid"], who(request).login
        return JSONResponse(await run_in_threadpool(save, cid, body, login))

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """The server's life: that it has ended is in the audit log, unless it was killed."""
        yield
        await run_in_threadpool(self.review.ended)

    async def opened(self, request: Request) -> Response:
        """Record that a reader opened a case."""
        body = _named(request, await _body(request))
        cid, login = request.path_params["cid"], who(request).login
        await run_in_threadpool(self.review.opened, cid, body, login)
        return JSONResponse({})

    async def score(self, request: Request) -> Response:
        """Save a reader's scores, or marks, of an item."""
        reader, body = who(request).name(request.path_params["reader"]), await _body(request)
        await run_in_threadpool(self.review.study.save, reader, body, who(request).login)
        return JSONResponse({})


def _named(request: Request, body: Json) -> Json:
    """What was sent, in the name of who is logged in, if anybody is."""
    return {**body, "reader": who(request).name(str(body.get("reader", "")))}


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
