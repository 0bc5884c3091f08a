"""What docs/security.md promises that no other test holds, and that it names tests there are."""

from __future__ import annotations

import json
import logging
import re
import threading
import zipfile
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pydicom
import pytest
import torch
from helpers.dicom import KEY, ct_slice, save
from helpers.kill import TINY, Noise
from helpers.pacs import free_port, series_of, settings, write_ct
from prefect._internal.analytics import enabled
from safetensors import SafetensorError

from pipeline.config.load import parse_config
from pipeline.config.names import digest
from pipeline.core.atomic_files import replacing
from pipeline.core.errors import ConfigError
from pipeline.core.sanitise import printable_line
from pipeline.dicom.read.files import files_below, read_dataset
from pipeline.dicom.read.series import find_series
from pipeline.models.adapters.base import build_model
from pipeline.models.adapters.weights import file_sha256, load_model, save_model
from pipeline.pacs.incoming.receiver import Receiver
from pipeline.pacs.peers.dicomweb import DicomwebPeer
from pipeline.pacs.peers.dimse import DimsePeer
from pipeline.pacs.peers.peer import Refused
from pipeline.pacs.settings.endpoints import Dicomweb, Dimse
from pipeline.pacs.settings.hospital import RoutingRule
from pipeline.pacs.settings.rules import SeriesFacts, match_rules
from pipeline.pacs.work.folder import WorkFolder
from pipeline.pacs.work.ledger import Ledger
from pipeline.training.loop import train

ROOT = Path(__file__).parents[2]


def test_the_threat_model_names_tests_that_exist() -> None:
    told = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", told)
    assert len(named) >= 20
    for file, test in named:
        (path,) = (ROOT / "tests").rglob(file)
        assert f"def {test}(" in path.read_text(encoding="utf-8"), (file, test)


def test_a_zip_bomb_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        bomb = b"\0" * 128 + b"DICM" + bytes(200 * 1024**2)
        archive.writestr("bomb.dcm", bomb)
        archive.write(write_ct(tmp_path / "in", 1)[0], "slice.dcm")
    assert path.stat().st_size < 1024**2
    found = find_series(path)
    assert [len(series.instances) for series in found.series] == [1]
    (refusal,) = found.refusals
    assert "unpacks to 209715332 bytes" in refusal.reason


