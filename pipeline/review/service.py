"""What the page can ask for, free of HTTP: the worklist, planes, decisions, readings."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from typing import Any

from pipeline.core.errors import ConfigError
from pipeline.core.refusals import Unreadable
from pipeline.core.versions import VERSION
from pipeline.review import reader_study as readers
from pipeline.review.assets import REPORT
from pipeline.review.decisions import Decision, audit_of, decide, decisions, read_policy
from pipeline.review.planes import CHUNK, PADDING
from pipeline.review.planes_geometry import DIRECTIONS
from pipeline.review.series_index import DENOISED, ORIGINAL
from pipeline.review.slice_changes import flags_of, slice_change
from pipeline.review.worklist import Case, Collection, Shown

#: Measuring waits so long after planes were asked for: who scrolls goes first.
QUIET_S = 0.5
LABEL = "AI-derived, not for primary diagnosis"


class Review:
    """A collection on show. Series go by `CASE.ROLE`; in a study by names that tell nothing."""

    def __init__(self, collection: Collection) -> None:
        self.root = collection.root
        self.collection = collection
        self._secret = secrets.token_bytes(16)
        self._blinded: dict[str, Shown] = {}
        self._changes: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._asked_s = 0.0
        audit_of(self.root).append({"act": "started", "software": VERSION})

    def worklist(self) -> dict[str, Any]:
        """Every case with its flags and its decision, those never decided first."""
        decided = decisions(self.root)
        return {
            "label": LABEL,
            "software": VERSION,
            "chunk": CHUNK,
            "padding": int(PADDING),
            "policy": read_policy(self.root).send,
            "cases": [self._case(case, decided) for case in self.collection.cases.values()],
            "refused": self.collection.refusals,
            "criteria": readers.CRITERIA,
            "report": (self.root / REPORT).is_file(),
        }

    def _case(self, case: Case, decided: dict[str, dict[str, Any]]) -> dict[str, Any]:
        folder = case.folder.relative_to(self.root).as_posix() if case.folder else ""
        record = decided.get(folder)
        measured = self._changes.get(case.cid, {}).get("flags", [])
        return {
            "case": case.cid,
            "patient": case.patient,
            "model": case.model,
            "flags": [*case.flags, *measured],
            "folder": folder,
            "series": {
                role: {"sid": f"{case.cid}.{role}", "facts": s.facts, "warnings": s.warnings}
                for role, s in case.shown.items()
            },
            "slices": next(iter(case.shown.values())).planes.geometry.shape[0],
            "decision": record
            and {name: record[name] for name in ("act", "reader", "reason", "time")},
        }

    def geometry(self, sid: str) -> dict[str, Any]:
        """Where a series' planes lie; raises KeyError for a name that is none."""
        planes = self.shown(sid).planes
        return {"hu_step": planes.hu_step, **planes.geometry.facts()}

    def chunk(self, sid: str, direction: str, number: int) -> tuple[bytes, str]:
        """Consecutive planes as little-endian int16, and as JSON which cannot be shown, and why."""
        if direction not in DIRECTIONS:
            raise KeyError(direction)
        self._asked_s = time.monotonic()
        chunk = self.shown(sid).planes.chunk(direction, number)
        return chunk.planes.astype("<i2", copy=False).tobytes(), json.dumps(chunk.faults)

    def shown(self, sid: str) -> Shown:
        """A series by its name; raises KeyError for one that is none."""
        if sid in self._blinded:
            return self._blinded[sid]
        cid, _, role = sid.rpartition(".")
        return self.collection.cases[cid].shown[role]

    def changes(self, cid: str) -> dict[str, Any]:
        """What denoising changed in each slice, measured on first asking: done counts up."""
        case = self.collection.cases[cid]
        if not {ORIGINAL, DENOISED} <= case.shown.keys():
            return {"done": 0, "of": 0, "slices": [], "flags": []}
        with self._lock:
            if cid not in self._changes:
                of = case.shown[DENOISED].planes.geometry.shape[0]
                self._changes[cid] = {"done": 0, "of": of, "slices": [], "flags": []}
                threading.Thread(target=self._measure, args=(case,), daemon=True).start()
        return self._changes[cid]

    def measured(self, cid: str) -> dict[str, Any]:
        """The same, waited for."""
        while (found := self.changes(cid))["done"] < found["of"]:
            time.sleep(0.05)
        return found

    def _measure(self, case: Case) -> None:
        found = self._changes[case.cid]
        original, denoised = (case.shown[role].planes for role in (ORIGINAL, DENOISED))
        for number in range(min(p.geometry.shape[0] for p in (original, denoised))):
            while time.monotonic() - self._asked_s < QUIET_S:
                time.sleep(QUIET_S / 5)
            try:
                found["slices"].append(slice_change(original, denoised, number))
            except (Unreadable, OSError, ValueError) as fault:
                found["slices"].append({"slice": number, "mean_hu": None, "fault": str(fault)})
            if number + 1 < found["of"]:
                found["done"] = number + 1
        found["flags"] = flags_of(found["slices"])
        found["done"] = found["of"]

    def opened(self, cid: str, body: dict[str, Any]) -> None:
        reader = readers.require_reader(str(body.get("reader", "")))
        audit_of(self.root).append(
            {"act": "opened", "case": self.collection.cases[cid].cid, "reader": reader}
        )

    def decide(self, cid: str, body: dict[str, Any]) -> dict[str, Any]:
        case = self.collection.cases[cid]
        if case.folder is None:
            raise ConfigError("only a derived series is accepted or rejected")
        decide(self.root, cid, case.folder, Decision(**body))
        return self._case(case, decisions(self.root))

    def _study(self) -> readers.Study:
        cases = self.collection.cases.values()
        both = [case.cid for case in cases if {ORIGINAL, DENOISED} <= case.shown.keys()]
        return readers.open_study(self.root, both)

    def reading(self, reader: str) -> dict[str, Any]:
        """A reader's items in their order, sides by names that tell nothing, with what is said."""
        readers.require_reader(reader)
        given = readers.scores(self.root, reader)
        items = []
        for item in readers.plan(self._study(), reader):
            if item.case not in self.collection.cases:
                continue
            score = given.get(item.item)
            items.append(
                {
                    "item": item.item,
                    **self._sides(item),
                    "score": json.loads(score.model_dump_json()) if score else None,
                    "complete": bool(score and score.complete),
                }
            )
        return {"reader": reader, "items": items}

    def _sides(self, item: readers.Item) -> dict[str, str]:
        """Blind names for both sides; only this server can tell whose they are."""
        shown = self.collection.cases[item.case].shown
        right = DENOISED if item.left == ORIGINAL else ORIGINAL
        named = {}
        for side, role in zip(readers.SIDES, (item.left, right), strict=True):
            seed = self._secret + f"{item.item}/{side}".encode()
            named[side] = hashlib.sha256(seed).hexdigest()[:16]
            self._blinded[named[side]] = shown[role]
        return named

    def score(self, reader: str, body: dict[str, Any]) -> None:
        readers.require_reader(reader)
        score = readers.Score(**body)
        readers.save(self.root, self._study(), reader, score)
        if score.complete:
            audit_of(self.root).append({"act": "read", "item": score.item, "reader": reader})

    def csv(self) -> str:
        rows = readers.unblinded(self.root, self._study())
        audit_of(self.root).append({"act": "readings exported", "rows": len(rows)})
        return readers.as_csv(rows)
