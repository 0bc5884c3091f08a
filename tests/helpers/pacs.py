"""A PACS for tests: Orthanc as it is, or a folder; small series; workers that can be killed."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from helpers.derived import write_derived
from helpers.dicom import OPERATION, ROOT_UID, ct_slice, save
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume
from pipeline.pacs.peers.peer import Peer
from pipeline.pacs.settings.hospital import Pacs
from pipeline.pacs.work.item import PacsSeries

USER, PASSWORD = "tester", "a-secret-of-the-tests"
DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc: DICOMweb below `url`, DIMSE on `dicom_port`."""

    port: int
    dicom_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"

    def call(self, method: str, path: str, **kwargs: Any) -> Any:
        """Its own REST interface: what the tests arrange and count by."""
        answer = requests.request(
            method,
            f"http://127.0.0.1:{self.port}{path}",
            auth=(USER, PASSWORD),
            timeout=60,
            **kwargs,
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def fill(self, paths: list[Path]) -> None:
        for path in paths:
            self.call("POST", "/instances", data=path.read_bytes())

    def empty(self) -> None:
        for patient in self.call("GET", "/patients"):
            self.call("DELETE", f"/patients/{patient}")

    def series(self) -> dict[str, int]:
        """Images by series description."""
        rows = [self.call("GET", f"/series/{name}") for name in self.call("GET", "/series")]
        return {
            row["MainDicomTags"].get("SeriesDescription", ""): len(row["Instances"]) for row in rows
        }


def self_signed(folder: Path, address: str = "127.0.0.1") -> dict[str, str]:
    """{"certificate", "key"}: PEM files of a certificate for an address, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"certificate": folder / "cert.pem", "key": folder / "key.pem"}
    paths["certificate"].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths["key"].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return {name: str(path) for name, path in paths.items()}


class _Front(socketserver.BaseRequestHandler):
    """One connection, decrypted and passed on."""

    def handle(self) -> None:
        assert isinstance(self.server, TlsFront)
        try:
            inside = self.server.context.wrap_socket(self.request, server_side=True)
        except OSError:  # a caller who does not trust the certificate
            return
        with inside, socket.create_connection(("127.0.0.1", self.server.behind)) as orthanc:
            back = threading.Thread(target=_pump, args=(orthanc, inside))
            back.start()
            _pump(inside, orthanc)
            back.join()


class TlsFront(socketserver.ThreadingTCPServer):
    """HTTPS in front of a port, as a hospital's proxy: Debian's Orthanc 1.10 dies of TLS.

    clients: the authority of certificates that callers must have; None: none is asked for.
    """

    daemon_threads = True

    def __init__(self, behind: int, tls: dict[str, str], clients: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Front)
        self.behind, self.ca = behind, tls["certificate"]
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(tls["certificate"], tls["key"])
        if clients is not None:
            self.context.load_verify_locations(clients)
            self.context.verify_mode = ssl.CERT_REQUIRED
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server_address[1]}/dicom-web"


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # either side hung up


@contextmanager
def running_orthanc(program: str, folder: Path) -> Iterator[Orthanc]:
    """On loopback, with a password, its data in `folder`."""
    orthanc = Orthanc(free_port(), free_port())
    configuration = {
        "Name": "TESTS",
        "HttpPort": orthanc.port,
        "DicomPort": orthanc.dicom_port,
        "DicomAet": "ORTHANC",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowStore": True,
        "OverwriteInstances": False,
        "Plugins": [str(DICOMWEB_PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, folder / "orthanc.json"], stdout=log, stderr=log)
        try:
            _wait_for(orthanc, process)
            yield orthanc
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(orthanc: Orthanc, process: subprocess.Popen) -> None:
    for _ in range(600):
        assert process.poll() is None, "Orthanc ended at its start"
        try:
            orthanc.call("GET", "/dicom-web/studies")
            return
        except requests.RequestException:
            time.sleep(0.1)
    raise AssertionError("Orthanc did not answer within a minute")


def write_ct(folder: Path, number: int = 1, *, count: int = 3, **attributes: Any) -> list[Path]:
    """Series `number`: its own study, of `count` small slices."""
    root = f"{ROOT_UID}.{number}"
    paths = []
    for index in range(count):
        dataset = ct_slice(
            index,
            **{
                "StudyInstanceUID": f"{root}.1",
                "SeriesInstanceUID": f"{root}.2",
                "FrameOfReferenceUID": f"{root}.4",
                "SOPInstanceUID": f"{root}.3.{index + 1}",
                "SeriesDescription": f"Chest {number}",
                "BodyPartExamined": "CHEST",
                "PatientSex": "O",
                "Manufacturer": "tests",
                "StudyTime": "101112",
                "AccessionNumber": "",
                "ReferringPhysicianName": "",
                "PositionReferenceIndicator": "",
                "AcquisitionNumber": 1,
                "PatientPosition": "HFS",
                **attributes,
            },
        )
        paths.append(save(dataset, folder / f"{number}-{index:03d}.dcm"))
    return paths


def series_of(paths: list[Path]) -> PacsSeries:
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
    uids = frozenset(str(header.SOPInstanceUID) for header in headers)
    return PacsSeries(str(headers[0].StudyInstanceUID), str(headers[0].SeriesInstanceUID), uids)


def derive(series: Path, model: str, out: Path) -> None:
    """A derived series as the software writes it, of unchanged values: no network needed."""
    for found in find_series(series).series:
        volume = read_volume(found).volume
        write_derived(volume.image_hu, found, OPERATION, out / "s-1-test-v1")


class FolderPeer(Peer):
    """A PACS as a folder of files named SERIES_IMAGE. `answers` fails requests, in order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.answers: list[Exception | None] = []
        self.stored: list[str] = []

    def list_instances(self, study_uid: str, series_uid: str) -> PacsSeries:
        self._answer()
        uids = {path.stem.split("_")[1] for path in self.folder.glob(f"{series_uid}_*.dcm")}
        return PacsSeries(study_uid, series_uid, frozenset(uids))

    def send(self, paths: list[Path]) -> None:
        for path in paths:
            self._answer()
            header = pydicom.dcmread(path, stop_before_pixels=True)
            uid = str(header.SOPInstanceUID)
            self.stored.append(uid)
            partial = self.folder / f".{uid}-{os.getpid()}"
            partial.write_bytes(path.read_bytes())
            os.replace(partial, self.folder / f"{header.SeriesInstanceUID}_{uid}.dcm")
            with (self.folder / "log").open("a") as log:
                log.write(f"{uid}\n")

    def retrieve(self, series: PacsSeries, folder: Path) -> None:
        for number, uid in enumerate(sorted(series.instance_uids)):
            there = self.folder / f"{series.series_uid}_{uid}.dcm"
            (folder / f"{number:06d}.dcm").write_bytes(there.read_bytes())

    def _answer(self) -> None:
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer


def settings(work: Path, **more: Any) -> Pacs:
    return Pacs.model_validate(
        {
            "model": "test@champion",
            "work": str(work),
            "rules": [{"name": "any"}],
            "send": {"dimse": {"host": "127.0.0.1", "port": 1, "called": "X"}},
            "settle_s": 0,
            **more,
        }
    )
