"""Results to their destinations, side by side, each tried, counted and recorded for itself."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import LdctError
from pipeline.core.refusals import Unreadable
from pipeline.dicom.read.files import read_dataset
from pipeline.pacs.messages.atna_trail import AtnaTrail
from pipeline.pacs.peers.commitment import Commitment
from pipeline.pacs.peers.peer import AWAY_S, NoConnection, OutOfResources, Peer, Unreachable
from pipeline.pacs.settings.endpoints import Destination
from pipeline.pacs.settings.hospital import Pacs
from pipeline.pacs.work.deliveries import Delivery
from pipeline.pacs.work.folder import WorkFolder
from pipeline.pacs.work.item import AWAITS_COMMITMENT, State, WorkItem
from pipeline.pacs.work.ledger import Ledger
from pipeline.pacs.work.ledger_file import is_no_space

#: Seconds until a destination that was out of resources is tried again.
RESOURCES_POLL_S = 300.0
#: Seconds until it is looked again whether the destination has committed to what was sent.
COMMIT_POLL_S = 30.0
#: A destination that let us wait for so many seconds, in vain, is not tried for the next series for
#: ten times as long: those go to the others meanwhile.
SLOW_FAILURE_S, SLOW_PAUSE = 5.0, 10.0
_NO_ANSWER = "it did not answer when another series was sent to it"


@dataclass(frozen=True)
class _Tried:
    """What one attempt came to: a note on all that the destination has, None where it has yet to
    commit; or an error. seconds: for how long it lasted."""

    delivery: Delivery
    note: str | None
    error: BaseException | None
    seconds: float


class Sender:
    """Sends results to the destinations of their rules. peers: by the destinations' names.

    The ledger is used by the thread that calls, and each peer by one thread at a time.
    """

    def __init__(
        self, settings: Pacs, ledger: Ledger, peers: Mapping[str, Peer], trail: AtnaTrail
    ) -> None:
        self._settings, self._ledger, self._peers = settings, ledger, peers
        self._trail = trail
        self._places = WorkFolder(settings.work)
        self._silent_until: dict[str, float] = {}

    def deliver(self, work: WorkItem, folders: list[Path]) -> list[Delivery]:
        """Try each destination that is due, several at once; what each has then.

        Each is recorded as soon as it has every image, however long others take. folders: the
        derived series. Raises ConfigError where the work's destinations are not known, and for want
        of space in the work folder as the system does.
        """
        places = {each.name or "": each for each in self._settings.destinations_of(work.rule)}
        deliveries, now = self._ledger.deliveries.of(work, places), self._ledger.now()
        due = [each for each in deliveries if each.state is State.DERIVED and each.due <= now]
        alone = len(places) == 1
        for tried in self._attempts(self._answering(due), folders, places):
            place = places[tried.delivery.destination]
            if tried.error is not None:
                self._record_failure(tried, alone=alone)
            elif tried.note is None:
                self._ledger.deliveries.wait(
                    tried.delivery, AWAITS_COMMITMENT, pause_s=COMMIT_POLL_S
                )
            else:
                self._trail.sent(work, place, folders, well=True)
                self._record_sent(tried.delivery, tried.note, place)
        found = self._ledger.deliveries.of(work, places)
        failed = {each.destination for each in found if each.state is State.DEAD}
        for name in failed.intersection(each.destination for each in due):
            self._trail.sent(work, places[name], folders, well=False)
        return found

    def disconnect(self) -> None:
        """End connections that were kept for the next series."""
        for peer in self._peers.values():
            peer.disconnect()

    def _answering(self, due: list[Delivery]) -> list[Delivery]:
        """Those that did not keep us waiting in vain just now; the others are postponed."""
        now, answering = self._ledger.now(), []
        for delivery in due:
            silent_s = self._silent_until.get(delivery.destination, 0.0) - now
            if silent_s > 0:
                self._ledger.deliveries.postpone(delivery, _NO_ANSWER, pause_s=silent_s)
            else:
                answering.append(delivery)
        return answering

    def _attempts(
        self, due: list[Delivery], folders: list[Path], places: Mapping[str, Destination]
    ) -> Iterator[_Tried]:
        """Try each, several in threads of their own, and yield each as it ends.

        What is no Exception, such as an interrupt, is raised once the others have ended.
        """
        if len(due) == 1:
            yield _raised(self._attempt(due[0], folders, places[due[0].destination]))
            return
        if not due:
            return
        ended: list[_Tried] = []
        with ThreadPoolExecutor(len(due), thread_name_prefix="send") as threads:
            begun = [
                threads.submit(self._attempt, each, folders, places[each.destination])
                for each in due
            ]
            for attempt in as_completed(begun):
                ended.append(attempt.result())
                if isinstance(ended[-1].error, Exception | None):
                    yield ended[-1]
        for tried in ended:
            _raised(tried)

    def _attempt(self, delivery: Delivery, folders: list[Path], place: Destination) -> _Tried:
        began, note, error = time.monotonic(), None, None
        try:
            note = self._send(delivery, folders, place)
        except BaseException as raised:  # for the thread that records it
            error = raised
        return _Tried(delivery, note, error, time.monotonic() - began)

    def _record_sent(self, delivery: Delivery, note: str, place: Destination) -> None:
        self._ledger.deliveries.sent(delivery, note)
        if commitment := self._commitment(delivery, place):
            commitment.forget()

    def _record_failure(self, tried: _Tried, *, alone: bool) -> None:
        delivery, error, seconds = tried.delivery, tried.error, tried.seconds
        assert error is not None
        if alone and is_no_space(error):  # the worker waits for space
            raise error
        rows, retry = self._ledger.deliveries, self._settings.retry
        if isinstance(error, OutOfResources):  # no fault of the series, however long it lasts
            rows.postpone(delivery, str(error), pause_s=RESOURCES_POLL_S)
        elif is_no_space(error):
            rows.postpone(delivery, "no space left there", pause_s=RESOURCES_POLL_S)
        elif isinstance(error, Unreachable):
            away_s = min(AWAY_S, retry.first_s) if isinstance(error, NoConnection) else 0.0
            if seconds >= SLOW_FAILURE_S and not alone:  # series go to the others meanwhile
                away_s = SLOW_PAUSE * seconds
            self._silent_until[delivery.destination] = self._ledger.now() + away_s
            rows.fail(delivery, str(error), retry)
        elif isinstance(error, LdctError | Unreadable):
            rows.mark_dead(delivery, str(error))
        else:
            rows.fail(delivery, type(error).__name__, retry)

    def _send(self, delivery: Delivery, folders: list[Path], place: Destination) -> str | None:
        """Send to one destination and count; the note on it, None where it has yet to commit."""
        peer = self._peers[delivery.destination]
        commitment = self._commitment(delivery, place)
        if commitment and commitment.is_waiting(self._ledger.now()):
            return None
        sent = sum(send_series(folder, peer) for folder in folders)
        note = f"{sent} images counted at the destination"
        if commitment:
            images = [path for folder in folders for path in dicom_files(folder)]
            if not commitment.settle(images, peer, self._ledger.now()):
                return None
            note += ", which has committed to them"
        return note

    def _commitment(self, delivery: Delivery, place: Destination) -> Commitment | None:
        if place.dimse is None or not place.dimse.commit:
            return None
        folder = self._places.commitment(delivery.work, delivery.destination)
        return Commitment(folder, place.dimse.commit_patience_s)


def _raised(tried: _Tried) -> _Tried:
    """The same; raises its error where that is no Exception."""
    if tried.error is not None and not isinstance(tried.error, Exception):
        raise tried.error
    return tried


def send_series(folder: Path, destination: Peer) -> int:
    """Send the images of a derived series that the destination lacks; returns how many it has.

    The destination is asked before, so that what a killed worker sent is not sent again, and
    after, since a service may answer that it stored and not have done so.

    Raises Unreachable where images are still missing, and what the destination raises.
    """
    paths = dicom_files(folder)
    headers = {path: read_dataset(path, stop_before_pixels=True) for path in paths}
    uids = {path: str(header.SOPInstanceUID) for path, header in headers.items()}
    first = headers[paths[0]]
    series = str(first.StudyInstanceUID), str(first.SeriesInstanceUID)
    with destination.one_connection(paths):
        present = destination.list_instances(*series).instance_uids
        missing = [path for path in paths if uids[path] not in present]
        if missing:
            destination.send(missing)
            present = destination.list_instances(*series).instance_uids
    if not present.issuperset(uids.values()):
        # Some PACS show what they stored once the association has ended.
        destination.disconnect()
        present = destination.list_instances(*series).instance_uids
    still_missing = sum(uid not in present for uid in uids.values())
    if still_missing:
        raise Unreachable(f"{still_missing} of {len(paths)} images did not arrive")
    return len(paths)


def derived_folders(result: Path) -> list[Path]:
    """The folders below a result that hold DICOM files, a derived series each."""
    return sorted(path for path in result.iterdir() if path.is_dir() and dicom_files(path))


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM files in a folder, sorted by name."""
    return sorted(folder.glob("*.dcm"))
