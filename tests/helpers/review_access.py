"""The review page for readers who log in: its provider, its server, and its settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from helpers.identity_provider import CLIENT, SECRET, Provider
from helpers.pacs import free_port
from helpers.review import collected, running
from pipeline.review.access.readers import Readers
from pipeline.review.access.settings import AccessSettings
from pipeline.review.decisions import audit_of
from pipeline.review.server import make_app

ROLES = {"reader": ["radiology"], "releaser": ["seniors"], "admin": ["it"]}
ANNA = {"preferred_username": "anna.b@hospital.example", "groups": ["radiology", "seniors"]}
JSON = {"Content-Type": "application/json"}


def plain_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's files, each of one line; and the provider's secret."""
    for name in ("index.html", "app.js", "app.css", "licences.txt"):
        (folder / name).write_text(f"the {name} <!-- disk -->")
    monkeypatch.setattr("pipeline.review.assets.BUILT", folder)
    monkeypatch.setenv("LDCT_REVIEW_TOKEN", SECRET)


def oidc_access(address: str, issuer: str) -> AccessSettings:
    oidc = {"issuer": issuer, "client": CLIENT, "secret": {"env": "REVIEW"}}
    return AccessSettings.model_validate({"address": address, "oidc": oidc, "roles": ROLES})


def app_of(root: Path, access: AccessSettings) -> Starlette:
    readers = Readers(access, audit_of(root).append)
    return make_app(collected(root), access=readers)


@contextmanager
def site(root: Path, provider: Provider) -> Iterator[str]:
    """The address of a server whose readers log in at the provider."""
    port = free_port()
    access = oidc_access(f"http://127.0.0.1:{port}", provider.issuer)
    with running(app_of(root, access), port=port):
        yield access.origin


def case_at(client: httpx.Client) -> str:
    return client.get("/api/worklist").json()["cases"][0]["case"]
