"""A PACS without DICOMweb as source: C-FIND to search, C-GET or C-MOVE to retrieve (PS3.4 C).

With C-GET the images come on the association of the request. With C-MOVE the PACS opens one to us,
and must know our title, host and port.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from io import BytesIO
from pathlib import Path

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.events import Event
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from pipeline.config.credentials import server_context
from pipeline.dicom.read.deflated import require_bounded
from pipeline.pacs.peers.bounded_server import BoundedServer
from pipeline.pacs.peers.dimse import PENDING, DimsePeer, find_answers, raise_status
from pipeline.pacs.peers.peer import Refused, Unreachable
from pipeline.pacs.peers.storage_classes import SOP_CLASSES, TRANSFER_SYNTAXES
from pipeline.pacs.settings.endpoints import DimseSource
from pipeline.pacs.settings.hospital import RoutingRule
from pipeline.pacs.settings.rules import ATTRIBUTES, SeriesFacts, first_future, study_dates
from pipeline.pacs.work.item import PacsSeries
from pipeline.pacs.work.private import private_folder
from pipeline.pacs.work.received_files import images_in, read_header

_GET, _MOVE = StudyRootQueryRetrieveInformationModelGet, StudyRootQueryRetrieveInformationModelMove
#: Status of C-GET and C-MOVE (PS3.4 C.4.2, C.4.3): some images could not be sent; unable to
#: process, which Orthanc also answers where it cannot reach us.
_SOME_FAILED, _UNABLE = 0xB000, range(0xC000, 0xD000)
SUCCESS, OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xC000


class DimseSourcePeer(DimsePeer):
    """A client of one application entity that is searched and retrieved from, for one thread.

    scratch: a private folder for the image that rules are matched on, and for the lock by which
    one process at a time listens for C-MOVE.
    """

    def __init__(self, settings: DimseSource, scratch: Path, *, max_image_mib: int) -> None:
        super().__init__(settings.dimse)
        self._source, self._scratch, self._max_mib = settings, scratch, max_image_mib

    def candidates(
        self, rule: RoutingRule, *, today: date
    ) -> Iterator[tuple[PacsSeries, SeriesFacts]]:
        """Series that a rule may select, by C-FIND: modality and study date are searched for.

        One image of each is retrieved, whose header says what rules ask: a PACS need not answer
        C-FIND for a kernel.
        """
        for study_uid in self._studies(rule, today):
            for header in self._find("SERIES", StudyInstanceUID=study_uid, Modality=""):
                if rule.modality and str(header.get("Modality", "")) not in rule.modality:
                    continue
                series = self.list_instances(study_uid, str(header.SeriesInstanceUID))
                if series.instance_uids:
                    yield series, self._facts(series)

    def accession_number(self, study_uid: str, series_uid: str) -> str:
        """The accession number (0008,0050) of a study, by C-FIND; "" where it has none."""
        del series_uid  # a study has one
        found = self._find("STUDY", StudyInstanceUID=study_uid, AccessionNumber="")
        return str(found[0].get("AccessionNumber", "") or "") if found else ""

    def retrieve(self, series: PacsSeries, folder: Path) -> None:
        """Write every image of a series into a folder as it comes, one file each."""
        self._retrieve(series, folder, "")

    def _studies(self, rule: RoutingRule, today: date) -> list[str]:
        """Also those of the future, which no rule by date selects: their scanner's clock is
        wrong."""
        spans = [""]
        first, last = study_dates(rule.date, today) if rule.date else (None, None)
        if first or last:
            spans = [f"{_compact(first)}-{_compact(last)}"]
            if last and last < first_future(today):
                spans.append(f"{_compact(first_future(today))}-")
        found = (row for span in spans for row in self._find("STUDY", StudyDate=span))
        return list(dict.fromkeys(str(row.StudyInstanceUID) for row in found))

    def _find(self, level: str, **keys: str) -> list[Dataset]:
        query = Dataset()
        query.QueryRetrieveLevel = level
        query.StudyInstanceUID = ""
        if level == "SERIES":
            query.SeriesInstanceUID = ""
        for name, value in keys.items():
            setattr(query, name, value)
        model, found = StudyRootQueryRetrieveInformationModelFind, []
        with self._associated([build_context(model)]) as association:
            for status, identifier in find_answers(association, query, model):
                code = status.get("Status")
                if code in PENDING and identifier is not None:
                    found.append(identifier)
                elif code != 0:
                    raise_status("C-FIND", code)
        return found

    def _facts(self, series: PacsSeries) -> SeriesFacts:
        private_folder(self._scratch)
        folder = Path(tempfile.mkdtemp(dir=self._scratch, prefix=".partial-"))
        try:
            self._retrieve(series, folder, min(series.instance_uids))
            paths = images_in(folder)
            if not paths:
                raise Unreachable("the PACS sent no image of a series that it has")
            return SeriesFacts.of(read_header(paths[0], ATTRIBUTES), len(series.instance_uids))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _retrieve(self, series: PacsSeries, folder: Path, image_uid: str) -> None:
        query = Dataset()
        query.QueryRetrieveLevel = "IMAGE" if image_uid else "SERIES"
        query.StudyInstanceUID, query.SeriesInstanceUID = series.study_uid, series.series_uid
        if image_uid:
            query.SOPInstanceUID = image_uid
        taken = _Taken(series, folder)
        if self._source.retrieve == "get":
            self._get(query, taken)
        else:
            self._move(query, taken)
        if taken.fault is not None:
            raise taken.fault

    def _get(self, query: Dataset, taken: _Taken) -> None:
        # A context for each syntax, so that every image comes in the one that it is kept in.
        contexts = [build_context(_GET)]
        contexts += [build_context(c, s) for c in SOP_CLASSES for s in TRANSFER_SYNTAXES]
        roles = [build_role(each, scp_role=True) for each in SOP_CLASSES]
        handlers = [(evt.EVT_C_STORE, taken.on_store)]
        association = self._associate(contexts, handlers, roles)
        try:
            _await("C-GET", association.send_c_get(query, _GET))
        except (ValueError, RuntimeError) as error:
            association.abort()
            raise _cut("C-GET", error) from None
        except BaseException:
            association.abort()
            raise
        association.release()

    def _move(self, query: Dataset, taken: _Taken) -> None:
        to = self._source.move
        assert to is not None
        with self._listening(taken), self._associated([build_context(_MOVE)]) as association:
            try:
                _await("C-MOVE", association.send_c_move(query, to.title, _MOVE))
            except (ValueError, RuntimeError) as error:
                raise _cut("C-MOVE", error) from None

    @contextmanager
    def _listening(self, taken: _Taken) -> Iterator[None]:
        """Take what the PACS sends to us; one process at a time."""
        to = self._source.move
        assert to is not None
        private_folder(self._scratch)
        with _locked(self._scratch / f".c-move-{to.port}"):
            entity = AE(ae_title=to.title)
            entity.require_called_aet = True
            entity.require_calling_aet = [self.settings.called]
            try:
                server: BoundedServer = entity.make_server(
                    (to.host, to.port),
                    server_class=BoundedServer,
                    contexts=[build_context(each, TRANSFER_SYNTAXES) for each in SOP_CLASSES],
                    evt_handlers=[(evt.EVT_C_STORE, taken.on_store)],
                    ssl_context=server_context(to.tls) if to.tls else None,
                    max_message_bytes=self._max_mib * 1024**2,
                    on_refusal=lambda _peer, why: taken.refuse(why),
                )
            except OSError as error:
                raise Unreachable(
                    f"source.move: cannot listen on {to.host}:{to.port}: {error.strerror}"
                ) from None
            threading.Thread(target=server.serve_forever, daemon=True).start()
            try:
                yield
            finally:
                server.shutdown()


@dataclass
class _Taken:
    """Writes the images of one series into a folder; what is no image of it is not taken.

    fault: the first one that is ours, such as no space.
    """

    series: PacsSeries
    folder: Path
    fault: Exception | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _count: int = 0

    def on_store(self, event: Event) -> int:
        """Answer a C-STORE request (PS3.4 B.2.3)."""
        if str(event.request.AffectedSOPInstanceUID) not in self.series.instance_uids:
            return CANNOT_UNDERSTAND
        try:
            content = event.encoded_dataset()
            require_bounded(BytesIO(content))
            with self._lock:
                (self.folder / f"{self._count:06d}.dcm").write_bytes(content)
                self._count += 1
        except OSError as error:
            self.fault = self.fault or error
            return OUT_OF_RESOURCES
        except Exception as error:  # whatever the bytes of a peer make pydicom raise
            self.fault = self.fault or error
            return CANNOT_UNDERSTAND
        return SUCCESS

    def refuse(self, why: str) -> None:
        """A peer went beyond a bound."""
        self.fault = self.fault or Refused(why)


def _await(request: str, answers: Iterator[tuple[Dataset, Dataset | None]]) -> None:
    """Raises Unreachable where not all images were sent, Refused for what will not pass."""
    for status, _ in answers:
        code = status.get("Status")
        if code == _SOME_FAILED or code in _UNABLE:
            failed = status.get("NumberOfFailedSuboperations") or "some"
            raise Unreachable(
                f"{request}: the PACS could not send {failed} images (status 0x{code:04X})"
            )
        if code not in PENDING and code != 0:
            raise_status(request, code)


def _cut(request: str, error: Exception) -> Exception:
    if isinstance(error, ValueError):  # no context for it was accepted
        return Refused(f"the PACS does not answer {request}")
    return Unreachable(f"the association ended before {request}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _compact(day: date | None) -> str:
    return day.strftime("%Y%m%d") if day else ""
