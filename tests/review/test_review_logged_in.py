"""The review page as readers who logged in see it, in a real browser: two tabs, and roles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import Tab
from helpers.identity_provider import CLIENT, SECRET, Provider, provided
from helpers.pacs import free_port
from helpers.review import collected, running, write_case

from pipeline.review.access.readers import Readers
from pipeline.review.access.settings import AccessSettings
from pipeline.review.decisions import audit_of
from pipeline.review.server import make_app

SENIOR = {"preferred_username": "anna", "groups": ["seniors"]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_case(tmp_path, 1)
    return tmp_path


@pytest.fixture
def provider() -> Iterator[Provider]:
    with provided(dict(SENIOR)) as found:
        yield found


@pytest.fixture
def address(root: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("LDCT_REVIEW_TOKEN", SECRET)
    port = free_port()
    oidc = {"issuer": provider.issuer, "client": CLIENT, "secret": {"env": "REVIEW"}}
    roles = {"reader": ["radiology"], "releaser": ["seniors"]}
    address = f"http://127.0.0.1:{port}"
    access = AccessSettings.model_validate({"address": address, "oidc": oidc, "roles": roles})
    readers = Readers(access, audit_of(root).append)
    with running(make_app(collected(root), access=readers), port=port):
        yield access.origin


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    found = browser.new_context()
    yield found
    found.close()


def case(context: Any, address: str) -> Any:
    """A new tab that shows the one case; who asks is sent through the provider on the way."""
    page = context.new_page()
    page.goto(address)
    page.click("tbody a")
    page.wait_for_selector("section[aria-label=Decision]")
    return page


def test_a_decision_in_one_tab_is_seen_in_the_other(context: Any, address: str) -> None:
    one, other = case(context, address), case(context, address)
    assert one.input_value("#reader") == "anna"
    assert one.get_attribute("#reader", "readonly") is not None
    one.bring_to_front()
    one.click("#accept")
    one.wait_for_selector("section[aria-label=Decision] p.accept")
    other.bring_to_front()
    other.wait_for_selector("section[aria-label=Decision] p.accept")
    assert "accepted by anna" in other.inner_text("section[aria-label=Decision]")


def test_a_decision_that_was_not_seen_is_not_overwritten(
    context: Any, address: str, root: Path
) -> None:
    one, other = case(context, address), case(context, address)
    other.route("**/api/decisions", lambda route: route.abort())
    one.bring_to_front()
    one.fill("textarea", "vessels are smeared")
    one.click("#reject")
    one.wait_for_selector("section[aria-label=Decision] p.reject")
    other.bring_to_front()
    Tab(other).until("document.querySelector('#said').textContent.includes('not answer')")
    other.click("#accept")
    Tab(other).until("document.querySelector('#said').textContent.startsWith('NOT')")
    other.wait_for_timeout(4500)  # the server is asked again, and does not answer
    assert "anna rejected it meanwhile: vessels are smeared" in other.inner_text("#said")
    assert other.is_visible("section[aria-label=Decision] p.reject")  # it is shown now
    assert audit_of(root).records()[-1]["act"] != "accept"
    other.click("#accept")
    other.wait_for_selector("section[aria-label=Decision] p.accept")


def test_a_decision_shown_just_before_the_button_is_pressed_is_not_overwritten(
    context: Any, address: str, root: Path
) -> None:
    one, other = case(context, address), case(context, address)
    one.bring_to_front()
    one.fill("textarea", "vessels are smeared")
    one.click("#reject")
    other.bring_to_front()
    other.wait_for_selector("section[aria-label=Decision] p.reject")
    assert other.inner_text("#said") == "Meanwhile rejected by anna: vessels are smeared"
    other.click("#accept")
    Tab(other).until("document.querySelector('#said').textContent.startsWith('NOT')")
    assert audit_of(root).records()[-1]["act"] != "accept"
    other.click("#accept")
    other.wait_for_selector("section[aria-label=Decision] p.accept")


def test_a_server_that_is_gone_is_said(context: Any, address: str) -> None:
    page = case(context, address)
    page.route("**/api/decisions", lambda route: route.abort())
    Tab(page).until("document.querySelector('#said').textContent.includes('not answer')")


def test_a_reader_without_the_role_decides_nothing_and_logs_out(
    context: Any, address: str, provider: Provider
) -> None:
    provider.user["groups"] = ["radiology"]
    page = case(context, address)
    assert page.query_selector("#accept") is None
    assert "needs the role releaser" in page.inner_text("section[aria-label=Decision]")
    provider.user["groups"] = ["kitchen"]
    page.click("#log-out")
    page.wait_for_url(re.compile("/login/callback"))
    Tab(page).until("document.body.textContent.includes('has no role here')")
