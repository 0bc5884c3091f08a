"""Storage commitment (PS3.4 J): the destination answers for each image that it keeps it safe.

It is asked by N-ACTION, and answers by N-EVENT-REPORT, on the same association or on one that it
opens to the receiver, perhaps in another process and much later. Request and answer are files of
the work folder, so that each of them outlives whoever wrote it.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom.events import Event

from pipeline.core.atomic_files import write_json
from pipeline.dicom.read.files import read_dataset
from pipeline.pacs.peers.peer import Peer, Unreachable
from pipeline.pacs.work.private import private_folder

#: Status of N-EVENT-REPORT (PS3.7 C): taken; no such transaction; damaged; no space to write it.
TAKEN, UNKNOWN, DAMAGED, NO_RESOURCES = 0x0000, 0x0115, 0x0110, 0x0213
#: Failure Reason (0008,1197), PS3.3 C.14.1.1.
_REASONS = {
    0x0110: "processing failure",
    0x0112: "no such object instance",
    0x0119: "class and instance do not agree",
    0x0122: "SOP class not supported",
    0x0131: "duplicate transaction UID",
    0x0213: "resource limitation",
}


@dataclass(frozen=True)
class CommitRequest:
    """What was asked of the destination for one item.

    asked: seconds since 1970. confirmed: N-ACTION was answered with success. failed: SOP Instance
    UIDs that an earlier report failed, which are sent again before the next request.
    """

    transaction: str
    asked: float
    confirmed: bool = False
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class CommitReport:
    """SOP Instance UIDs that the destination keeps, and its reason for each of the others."""

    committed: frozenset[str]
    failed: dict[str, int]


@dataclass(frozen=True)
class Commitment:
    """Request and report of one item, in a folder of its own. patience_s: until asked again."""

    folder: Path
    patience_s: float

    def is_waiting(self, now: float) -> bool:
        """Whether a request is under way that may still be answered."""
        request = self._request()
        if request is None or not request.confirmed or self.report() is not None:
            return False
        return now < request.asked + self.patience_s

    def settle(self, paths: list[Path], destination: Peer, now: float) -> bool:
        """Ask for images that were sent, or look at the answer; True where all are committed.

        Raises Unreachable where some are not, or no report came in time: asked again, after a
        pause, by the next call, which first sends the failed images again.
        """
        references = _references(paths)
        if self.report() is None:
            self._require_no_timeout()
            self._ask(paths, references, destination, now)
        report = self.report()
        if report is None:
            return False
        failed = {
            uid: report.failed.get(uid)
            for uid in references
            if uid in report.failed or uid not in report.committed
        }
        if failed:
            self._begin_again(tuple(failed))
            raise Unreachable(_failure(failed, len(references)))
        return True

    def forget(self) -> None:
        """Remove request and report, of an item that is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def report(self) -> CommitReport | None:
        """The report on the present transaction; None where none has come."""
        request, found = self._request(), _read(self.folder / "report.json")
        if request is None or found is None or found["transaction"] != request.transaction:
            return None
        return CommitReport(frozenset(found["committed"]), dict(found["failed"]))

    def confirm(self) -> None:
        """The destination took the request."""
        request = self._request()
        assert request is not None
        self._write(CommitRequest(request.transaction, request.asked, confirmed=True))

    def _request(self) -> CommitRequest | None:
        found = _read(self.folder / "request.json")
        if found is None:
            return None
        failed = tuple(found["failed"])
        return CommitRequest(found["transaction"], found["asked"], found["confirmed"], failed)

    def _require_no_timeout(self) -> None:
        request = self._request()
        if request is not None and request.confirmed:
            self._begin_again(request.failed)
            raise Unreachable(f"no storage commitment report within {self.patience_s:g} s")

    def _ask(
        self, paths: list[Path], references: dict[str, str], destination: Peer, now: float
    ) -> None:
        """The request is on the disk before it is sent: its report may come at once."""
        earlier = self._request()
        again = set(earlier.failed) if earlier else set()
        if again:
            destination.send([path for path in paths if _uid(path) in again])
        transaction = str(generate_uid(prefix=None))
        self._write(CommitRequest(transaction, now, failed=tuple(sorted(again))))
        destination.ask_commitment(self, action_information(transaction, references))

    def _begin_again(self, failed: tuple[str, ...]) -> None:
        self._write(CommitRequest("", 0.0, failed=failed))

    def _write(self, request: CommitRequest) -> None:
        private_folder(self.folder)
        write_json(self.folder / "request.json", request.__dict__)


def take_report(root: Path, event: Event) -> int:
    """Write an N-EVENT-REPORT beside the request that it answers; returns the response's status.

    root: the folder of all commitments. It is answered with success once it is on the disk.
    """
    try:
        information = event.event_information
        transaction = str(information.TransactionUID)
        committed = [
            str(item.ReferencedSOPInstanceUID)
            for item in information.get("ReferencedSOPSequence") or ()
        ]
        failed = [
            (str(item.ReferencedSOPInstanceUID), int(item.FailureReason))
            for item in information.get("FailedSOPSequence") or ()
        ]
    except Exception:  # whatever a peer's bytes make pydicom raise
        return DAMAGED
    try:
        for path in root.glob("*/request.json"):
            request = _read(path)
            if request is not None and transaction and request["transaction"] == transaction:
                report = {"transaction": transaction, "committed": committed, "failed": failed}
                write_json(path.with_name("report.json"), report)
                return TAKEN
    except OSError:
        return NO_RESOURCES
    return UNKNOWN


def action_information(transaction: str, references: dict[str, str]) -> Dataset:
    """The Action Information of a request (PS3.4 table J.3-1). references: UID to SOP class."""
    information = Dataset()
    information.TransactionUID = transaction
    information.ReferencedSOPSequence = []
    for uid, sop_class in references.items():
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
        information.ReferencedSOPSequence.append(item)
    return information


def _references(paths: list[Path]) -> dict[str, str]:
    headers = [read_dataset(path, stop_before_pixels=True) for path in paths]
    return {str(header.SOPInstanceUID): str(header.SOPClassUID) for header in headers}


def _uid(path: Path) -> str:
    return str(read_dataset(path, stop_before_pixels=True).SOPInstanceUID)


def _failure(failed: dict[str, int | None], count: int) -> str:
    codes = sorted({code for code in failed.values() if code is not None})
    named = [f"{code:04X}H, {_REASONS.get(code, 'of the destination')}" for code in codes]
    if None in failed.values():
        named.append("not in its report")
    return (
        f"the destination does not commit to {len(failed)} of {count} images:"
        f" Failure Reason (0008,1197) {'; '.join(named)}"
    )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    assert isinstance(found, dict)
    return found