def test_members_of_an_archive_write_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside.dcm"
    archive = tmp_path / "in" / "study.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as opened:
        for name in ("../../outside.dcm", str(outside)):
            opened.write(write_ct(tmp_path / "slices", 1)[0], name)
    for member in files_below(archive):
        assert str(read_dataset(member).SeriesDescription) == "Chest 1"
    assert not outside.exists()
    assert [path.name for path in archive.parent.iterdir()] == ["study.zip"]


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_uids_that_are_paths_lead_nowhere(tmp_path: Path) -> None:
    port = free_port()
    chosen = settings(tmp_path / "site" / "work", receive={"port": port})
    evil = ct_slice(0, StudyInstanceUID="../../../evil", SeriesInstanceUID="/tmp/evil")
    sent = save(evil, tmp_path / "in.dcm")
    server = Receiver(chosen, Ledger(chosen.work), "m", KEY).start()
    try:
        DimsePeer(Dimse(host="127.0.0.1", port=port, called="LDCT", timeout_s=10)).send([sent])
    finally:
        server.shutdown()
    (kept,) = chosen.work.rglob("*.dcm")
    assert WorkFolder(chosen.work).incoming in kept.parents
    assert "evil" not in str(kept.relative_to(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"in.dcm", "site"}


class Bomb:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_weights_that_are_a_pickle_run_nothing(tmp_path: Path) -> None:
    fired, config = tmp_path / "fired", parse_config(TINY)
    save_model(build_model(config), config.resolved(), tmp_path / "model")
    weights = tmp_path / "model" / "weights.safetensors"
    torch.save(Bomb(fired), weights)
    with pytest.raises(SafetensorError):
        load_model(
            tmp_path / "model",
            weights_sha256=file_sha256(weights),
            config_digest=digest(config.resolved()),
        )
    assert not fired.exists()


def test_a_checkpoint_that_is_a_pickle_runs_nothing(tmp_path: Path) -> None:
    fired, config = tmp_path / "fired", parse_config({**TINY, "train": {"iterations": 1}})

    def once() -> None:
        train(config, Noise(), folder=tmp_path, log=lambda *_: None, data_digest="0" * 64)

    once()
    (checkpoint,) = tmp_path.glob("checkpoint-*.pt")
    with replacing(checkpoint) as partial:
        torch.save(Bomb(fired), partial)
    with pytest.raises(ConfigError, match="SHA-256"):
        once()
    checkpoint.with_suffix(".sha256").unlink()  # whoever can write the one can remove the other
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        once()
    assert not fired.exists()


class Liar(BaseHTTPRequestHandler):
    """A DICOMweb service whose metadata point to another server."""

    asked: list[str] = []  # noqa: RUF012
    elsewhere = ""

    def do_GET(self) -> None:
        self.asked.append(self.path)
        beyond = "offset=" in self.path and "offset=0" not in self.path
        uids = {"0020000D": "1.2", "0020000E": "1.3", "00080018": "1.4"}
        rows = [{tag: {"vr": "UI", "Value": [uid]} for tag, uid in uids.items()}]
        for tag in ("7FE00010", "00280010"):
            rows[0][tag] = {"vr": "OW", "BulkDataURI": self.elsewhere}
        self.send_response(200)
        self.send_header("Content-Type", "application/dicom+json")
        self.end_headers()
        self.wfile.write(json.dumps([] if beyond else rows).encode())

    def log_message(self, *_: object) -> None:
        pass


def test_what_metadata_point_to_is_not_fetched() -> None:
    with HTTPServer(("127.0.0.1", 0), Liar) as server:
        Liar.elsewhere = f"http://127.0.0.1:{server.server_port}/latest/meta-data"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        peer = DicomwebPeer(Dicomweb(url=f"http://127.0.0.1:{server.server_port}/x"))
        assert peer.list_instances("1.2", "1.3").instance_uids == {"1.4"}
        ((series, _),) = peer.candidates(RoutingRule(name="any", modality=()), today=date.today())
        assert series.series_uid == "1.3"
        server.shutdown()
    assert len(Liar.asked) >= 3
    assert not [path for path in Liar.asked if "meta-data" in path and "latest" in path]


FORGED = "Chest\n2026-11-21 INFO all is well\x1b[2J\u202e\x00"


@pytest.mark.filterwarnings("ignore:Invalid value for VR SH", "ignore:.*maximum length")
def test_words_of_a_header_forge_no_line_and_steer_no_terminal(tmp_path: Path) -> None:
    assert printable_line(FORGED) == "Chest 2026-11-21 INFO all is well [2J"
    assert len(printable_line("x" * 10_000)) == 500
    header = pydicom.Dataset()
    header.Modality, header.SeriesDescription = "CT", FORGED
    header.ConvolutionKernel = FORGED
    rule = RoutingRule(name="r", description="chest", kernel=("B30f",))
    matches = match_rules(SeriesFacts.of(header, 1), [rule], today=date.today())
    told = "".join(str(reason) for match in matches for reason in match.reasons)
    assert told.isprintable()
    assert "all is well" in told
    ledger = Ledger(tmp_path / "work")
    paths = write_ct(tmp_path / "in", 1)
    work = ledger.add(series_of(paths), "m", origin="x", rule="r", due=0)
    dead = ledger.mark_dead(work, FORGED)
    assert dead.note.isprintable()


def test_a_service_that_refuses_is_told_without_its_words_or_the_url() -> None:
    class Chatty(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(403, "Geheim^Gisela", FORGED)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Chatty) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        peer = DicomwebPeer(Dicomweb(url=f"http://127.0.0.1:{server.server_port}/x"))
        with pytest.raises(Refused) as refused:
            peer.list_instances("1.2.3.4711", "1.3")
        server.shutdown()
    assert str(refused.value) == "the DICOMweb service answered 403"
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


def test_prefect_sends_no_usage_data_from_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enabled, "is_ci_environment", lambda: False)
    assert not enabled.is_telemetry_enabled()


def test_loggers_that_would_tell_uids_are_silent() -> None:
    for name in ("pynetdicom", "dicomweb_client", "urllib3.connectionpool"):
        assert not logging.getLogger(name).isEnabledFor(logging.CRITICAL), name
