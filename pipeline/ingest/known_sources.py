"""Sources that a store has already, by the bytes of their files: they are not decoded again.

`ingested/NAME.json` of the store has the row that a series had in the report when it was stored.
Its name is a keyed hash of all that the row depends on: the files, how the user wants them read,
and this software's code. Whatever differs gives another name.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.config.names import digest
from pipeline.core.atomic_files import write_json
from pipeline.core.pseudonyms import pseudonym
from pipeline.core.versions import VERSION, code_digest
from pipeline.dicom.read.files import opened
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import READER_THREADS
from pipeline.ingest.report import IngestedSeries
from pipeline.io.discover import Source, source_key
from pipeline.store.damage import read_json_or_none
from pipeline.store.store import Store

FOLDER = "ingested"
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class KnownSource:
    """The row of one source, if the store has it. path: None for files that cannot be read."""

    store: Store
    path: Path | None

    def read(self) -> IngestedSeries | None:
        """The row, not `new`; None where the source was not stored, its row is damaged, or
        the store says something else of the series by now."""
        if self.path is None or not self.path.exists():
            return None
        noted = read_json_or_none(self.path) or {}
        row = noted.get("row", {})
        record = self.store.whole_record(row.get("series", ""))
        if record is None or digest(record.to_dict()) != noted["record"]:
            return None
        return IngestedSeries(**row)

    def write(self, row: IngestedSeries) -> None:
        """Note the row of a source that was just stored."""
        if self.path is None:
            return
        with suppress(OSError):  # what cannot be noted is read again
            self.path.parent.mkdir(exist_ok=True)
            record = digest(self.store.record(row.series).to_dict())
            known = replace(row, new=False)
            note = {"row": known.to_dict(), "record": record}
            write_json(self.path, note, durable=False)  # a damaged one is made again


@dataclass(frozen=True)
class KnownSources:
    """Of one ingest. key: the installation's, for hashes."""

    store: Store
    key: bytes
    intake: IngestOptions

    def of(self, source: Source, patient: str) -> KnownSource:
        """A source whose patient has this pseudonym. Reads all of its files."""
        try:
            parts = _content(source)
        except Exception:  # damaged files: reading them as images says what is wrong
            return KnownSource(self.store, None)
        facts = [patient, self.intake.model_dump_json(), VERSION, code_digest(), *parts]
        name = pseudonym(self.key, "i", source_key(source, self.key), *facts)
        return KnownSource(self.store, self.store.path / FOLDER / f"{name}.json")


def _content(source: Source) -> list[str]:
    """What a volume depends on: the bytes of each file, and which frames of it in which order; of a
    series also what its files said beside others. An image file is known by its key."""
    if not isinstance(source, Series):
        return [source.name]
    paths = list(dict.fromkeys(instance.path for instance in source.instances))
    with ThreadPoolExecutor(READER_THREADS) as pool:
        digests = dict(zip(paths, pool.map(_digest_of_file, paths), strict=True))
    slices = [f"{digests[each.path]} {each.frame}" for each in source.instances]
    return [*slices, *source.warnings, source.part, source.exact_part, str(source.evenly_spaced)]


def _digest_of_file(path: Path) -> str:
    found = hashlib.sha256()
    with opened(path) as stream:  # an archive's member too, which file_digest does not take
        while block := stream.read(BLOCK_BYTES):
            found.update(block)
    return found.hexdigest()
