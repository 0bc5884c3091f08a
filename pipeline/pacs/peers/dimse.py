"""An application entity that stores and can be searched: C-STORE and C-FIND (PS3.4 B, C)."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from pipeline.config.credentials import client_context
from pipeline.core.errors import LdctError
from pipeline.pacs.peers.commitment import Commitment, take_report
from pipeline.pacs.peers.kept_association import KeptAssociation
from pipeline.pacs.peers.peer import NoConnection, OutOfResources, Peer, Refused, Unreachable
from pipeline.pacs.settings.endpoints import Dimse
from pipeline.pacs.work.item import PacsSeries

# pynetdicom's messages hold what is sent: names, dates, UIDs.
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)

#: Status of C-FIND for a match, and of C-STORE for stored, with or without a warning (PS3.7 C).
PENDING = (0xFF00, 0xFF01)
_STORED = (0x0000, 0xB000, 0xB006, 0xB007)
_OUT_OF_RESOURCES = range(0xA700, 0xA800)
#: A-ASSOCIATE-RJ (PS3.8 9.3.4): a transient result; temporary congestion and local limit
#: exceeded, of the service provider's presentation layer.
_TRANSIENT, _PRESENTATION, _BUSY = 2, 3, (1, 2)
#: N-ACTION statuses that may pass (PS3.7 C): processing failure, resource limitation.
_MAY_PASS = (0x0110, 0x0213)
#: Seconds for which a report may come on the association of its request.
_REPORT_S = 2.0
_META = ("MediaStorageSOPClassUID", "TransferSyntaxUID")


class DimsePeer(Peer):
    """A client of one application entity, for one thread.

    One association for each call, or for all calls on a study in and between blocks of
    `one_connection`.
    """

    def __init__(self, settings: Dimse) -> None:
        self.settings = settings
        self._kept = KeptAssociation()
        self._in_block = False

    @contextmanager
    def one_connection(self, paths: list[Path]) -> Iterator[None]:
        """Search and store in one association, which stays for the study's next series."""
        header = pydicom.dcmread(paths[0], specific_tags=["StudyInstanceUID"])
        contexts = [build_context(StudyRootQueryRetrieveInformationModelFind), *_contexts(paths)]
        with self._kept.used(str(header.StudyInstanceUID), contexts, self._associate):
            self._in_block = True
            try:
                yield
            finally:
                self._in_block = False

    def disconnect(self) -> None:
        """Release the association that was kept, if any."""
        self._kept.release()

    def list_instances(self, study_uid: str, series_uid: str) -> PacsSeries:
        """The images that the entity has of a series, by C-FIND at the IMAGE level."""
        query = Dataset()
        query.QueryRetrieveLevel = "IMAGE"
        query.StudyInstanceUID, query.SeriesInstanceUID = study_uid, series_uid
        query.SOPInstanceUID = ""
        model = StudyRootQueryRetrieveInformationModelFind
        found = set()
        with self._associated([build_context(model)]) as association:
            for status, identifier in find_answers(association, query, model):
                code = status.get("Status")
                if code in PENDING and identifier is not None:
                    found.add(str(identifier.SOPInstanceUID))
                elif code != 0:
                    raise_status("C-FIND", code)
        return PacsSeries(study_uid, series_uid, frozenset(found))

    def send(self, paths: list[Path]) -> None:
        """Store images by C-STORE, in the transfer syntax that their files have."""
        with self._associated(_contexts(paths)) as association:
            for path in paths:
                try:
                    code = association.send_c_store(path).get("Status")
                except ValueError as error:  # no context for it was accepted
                    raise Refused("the PACS does not take these images' transfer syntax") from error
                except RuntimeError:
                    raise Unreachable("the association ended while images were sent") from None
                if code not in _STORED:
                    raise_status("C-STORE", code)

    def ask_commitment(self, commitment: Commitment, information: Dataset) -> None:
        """Ask by N-ACTION; a report that comes at once, here or at the receiver, is awaited."""
        self.disconnect()  # an archive may commit only to what has come to its end
        answer = _ReportAnswer(commitment.folder.parent)
        handlers = [(evt.EVT_N_EVENT_REPORT, answer.take), (evt.EVT_PDU_SENT, answer.on_pdu)]
        # Beside Verification: an association of which every context is refused is only aborted.
        contexts = [build_context(StorageCommitmentPushModel), build_context(Verification)]
        association = self._associate(contexts, handlers)
        try:
            _request_commitment(association, information)
            commitment.confirm()
            end = time.monotonic() + _REPORT_S
            while (
                commitment.report() is None
                and association.is_established
                and time.monotonic() < end
            ):
                time.sleep(0.02)
            answer.wait()
        finally:
            if association.is_established:
                association.release()

    @contextmanager
    def _associated(self, contexts: list[PresentationContext]) -> Iterator[Association]:
        if self._in_block:
            yield self._kept.association
            return
        association = self._associate(contexts)
        try:
            yield association
        except BaseException:
            association.abort()
            raise
        association.release()

    def _associate(
        self,
        contexts: list[PresentationContext],
        handlers: Sequence[evt.EventHandlerType] = (),
        roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    ) -> Association:
        """Raises Refused and Unreachable where there is no association (PS3.8 9.3.4)."""
        settings = self.settings
        entity = AE(ae_title=settings.calling)
        for name in ("acse_timeout", "dimse_timeout", "network_timeout", "connection_timeout"):
            setattr(entity, name, settings.timeout_s)
        association = entity.associate(
            settings.host,
            settings.port,
            contexts=contexts,
            ae_title=settings.called,
            tls_args=self._tls(),
            evt_handlers=list(handlers),
            ext_neg=list(roles),
        )
        if not association.is_established:
            whom = f"no association with {settings.called} at {settings.host}:{settings.port}"
            raise _no_association(association, whom)
        return association

    def _tls(self) -> tuple[ssl.SSLContext, str] | None:
        tls = self.settings.tls
        return (client_context(tls), self.settings.host) if tls else None


