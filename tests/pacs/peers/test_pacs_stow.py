"""Why a service did not store: STOW-RS answers, as a destination gives them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from helpers.pacs import write_ct

from pipeline.pacs.peers.dicomweb import DicomwebPeer
from pipeline.pacs.peers.peer import OutOfResources, Refused
from pipeline.pacs.peers.stow_answer import meaning
from pipeline.pacs.settings.endpoints import Dicomweb


class Service(BaseHTTPRequestHandler):
    """Answers every STOW with `status` and `failures`, one code for each image not stored."""

    status = 200
    failures: tuple[int, ...] = ()
    content: bytes | None = None

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        items = [
            {
                "00081155": {"vr": "UI", "Value": [f"1.2.3.{number}"]},
                "00081197": {"vr": "US", "Value": [code]},
            }
            for number, code in enumerate(self.failures)
        ]
        answer = {"00081198": {"vr": "SQ", "Value": items}} if items else {}
        content = json.dumps(answer).encode() if self.content is None else self.content
        self.send_response(self.status)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words: object) -> None:
        """Silent."""


@pytest.fixture
def peer() -> Iterator[DicomwebPeer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield DicomwebPeer(Dicomweb(url=f"http://127.0.0.1:{server.server_address[1]}/dw"))
        server.shutdown()


@pytest.mark.parametrize("status", [200, 202, 409])
def test_each_reason_is_passed_on_with_how_many_images_it_concerns(
    peer: DicomwebPeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(Service, "status", status)
    monkeypatch.setattr(Service, "failures", (0x0122, 0x0122, 0xA700))
    with pytest.raises(Refused, match="did not store 3 images: ") as refused:
        peer.send(write_ct(tmp_path))
    assert "2 for 0x0122, it does not take this SOP class" in str(refused.value)
    assert "1 for 0xA700, it is out of resources" in str(refused.value)
    assert "1.2.3" not in str(refused.value)  # no UID in a message


def test_a_service_without_room_is_asked_again(
    peer: DicomwebPeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Service, "status", 409)
    monkeypatch.setattr(Service, "failures", (0xA700, 0xA701))
    with pytest.raises(OutOfResources, match="out of resources"):
        peer.send(write_ct(tmp_path))


def test_an_answer_without_reasons_is_told_by_its_status(
    peer: DicomwebPeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Service, "status", 409)
    monkeypatch.setattr(Service, "content", b"<html>no</html>")
    with pytest.raises(Refused, match="answered 409"):
        peer.send(write_ct(tmp_path))


def test_an_answer_of_success_is_one(
    peer: DicomwebPeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer.send(write_ct(tmp_path))
    monkeypatch.setattr(Service, "failures", (0x0111,))  # it is there: the count will tell
    peer.send(write_ct(tmp_path))


def test_codes_of_ranges_and_unknown_ones_have_words() -> None:
    assert meaning(0xA9FF) == "the image does not match its SOP class"
    assert meaning(0xC122) == "it does not take this transfer syntax"
    assert meaning(0xC200) == "it cannot understand the image"
    assert meaning(0x1234) == "a reason of its own"
