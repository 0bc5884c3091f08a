"""What a stranger, or a peer gone wrong, can make the receiver hold or wait for."""

from __future__ import annotations

import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pydicom
import pytest
from helpers.dicom import ct_slice
from helpers.pacs import free_port, self_signed, series_of, settings, write_ct
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian
from pynetdicom import AE

from pipeline.core.refusals import Unreadable
from pipeline.dicom.read.files import read_dataset
from pipeline.dicom.read.series import find_series
from pipeline.pacs.incoming.receiver import Receiver
from pipeline.pacs.peers import bounded_server
from pipeline.pacs.peers.dicomweb import DicomwebPeer
from pipeline.pacs.peers.dimse import DimsePeer
from pipeline.pacs.settings.endpoints import Dicomweb, Dimse
from pipeline.pacs.work.ledger import Ledger

MIB = 1024**2


@dataclass
class Listening:
    """A receiver on `port`, and what it refused."""

    port: int
    work: Path
    refused: list[str] = field(default_factory=list)

    def files(self) -> list[Path]:
        return list(self.work.rglob("*.dcm"))

    def peer(self, **more: object) -> DimsePeer:
        described = {"host": "127.0.0.1", "port": self.port, "called": "LDCT", "timeout_s": 10}
        return DimsePeer(Dimse.model_validate({**described, **more}))

    def wait_refused(self, words: str) -> None:
        for _ in range(1200):
            if any(words in why for why in self.refused):
                return
            time.sleep(0.05)
        pytest.fail(f"expected a refusal with {words!r}, got {self.refused}")


def listening(work: Path, **receive: object) -> Iterator[Listening]:
    chosen = settings(work, receive={"port": free_port(), "max_image_mib": 100, **receive})
    found = Listening(chosen.receive.port, work)
    receiver = Receiver(
        chosen,
        Ledger(chosen.work),
        "m",
        b"k" * 32,
        on_refusal=lambda _, why: found.refused.append(why),
    )
    server = receiver.start()
    yield found
    server.shutdown()


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Listening]:
    yield from listening(tmp_path / "work")


def pdu_head(kind: int, length: int) -> bytes:
    return bytes((kind, 0)) + length.to_bytes(4, "big")


def test_a_request_that_claims_gigabytes_is_aborted_before_it_is_read(receiver, tmp_path):
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=10) as stranger:
        stranger.sendall(pdu_head(0x01, 3 * 1024**3))
        assert stranger.recv(10) == pdu_head(0x07, 4) + bytes((0, 0, 2, 6))  # A-ABORT
        assert stranger.recv(1) == b""
    receiver.wait_refused("a PDU of type 01 that claims 3221225472 bytes")
    receiver.peer().send(write_ct(tmp_path / "in", 1))
    assert len(receiver.files()) == 3


def test_a_request_of_every_context_and_syntax_is_accepted(receiver):
    entity = AE()
    for number in range(127):
        syntaxes = [f"1.2.840.10008.1.2.4.{number}.{other}.0000000000000000" for other in range(40)]
        entity.add_requested_context(f"1.2.840.10008.5.1.4.1.1.2.{number}", syntaxes)
    entity.add_requested_context("1.2.840.10008.1.1")
    association = entity.associate("127.0.0.1", receiver.port, ae_title="LDCT")
    assert association.is_established, receiver.refused
    association.release()


def slice_in(syntax: str, pixels: bytes) -> pydicom.Dataset:
    image = ct_slice(0)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = syntax
    image.PixelData = pixels
    return image


def send_alone(port: int, dataset: pydicom.Dataset) -> pydicom.Dataset:
    entity = AE()
    entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title="LDCT")
    assert association.is_established
    status = association.send_c_store(dataset)
    if association.is_established:
        association.release()
    return status


def test_an_image_beyond_the_bound_is_aborted_and_named(tmp_path):
    for receiver in listening(tmp_path / "work", max_image_mib=1):
        image = slice_in(ExplicitVRLittleEndian, bytes(2 * MIB))
        assert "Status" not in send_alone(receiver.port, image)
        receiver.wait_refused("more than 1 MiB: see receive.max_image_mib")
        assert receiver.files() == []
        receiver.peer().send(write_ct(tmp_path / "in", 1))
        assert len(receiver.files()) == 3