class _ReportAnswer:
    """The answer to an N-EVENT-REPORT, which another thread sends: the association is not to be
    released before it has gone."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._came, self._gone = threading.Event(), threading.Event()

    def take(self, event: evt.Event) -> tuple[int, None]:
        """Write the report beside its request; returns the response."""
        self._came.set()
        return take_report(self._root, event), None

    def on_pdu(self, event: evt.Event) -> None:
        """A PDU has gone: the first of data after the report is the answer to it."""
        if self._came.is_set() and isinstance(event.pdu, P_DATA_TF):
            self._gone.set()

    def wait(self) -> None:
        """Until the answer has gone, where a report came on this association."""
        if self._came.is_set():
            self._gone.wait(_REPORT_S)


def _contexts(paths: Iterable[Path]) -> list[PresentationContext]:
    """One for each SOP class and transfer syntax; uncompressed images may go as implicit VR."""
    classes = {
        tuple(UID(meta.get(name, "")) for name in _META)
        for meta in (pydicom.filereader.read_file_meta_info(path) for path in paths)
    }
    return [
        build_context(
            sop_class, [syntax] if syntax.is_compressed else [syntax, ImplicitVRLittleEndian]
        )
        if syntax != ImplicitVRLittleEndian
        else build_context(sop_class, [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
        for sop_class, syntax in sorted(classes)
    ]


def find_answers(
    association: Association, query: Dataset, model: UID
) -> Iterator[tuple[Dataset, Dataset | None]]:
    """The answers to a C-FIND; raises Refused and Unreachable where it cannot be asked."""
    try:
        yield from association.send_c_find(query, model)
    except ValueError as error:  # no context for it was accepted
        raise Refused("the PACS does not answer C-FIND") from error
    except RuntimeError:
        raise Unreachable("the association ended before C-FIND") from None


def _request_commitment(association: Association, information: Dataset) -> None:
    """N-ACTION of the Push Model, action type 1 (PS3.4 J.3.2)."""
    model, instance = StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    try:
        status, _ = association.send_n_action(information, 1, model, instance)
    except ValueError as error:  # no context for it was accepted
        raise Refused("the PACS does not take storage commitment; see send.dimse.commit") from error
    except RuntimeError:
        raise Unreachable("the association ended before N-ACTION") from None
    code = status.get("Status")
    if code in _MAY_PASS:
        raise Unreachable(f"N-ACTION was answered with status 0x{code:04X}")
    if code != 0:
        raise_status("N-ACTION", code)


def _no_association(association: Association, whom: str) -> LdctError:
    """Refused where the entity rejected it for good (PS3.8 9.3.4), such as a title that it does
    not know; what is transient, or for want of resources there, may pass."""
    answer = association.acceptor.primitive if association.is_rejected else None
    if answer is None:
        return NoConnection(whom)
    busy = answer.result_source == _PRESENTATION and answer.diagnostic in _BUSY
    kind = Unreachable if answer.result == _TRANSIENT or busy else Refused
    return kind(f"{whom}: {answer.reason_str.lower()}")


def raise_status(request: str, code: int | None) -> None:
    """Raises what a status means that is neither success nor pending; None for no answer."""
    if code is None:
        raise Unreachable(f"no answer to {request}: the association broke or took too long")
    kind = OutOfResources if code in _OUT_OF_RESOURCES else Refused
    raise kind(f"{request} was answered with status 0x{code:04X}")
