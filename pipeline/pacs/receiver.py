"""A C-STORE service class provider: what comes is written as bytes, undecoded.

An image is acknowledged once it is on the disk. A study is complete when nothing has come for a
while, no association is open, and the source has no more of it.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
)
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification
from pynetdicom.transport import ThreadedAssociationServer

from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.pseudonyms import pseudonym
from pipeline.pacs.credentials import server_context
from pipeline.pacs.hospital_config import Pacs
from pipeline.pacs.ledger import Ledger, private_folder
from pipeline.pacs.peer import Peer
from pipeline.pacs.rules import ATTRIBUTES, Facts, judge_series, matched
from pipeline.pacs.work_folder import WorkFolder, sync
from pipeline.pacs.work_item import PacsSeries, State

logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)

_NAMES = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_CLASSES = (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
)
#: Every syntax that the reader decodes; the bytes are kept as they came.
_SYNTAXES = [
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.5",
]
#: C-STORE status (PS3.4 B.2.3).
SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000


@dataclass
class Receiver:
    """Receives into the work folder, and hands complete studies to the ledger.

    key: the installation's, for the names of folders and files.
    """

    settings: Pacs
    ledger: Ledger
    model: str
    key: bytes
    source: Peer | None = None
    today: Callable[[], date] = date.today
    #: What each open association has sent to.
    _open: dict[int, set[str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def places(self) -> WorkFolder:
        return WorkFolder(self.settings.work)

    def start(self) -> ThreadedAssociationServer:
        """Listen, in threads of its own, until `shutdown` of what is returned."""
        asked = self.settings.receive
        entity = AE(ae_title=asked.title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(asked.callers)
        contexts = [build_context(kind, _SYNTAXES) for kind in _CLASSES]
        handlers = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_ESTABLISHED, self._opened),
            (evt.EVT_CONN_CLOSE, self._closed),
        ]
        try:
            server = entity.start_server(
                (asked.host, asked.port),
                block=False,
                contexts=[*contexts, build_context(Verification)],
                evt_handlers=handlers,
                ssl_context=server_context(asked.tls) if asked.tls else None,
            )
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {asked.host}:{asked.port}: {error.strerror}"
            ) from error
        assert server is not None
        return server

    def sweep(self) -> int:
        """Hand the studies that are complete to the ledger; returns how many series."""
        self._set_aside()
        return sum(self._take(study) for study in _folders(self.places.arrived))

    def _opened(self, event: Event) -> None:
        with self._lock:
            self._open[id(event.assoc)] = set()

    def _closed(self, event: Event) -> None:
        with self._lock:
            self._open.pop(id(event.assoc), None)

    def _store(self, event: Event) -> int:
        try:
            content = event.encoded_dataset()
            header = _peek(content, _NAMES)
            names = [pseudonym(self.key, "r", str(header[name].value)) for name in _NAMES]
        except (InvalidDicomError, KeyError, ValueError, NotImplementedError):
            return CANNOT_UNDERSTAND
        try:
            with self._lock:
                self._open.setdefault(id(event.assoc), set()).add(names[0])
                self._keep(content, *names)
        except OSError:
            return OUT_OF_RESOURCES
        return SUCCESS

    def _keep(self, content: bytes, study: str, series: str, image: str) -> None:
        """Whole and on the disk; other bytes of the same name stay beside the first ones, for
        the reader to refuse."""
        folder = self.places.incoming / study / series
        private_folder(folder)
        path, copies = folder / f"{image}.dcm", 1
        while path.exists():
            if path.read_bytes() == content:
                os.utime(folder)
                return
            copies += 1
            path = folder / f"{image}-{copies}.dcm"
        partial = folder / f".{path.name}"
        partial.write_bytes(content)
        sync(partial)
        os.replace(partial, path)
        sync(folder)

    def _set_aside(self) -> None:
        """Studies that nothing more came of, out of the reach of what still comes."""
        private_folder(self.places.arrived)
        for study in _folders(self.places.incoming):
            # The source is asked without the lock: an association must not wait for it.
            if not self._is_quiet(study) or self._lacks_some(study):
                continue
            with self._lock:
                if self._is_quiet(study):
                    os.replace(study, self.places.arrived / f"{study.name}-{uuid.uuid4().hex[:8]}")

    def _is_quiet(self, study: Path) -> bool:
        open_ = any(study.name in studies for studies in list(self._open.values()))
        return not open_ and self._quiet_s(study) >= self.settings.receive.silence_s

    def _quiet_s(self, study: Path) -> float:
        return self.ledger.now() - max(p.stat().st_mtime for p in [study, *study.iterdir()])

    def _lacks_some(self, study: Path) -> bool:
        """Whether the source has images of a received series that may still come."""
        if self.source is None or self._quiet_s(study) >= self.settings.receive.patience_s:
            return False
        for folder in _with_images(study):
            came = _series_in(folder)
            try:
                there = self.source.series(came.study_uid, came.series_uid)
            except LdctError:
                return True  # not known: wait
            if there.instance_uids - came.instance_uids:
                return True
        return False

    def _take(self, study: Path) -> int:
        """First into the ledger, then to its place: a kill between the two is made good by the
        next sweep, and the worker waits for the files."""
        taken = 0
        for folder in _with_images(study):
            came, rule = _series_in(folder), self._rule(folder)
            if rule is None:
                _move(folder, self.places.unmatched / f"{study.name}-{folder.name}")
                continue
            now = self.ledger.now()
            work = self.ledger.add(came, self.model, origin="c-store", rule=rule, due=now)
            if work.state is State.FOUND:
                _move(folder, self.places.series(work.id))
            elif work.state is State.DEAD:  # given up before it came: for `ldct retry`
                _move(folder, self.places.dead(work.id) / "series")
            # Else it came before, and is under way or done.
            taken += 1
        shutil.rmtree(study)
        return taken

    def _rule(self, folder: Path) -> str | None:
        paths = _files(folder)
        facts = Facts.of(_peek(paths[0].read_bytes(), ATTRIBUTES), len(paths))
        return matched(judge_series(facts, self.settings.rules, today=self.today()))


def _peek(content: bytes, names: tuple[str, ...]) -> pydicom.Dataset:
    return pydicom.dcmread(BytesIO(content), stop_before_pixels=True, specific_tags=list(names))


def _series_in(folder: Path) -> PacsSeries:
    headers = [_peek(path.read_bytes(), _NAMES) for path in _files(folder)]
    uids = frozenset(str(header.SOPInstanceUID) for header in headers)
    return PacsSeries(str(headers[0].StudyInstanceUID), str(headers[0].SeriesInstanceUID), uids)


def _move(folder: Path, place: Path) -> None:
    """What is there already stays; the study's folder goes with what is left in it."""
    private_folder(place.parent)
    if not place.exists():
        os.replace(folder, place)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.exists() else []


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("[!.]*.dcm"))


def _with_images(study: Path) -> list[Path]:
    """A kill may leave a series folder with nothing whole in it."""
    return [folder for folder in _folders(study) if _files(folder)]
