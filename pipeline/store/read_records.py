"""Records that this process has read, so that a run of many series reads each file once.

A run asks for all records of its store some fifteen times: for the split, for each stage's series,
for digests, for its report. What another process writes meanwhile is seen: a record is written
whole into a new file, which has another stamp.
"""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.store.damage import INGEST_AGAIN, read_json
from pipeline.store.series_record import SeriesRecord

#: Records that are kept at most: 3 kB each, and 24 bytes a slice.
MOST = 50_000

_Stamp = tuple[int, int, int]
_read: dict[str, tuple[_Stamp, SeriesRecord]] = {}


def read_record(name: str) -> SeriesRecord:
    """The record in the file of that path, which no caller may change.

    Raises FileNotFoundError where there is none, ConfigError where the file is no JSON object, and
    TypeError where a field is missing.
    """
    status = os.stat(name)
    stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
    if (known := _read.get(name)) is not None and known[0] == stamp:
        return known[1]
    record = SeriesRecord.from_dict(read_json(Path(name), INGEST_AGAIN))
    if len(_read) >= MOST:
        _read.clear()
    _read[name] = stamp, record
    return record
