"""What the page can ask for of a reader study: a reader's items, saved, and all of them as CSV.

Readers get series by random names, which only this server can resolve.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from pathlib import Path

from pipeline.core.errors import ConfigError
from pipeline.core.types import Json
from pipeline.review.access.roles import Identity
from pipeline.review.decisions import audit_of
from pipeline.review.series_index import DENOISED, ORIGINAL
from pipeline.review.study import localisation, reader_study
from pipeline.review.study.lesion_truth import kept_truth
from pipeline.review.study.power import StudyPlan, read_plan
from pipeline.review.worklist import Collection, Shown


class StudyService:
    """The reader study of a collection: pairs are scored, or lesions are marked, as planned."""

    def __init__(self, collection: Collection) -> None:
        self.root, self.collection = collection.root, collection
        self._secret = secrets.token_bytes(16)
        #: Series by the names that readers get.
        self.blinded: dict[str, Shown] = {}

    def reading(self, reader: str) -> Json:
        """A reader's items in their order, with what they marked so far."""
        reader_study.require_reader(reader)
        plan = read_plan(self.root)
        items = self._marked_items(reader) if plan.lesions else self._scored_items(reader)
        return {
            "reader": reader,
            "kind": "lesions" if plan.lesions else "scores",
            "items": items,
            "note": self._too_few_cases(plan),
            "forced_choice": plan.forced_choice,
        }

    def save(self, reader: str, body: Json, login: str) -> None:
        """Save a Score or, where lesions are marked, Marks of an item; login: how the reader was
        recognised. Raises ConfigError for an item that is not the reader's, and for neither side
        where the plan forces a choice."""
        reader_study.require_reader(reader)
        plan = read_plan(self.root)
        if plan.lesions:
            marks = localisation.Marks(**body)
            localisation.save(self.root, self._study(), reader, marks)
            item, ended = marks.item, marks.ended
        else:
            score = reader_study.Score(**body)
            if score.preference == "neither" and plan.forced_choice:
                raise ConfigError("this study asks for the better side: choose left or right")
            reader_study.save(self.root, self._study(), reader, score)
            item, ended = score.item, score.complete
        if ended:
            read = {"act": "read", "item": item, "reader": reader, "login": login}
            audit_of(self.root).append(read)

    def csv(self, who: Identity) -> str:
        """All complete readings, unblinded, as CSV; the export and who asked for it, where that is
        known, are recorded in the audit log. Raises ConfigError while a reader has begun and not
        ended: marks and sides stay unseen until then."""
        study, lesions = self._study(), read_plan(self.root).lesions
        progress = (localisation if lesions else reader_study).progress(self.root, study)
        for reader, (done, of) in progress.items():
            if done < of:
                raise ConfigError(
                    f"{reader} has read {done} of {of}: readings are given at the end"
                )
        by = {"reader": who.reader or "", "login": who.login}
        text = study_csv(self.root)
        rows = max(0, len(text.splitlines()) - 1)
        audit_of(self.root).append({"act": "readings exported", "rows": rows, **by})
        return text

    def _study(self) -> reader_study.Study:
        cases = self.collection.cases.values()
        both = [case.cid for case in cases if {ORIGINAL, DENOISED} <= case.shown.keys()]
        return reader_study.open_study(self.root, both)

    def _scored_items(self, reader: str) -> list[Json]:
        last = reader_study.scores(self.root, reader)
        items = []
        for item in reader_study.plan(self._study(), reader):
            if item.case not in self.collection.cases:
                continue
            right = DENOISED if item.left == ORIGINAL else ORIGINAL
            sides = zip(reader_study.SIDES, (item.left, right), strict=True)
            named = {side: self._named(item.item, item.case, role, side) for side, role in sides}
            score = last.get(item.item)
            saved = json.loads(score.model_dump_json()) if score else None
            done = bool(score and score.complete)
            items.append({"item": item.item, **named, "score": saved, "complete": done})
        return items

    def _marked_items(self, reader: str) -> list[Json]:
        last = localisation.last_marks(self.root, reader)
        items = []
        for item in localisation.plan_of(self._study(), reader):
            if item.case not in self.collection.cases:
                continue
            marks = last.get(item.item)
            saved = json.loads(marks.model_dump_json()) if marks else None
            name = self._named(item.item, item.case, item.role, "image")
            done = bool(marks and marks.ended)
            items.append({"item": item.item, "image": name, "score": saved, "complete": done})
        return items

    def _named(self, item: str, case: str, role: str, side: str) -> str:
        """A random name for a series, which only this server can resolve."""
        name = hashlib.sha256(self._secret + f"{item}/{side}".encode()).hexdigest()[:16]
        self.blinded[name] = self.collection.cases[case].shown[role]
        return name

    def _too_few_cases(self, plan: StudyPlan) -> str:
        """That the study has fewer cases than its plan needs, shown before it is read; or ""."""
        needed, study = plan.cases_needed(), self._study()
        cases = len(study.cases)
        if plan.lesions:
            truth = kept_truth(self.root)
            cases = 2 * min(len(truth.with_lesions), len(truth.without))
        if needed is not None and cases >= needed:
            return ""
        here = "1 case is here" if cases == 1 else f"{cases} cases are here"
        if plan.lesions:
            # Not how many have lesions: that would help to find them.
            here = f"{len(study.cases)} cases are here, with lesions or without"
        return f"{here}; {plan.readers} readers need {needed}: this study can give no verdict"


def study_csv(root: Path) -> str:
    """All complete readings of a folder's study, unblinded, as CSV; "" where there are none."""
    study = reader_study.open_study(root, [])
    if read_plan(root).lesions:
        return localisation.as_csv(localisation.unblinded(root, study), kept_truth(root))
    return reader_study.as_csv(reader_study.unblinded(root, study))
