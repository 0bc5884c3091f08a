"""Which anatomy a series shows, in the terms that published conventions go by."""

from __future__ import annotations

import re

from pipeline.dicom.read.series import Series

#: By BodyPartExamined (PS3.16 annex L). What spans several, or is none of them, is left out.
BODY_PARTS = {
    **dict.fromkeys(("CHEST", "THORAX", "LUNG", "HEART"), "chest"),
    **dict.fromkeys(("ABDOMEN", "ABDOMENPELVIS", "LIVER", "KIDNEY", "PANCREAS"), "abdomen"),
    **dict.fromkeys(("HEAD", "BRAIN", "SKULL"), "neuro"),
}

#: The folder of the public Mayo set: the letter of its cases C002, L004, N005 is the exam's.
MAYO_FOLDER = "LDCT-and-Projection-data"
MAYO_LETTERS = {"C": "chest", "L": "abdomen", "N": "neuro"}


def anatomy_of(series: Series) -> str:
    """`chest`, `abdomen` or `neuro`; "" where neither the layout nor the header says so."""
    case = str(series.header.get("PatientID") or "").strip()
    if MAYO_FOLDER in series.instances[0].path.parts and re.fullmatch(r"[CLN]\d{3}", case):
        return MAYO_LETTERS[case[0]]
    body_part = str(series.header.get("BodyPartExamined") or "")
    return BODY_PARTS.get(re.sub(r"[\W_]", "", body_part).upper(), "")
