"""What a DICOMweb service answers to STOW-RS: which images it did not store, and why (PS3.18
10.5.3, table I.2-2)."""

from __future__ import annotations

from collections import Counter

import requests
from pydicom.dataset import Dataset

from pipeline.pacs.peers.peer import OutOfResources, Refused

#: Failure reasons (PS3.18 table I.2-2, PS3.7 C); those of ranges are below.
REASONS = {
    0x0110: "processing failure",
    0x0117: "invalid UID",
    0x0122: "it does not take this SOP class",
    0x0124: "not authorised",
    0x0131: "no such study, or another patient's",
    0xC122: "it does not take this transfer syntax",
}
_RANGES = {
    range(0xA700, 0xA800): "it is out of resources",
    range(0xA900, 0xAA00): "the image does not match its SOP class",
    range(0xC000, 0xD000): "it cannot understand the image",
}
#: What another attempt may help against.
_TRANSIENT = range(0xA700, 0xA800)
#: It has an image of that UID (PS3.7 C.5.8): whether it has all is asked afterwards.
_DUPLICATE = 0x0111
_JSON = ("application/dicom+json", "application/json")


def require_stored(answer: Dataset) -> None:
    """Raise Refused, or OutOfResources where the service lacks them, with each reason for which
    images were not stored, and of how many."""
    failed = [_reason(item) for item in answer.get("FailedSOPSequence") or ()]
    failed += [_reason(item) for item in answer.get("OtherFailuresSequence") or ()]
    failed = [code for code in failed if code != _DUPLICATE]
    if not failed:
        return
    reasons = [
        f"{number} for 0x{code:04X}, {meaning(code)}" for code, number in Counter(failed).items()
    ]
    kind = OutOfResources if all(code in _TRANSIENT for code in failed) else Refused
    raise kind(f"the DICOMweb service did not store {len(failed)} images: {'; '.join(reasons)}")


def require_no_failures(response: requests.Response) -> None:
    """As require_stored, of an answer with an HTTP status of failure that says so in JSON."""
    if response.headers.get("Content-Type", "").partition(";")[0].strip() in _JSON:
        try:
            answer = Dataset.from_json(response.json())
        except Exception:  # an error page: its status is all that is known
            return
        require_stored(answer)


def meaning(code: int) -> str:
    """A failure reason in words."""
    ranged = next((words for codes, words in _RANGES.items() if code in codes), "")
    return REASONS.get(code) or ranged or "a reason of its own"


def _reason(item: Dataset) -> int:
    return int(item.get("FailureReason") or 0x0110)
