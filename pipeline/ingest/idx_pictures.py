"""Store the user's own IDX files (MNIST and its kin), as sheets that a run can split.

The publisher's test files are one patient, `idx-test`, which a run holds back by
`data.split.test: [idx-test]`; the training files are ten, `idx-train-0` to `idx-train-9`, from
which a run without test files holds some back.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.core.errors import ConfigError
from pipeline.ingest.bundled_pictures import SHEETS, Pictures, store_sheet
from pipeline.ingest.ingest import IngestReport, Progress
from pipeline.io.idx_files import IMAGES, LABELS, TRAINING, LabelledImages, find_idx, read_pair
from pipeline.store.store import Store

SOURCE = "idx"
WHITE = 255.0


def store_idx(folder: Path, store: Store, progress: Progress) -> IngestReport:
    """Store the images in `folder` with their labels, ten sheets a side, in random order.

    Values are grey levels 0 to 255 in place of HU, a pixel is 1 mm. progress: called with (step,
    done, total). Raises NothingUsableError for files that are not as they should be
    (pipeline.io.idx_files), and ConfigError for a store that has other sheets of IDX files.
    """
    sides = {
        side: read_pair(files[IMAGES], files[LABELS]) for side, files in find_idx(folder).items()
    }
    report = IngestReport(folder)
    sheets = [
        (side, number, chosen)
        for side, read in sides.items()
        for number, chosen in enumerate(_parts(len(read.images)))
    ]
    keys = [_key(side, number) for side, number, _ in sheets]
    _require_no_others(store, keys)
    for done, (side, number, chosen) in enumerate(sheets, start=1):
        patient = _key(side, number) if side == TRAINING else f"{SOURCE}-test"
        sheet = _sheet(sides[side], chosen)
        store_sheet(sheet, store, report, source=SOURCE, key=_key(side, number), patient=patient)
        progress("storing pictures", done, len(sheets))
    return report


def _key(side: str, number: int) -> str:
    return f"{SOURCE}-{'train' if side == TRAINING else 'test'}-{number}"


def _parts(count: int) -> list[np.ndarray]:
    """The images of each sheet: files may be in the order of their labels."""
    order = np.random.default_rng(0).permutation(count)
    return [np.sort(part) for part in np.array_split(order, min(SHEETS, count))]


def _sheet(read: LabelledImages, chosen: np.ndarray) -> Pictures:
    return Pictures(
        list(read.images[chosen].astype(np.float32)),
        read.labels[chosen].astype(np.int64),
        tuple(map(str, chosen.tolist())),
        WHITE,
    )


def _require_no_others(store: Store, keys: list[str]) -> None:
    others = [key for key in store.records() if key.startswith(f"{SOURCE}-") and key not in keys]
    if others:
        raise ConfigError(
            f"{store.path} has {min(others)} of other IDX files: use another --out for these"
        )