def test_a_deflated_image_without_bound_is_answered_with_what_to_do(receiver):
    bomb = slice_in(DeflatedExplicitVRLittleEndian, bytes(80 * MIB))
    status = send_alone(receiver.port, bomb)
    assert status.Status == 0xC000
    assert "send it not deflated" in status.ErrorComment
    receiver.wait_refused("inflates to more than 67108864")
    assert receiver.files() == []


def test_a_deflated_image_as_it_should_be_is_received_and_read(receiver):
    image = slice_in(DeflatedExplicitVRLittleEndian, ct_slice(0).PixelData)
    assert send_alone(receiver.port, image).Status == 0
    (path,) = receiver.files()
    assert read_dataset(path).PixelData == image.PixelData


def write_bomb(path: Path, megabytes: int) -> Path:
    """A deflated CT slice with so many megabytes of zeros for its pixels."""
    image = slice_in(DeflatedExplicitVRLittleEndian, b"")
    image.save_as(path, enforce_file_format=True)
    whole = path.read_bytes()
    meta = pydicom.filereader.read_file_meta_info(path)
    meta_end = 132 + 12 + meta.FileMetaInformationGroupLength
    header = zlib.decompress(whole[meta_end:], -zlib.MAX_WBITS)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    pieces = [packer.compress(header[:-4] + (megabytes * MIB).to_bytes(4, "little"))]
    pieces += [packer.compress(bytes(MIB)) for _ in range(megabytes)]
    path.write_bytes(whole[:meta_end] + b"".join(pieces) + packer.flush())
    return path


def test_ingest_refuses_a_deflated_bomb_and_reads_what_lies_beside_it(tmp_path):
    write_ct(tmp_path, 1)
    bomb = write_bomb(tmp_path / "bomb.dcm", 300)
    assert bomb.stat().st_size < MIB
    tracemalloc.start()
    found = find_series(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [len(series.instances) for series in found.series] == [3]
    (refusal,) = found.refusals
    assert refusal.path == bomb
    assert refusal.attribute == "TransferSyntaxUID"
    assert "have it sent again, not deflated" in refusal.reason
    assert peak < 32 * MIB


def test_a_deflated_slice_within_the_bound_is_read(tmp_path):
    assert len(read_dataset(write_bomb(tmp_path / "large.dcm", 60)).PixelData) == 60 * MIB
    with pytest.raises(Unreadable, match="inflates to more than"):
        read_dataset(write_bomb(tmp_path / "larger.dcm", 70))


class Retrieval(BaseHTTPRequestHandler):
    """WADO-RS that answers every request with one file."""

    file: Path

    def do_GET(self) -> None:
        part = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + self.file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", 'multipart/related; type="application/dicom"; boundary=x')
        self.end_headers()
        self.wfile.write(part + b"\r\n--x--\r\n")

    def log_message(self, *words: object) -> None:
        """Silent."""


def test_a_deflated_bomb_that_a_source_answers_is_refused(tmp_path, monkeypatch):
    bomb = write_bomb(tmp_path / "bomb.dcm", 70)
    monkeypatch.setattr(Retrieval, "file", bomb, raising=False)
    with HTTPServer(("127.0.0.1", 0), Retrieval) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        peer = DicomwebPeer(Dicomweb(url=f"http://127.0.0.1:{server.server_address[1]}/dw"))
        with pytest.raises(Unreadable, match="inflates to more than"):
            peer.retrieve(series_of(write_ct(tmp_path / "in", 1)), tmp_path)
        server.shutdown()


def test_a_caller_who_never_shakes_hands_keeps_nobody_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr(bounded_server, "HANDSHAKE_S", 4.0)  # ours takes a while on a busy machine
    own = self_signed(tmp_path / "tls")
    tls = {**own, "ca": own["certificate"]}
    for receiver in listening(tmp_path / "work", tls=tls):
        with socket.create_connection(("127.0.0.1", receiver.port), timeout=10) as silent:
            receiver.peer(tls=tls).send(write_ct(tmp_path / "in", 1))
            assert len(receiver.files()) == 3
            assert silent.recv(1) == b""  # shown the door after HANDSHAKE_S
        receiver.wait_refused("no connection (TimeoutError)")


def test_a_peer_that_falls_silent_within_a_pdu_is_left(receiver, monkeypatch):
    monkeypatch.setattr(AE, "network_timeout", 1.0)
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=10) as silent:
        silent.sendall(pdu_head(0x01, 500)[:3])
        assert silent.recv(1) == b""
