"""What the page can ask for, without HTTP: the worklist, planes, decisions, readings."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core.errors import ConfigError
from pipeline.core.refusals import Unreadable
from pipeline.core.types import Json
from pipeline.core.versions import VERSION
from pipeline.review import key_images, measurements
from pipeline.review.assets import REPORT
from pipeline.review.decisions import (
    ConflictError,
    Decision,
    RecordedDecision,
    audit_of,
    decide,
    decisions,
    read_policy,
)
from pipeline.review.planes import CHUNK, PADDING
from pipeline.review.planes_geometry import DIRECTIONS
from pipeline.review.series_index import DENOISED, ORIGINAL
from pipeline.review.slice_changes import SliceChange, flags_of, slice_change
from pipeline.review.study import reader_study
from pipeline.review.study.service import StudyService
from pipeline.review.worklist import Case, Collection, Shown

#: Changes are measured only so long after planes were last asked for: scrolling goes first.
QUIET_S = 0.5
LABEL = "AI-derived, not for primary diagnosis"


@dataclass
class CaseChanges:
    """What denoising changed in a case, slice by slice, as far as it is measured.

    done, of: how many slices are measured, of how many.
    """

    done: int
    of: int
    slices: list[SliceChange] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)

    def to_dict(self) -> Json:
        """As the page reads it."""
        slices = [change.to_dict() for change in self.slices]
        return {"done": self.done, "of": self.of, "slices": slices, "flags": self.flags}


class Review:
    """A collection under review.

    The page asks for a series by the name `CASE.ROLE`; in a reader study by a random name.
    """

    def __init__(self, collection: Collection) -> None:
        self.root = collection.root
        self.collection = collection
        self.study = StudyService(collection)
        self._changes: dict[str, CaseChanges] = {}
        self._lock = threading.Lock()
        self._last_request_s = 0.0
        audit_of(self.root).append({"act": "started", "software": VERSION})

    def ended(self) -> None:
        """Record in the audit log that the page is served no longer."""
        audit_of(self.root).append({"act": "ended", "software": VERSION})

    def worklist(self) -> Json:
        """Every case with its flags and its decision, and what the page needs to know besides."""
        decided = decisions(self.root)
        return {
            "label": LABEL,
            "software": VERSION,
            "chunk": CHUNK,
            "padding": int(PADDING),
            "policy": read_policy(self.root).send,
            "cases": [self._case(case, decided) for case in self.collection.cases.values()],
            "refused": self.collection.refusals,
            "criteria": reader_study.CRITERIA,
            "report": (self.root / REPORT).is_file(),
        }

    def _case(self, case: Case, decided: dict[str, RecordedDecision]) -> Json:
        folder = case.folder.relative_to(self.root).as_posix() if case.folder else ""
        record = decided.get(folder)
        measured = self._changes[case.cid].flags if case.cid in self._changes else []
        return {
            "case": case.cid,
            "name": folder or case.cid,
            "source": case.source,
            "patient": case.patient,
            "model": case.model.to_dict(),
            "flags": [*case.flags, *measured],
            "folder": folder,
            "series": {
                role: shown.to_dict(f"{case.cid}.{role}") for role, shown in case.shown.items()
            },
            "slices": next(iter(case.shown.values())).planes.geometry.shape[0],
            "decision": _shown(record),
        }

    def decisions(self) -> Json:
        """The last decision on each derived series, by its case; None where there is none."""
        decided = decisions(self.root)
        return {
            case.cid: _shown(decided.get(case.folder.relative_to(self.root).as_posix()))
            for case in self.collection.cases.values()
            if case.folder
        }

    def geometry(self, sid: str) -> Json:
        """Where a series' planes lie; raises KeyError for an unknown name.

        Without Instance Numbers in a reader study: they may differ between the sides.
        """
        planes = self.shown(sid).planes
        numbers = [] if sid in self.study.blinded else planes.instance_numbers
        return {
            "hu_step": planes.hu_step,
            "instance_numbers": numbers,
            **planes.geometry.to_dict(),
        }

    def chunk(self, sid: str, direction: str, number: int) -> tuple[bytes, str]:
        """Consecutive planes as little-endian int16, and as JSON why some cannot be shown.

        Raises KeyError for an unknown name or direction, IndexError beyond the last plane.
        """
        if direction not in DIRECTIONS:
            raise KeyError(direction)
        self._last_request_s = time.monotonic()
        chunk = self.shown(sid).planes.chunk(direction, number)
        return chunk.planes.astype("<i2", copy=False).tobytes(), json.dumps(chunk.faults)

    def shown(self, sid: str) -> Shown:
        """A series by its name; raises KeyError for an unknown one."""
        if sid in self.study.blinded:
            return self.study.blinded[sid]
        cid, _, role = sid.rpartition(".")
        return self.collection.cases[cid].shown[role]

    def changes(self, cid: str) -> CaseChanges:
        """What denoising changed in each slice; the first call starts to measure, in a thread."""
        case = self.collection.cases[cid]
        if not {ORIGINAL, DENOISED} <= case.shown.keys():
            return CaseChanges(done=0, of=0)
        with self._lock:
            if cid not in self._changes:
                of = case.shown[DENOISED].planes.geometry.shape[0]
                self._changes[cid] = CaseChanges(done=0, of=of)
                threading.Thread(target=self._measure, args=(case,), daemon=True).start()
        return self._changes[cid]

    def measured(self, cid: str) -> CaseChanges:
        """What denoising changed in each slice; waits until all are measured."""
        while (found := self.changes(cid)).done < found.of:
            time.sleep(0.05)
        return found

    def _measure(self, case: Case) -> None:
        found = self._changes[case.cid]
        original, denoised = (case.shown[role].planes for role in (ORIGINAL, DENOISED))
        for number in range(min(p.geometry.shape[0] for p in (original, denoised))):
            while time.monotonic() - self._last_request_s < QUIET_S:
                time.sleep(QUIET_S / 5)
            try:
                found.slices.append(slice_change(original, denoised, number))
            except (Unreadable, OSError, ValueError) as fault:
                found.slices.append(SliceChange(number, fault=str(fault)))
            if number + 1 < found.of:
                found.done = number + 1
        found.flags = flags_of(found.slices)
        found.done = found.of

    def opened(self, cid: str, body: Json, login: str) -> None:
        """Record in the audit log that a reader opened a case. login: how they were recognised."""
        reader = reader_study.require_reader(str(body.get("reader", "")))
        case = self.collection.cases[cid].cid
        audit_of(self.root).append(
            {"act": "opened", "case": case, "reader": reader, "login": login}
        )

    def marks(self, cid: str) -> Json:
        """The marks of the case that were saved last, in LPS mm."""
        found = measurements.saved(self.root, self.collection.cases[cid])
        return {"marks": [json.loads(mark.model_dump_json()) for mark in found]}

    def save_marks(self, cid: str, body: Json, login: str) -> Json:
        """Save marks as a DICOM SR; returns the name of its file. Raises ConfigError for marks
        that lie on no slice."""
        path = measurements.save(self.root, self.collection.cases[cid], body)
        return self._recorded("measured", cid, path, str(body["reader"]), login)

    def key_images(self, cid: str) -> Json:
        """The key images of the case that were saved last, by the slices' numbers."""
        return {"slices": key_images.saved(self.root, self.collection.cases[cid])}

    def save_key_images(self, cid: str, body: Json, login: str) -> Json:
        """Save key images as a DICOM Key Object Selection; returns the name of its file. Raises
        ConfigError for slices that the case does not have."""
        path = key_images.save(self.root, self.collection.cases[cid], body)
        return self._recorded("key images", cid, path, str(body["reader"]), login)

    def _recorded(self, act: str, cid: str, path: Path, reader: str, login: str) -> Json:
        """The name of a file that a reader saved, once the audit log has it."""
        file = path.relative_to(self.root).as_posix()
        audit_of(self.root).append(
            {"act": act, "case": cid, "file": file, "reader": reader, "login": login}
        )
        return {"file": file}

    def decide(self, cid: str, body: Json, login: str) -> Json:
        """Record a Decision; returns the case as the worklist has it.

        Raises ConfigError for an original and for a rejection without a reason, ConflictError,
        which carries the case, where another decision came between.
        """
        case = self.collection.cases[cid]
        if case.folder is None:
            raise ConfigError("only a derived series is accepted or rejected")
        try:
            decide(self.root, cid, case.folder, Decision(**body), login)
        except ConflictError as error:
            error.report = self._case(case, decisions(self.root))
            raise
        return self._case(case, decisions(self.root))


def _shown(record: RecordedDecision | None) -> Json | None:
    """What the page shows of a decision."""
    if record is None:
        return None
    return {name: getattr(record, name) for name in ("act", "reader", "reason", "time")}
