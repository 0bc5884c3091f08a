"""Searches end, and take each series once, whatever a service does with `offset` and `limit`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest

from pipeline.pacs.peers.dicomweb import DicomwebPeer
from pipeline.pacs.settings.endpoints import Dicomweb
from pipeline.pacs.settings.hospital import RoutingRule

SERIES = [f"1.2.3.{number}" for number in range(7)]


def row(uid: str, keyword_tag: str) -> dict:
    ui = {tag: {"vr": "UI", "Value": [uid]} for tag in ("0020000D", "0020000E", keyword_tag)}
    return {**ui, "00080060": {"vr": "CS", "Value": ["CT"]}}


class Service(BaseHTTPRequestHandler):
    """QIDO-RS; `page` rows an answer, 0 for all of them whatever the offset."""

    page = 0
    asked: list[str] = []  # noqa: RUF012  (cleared by the fixture)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.asked.append(self.path)
        if parts.path.endswith("/metadata"):
            series = parts.path.split("/series/")[1].split("/")[0]
            return self.answer([row(series, "00080018")])
        if parts.path.endswith("/instances"):
            series = parts.path.split("/series/")[1].split("/")[0]
            rows = [row(series, "00080018") | {"00080018": {"vr": "UI", "Value": [f"{series}.{n}"]}}
                    for n in range(3)]  # fmt: skip
        else:
            rows = [row(uid, "0020000E") for uid in SERIES]
        offset = int(parse_qs(parts.query).get("offset", ["0"])[0])
        return self.answer(rows[offset : offset + self.page] if self.page else rows)

    def answer(self, rows: list[dict]) -> None:
        content = json.dumps(rows).encode()
        self.send_response(200 if rows else 204)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(content) if rows else 0))
        self.end_headers()
        if rows:
            self.wfile.write(content)

    def log_message(self, *words: object) -> None:
        """Silent."""


@pytest.fixture(params=[0, 1, 3, 100], ids=["offset ignored", "1 a page", "3 a page", "one page"])
def peer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[DicomwebPeer]:
    monkeypatch.setattr(Service, "page", request.param)
    Service.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield DicomwebPeer(Dicomweb(url=f"http://127.0.0.1:{server.server_address[1]}/dw"))
        server.shutdown()


def test_each_series_is_found_once_and_the_search_ends(peer: DicomwebPeer) -> None:
    rule = RoutingRule(name="all", modality=["CT"])
    found = [series for series, _ in peer.candidates(rule, today=date(2026, 11, 28))]
    assert sorted(series.series_uid for series in found) == SERIES
    assert all(len(series.instance_uids) == 3 for series in found)
    searches = [path for path in Service.asked if not path.endswith("/metadata")]
    assert len(searches) <= (len(SERIES) + 1) + len(SERIES) * 4  # a page each and one more
