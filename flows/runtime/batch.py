"""Work on every series, or picture, of a source: what fails stays with what it failed on.

report.json says after each one what was done, so that a run that is killed loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flows.runtime.private_errors import original_of
from flows.runtime.progress import log
from pipeline.core.crash_file import crash_file
from pipeline.core.errors import LdctError, attach_report, is_disk_full
from pipeline.core.pseudonyms import installation_key
from pipeline.core.refusals import (
    Disposition,
    Refusal,
    Unreadable,
    by_disposition,
    name_below,
    nothing_usable,
    reason_of,
    shown_name,
)
from pipeline.core.types import Json
from pipeline.dicom.derived.batch_uids import BatchUids
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.series import Series
from pipeline.export.output_record import OutputRecord
from pipeline.export.series import Exported
from pipeline.io.discover import Source, discover, files_of, source_key


@dataclass
class Batch:
    """What became of each item of a source; added to `record`, where it has one, as it goes.

    root: which refused files are named relative to. items: rows that name each item, by "series"
    and "folder", or by "file"; those that are left are reported as "not_done".
    """

    record: OutputRecord | None
    root: Path
    items: list[Json]
    refusals: list[Refusal] = field(default_factory=list)
    exported: list[Json] = field(default_factory=list)
    skipped: list[Json] = field(default_factory=list)
    failed: list[Json] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    uids: BatchUids = field(default_factory=BatchUids)

    def to_dict(self) -> Json:
        """What `--json` prints, and report.json gets."""
        report: Json = {"exported": self.exported, "failed": self.failed}
        if self.skipped:
            report["skipped"] = self.skipped
        if self.items:
            report["not_done"] = self.items
        return report | by_disposition(self.refusals, self.root)

    def tell(self, **facts: object) -> Json:
        """What is known by now, with more facts about all of it, which goes into the record."""
        report = {**facts, **self.to_dict()}
        if self.record is not None:
            self.record.add(report)
        return report

    @contextmanager
    def together(self, items: list[Json], files: list[Path]) -> Iterator[None]:
        """Work on items that one failure stops, made of `files`, which it then quarantines.

        What is not their fault ends the batch: a full disk, and Ctrl+C.
        """
        try:
            yield
        except Unreadable as fault:
            self.refusals += [fault.refusal(path) for path in files]
        except Exception as error:
            original = original_of(error)
            if is_disk_full(original):
                attach_report(original, self.to_dict())
                raise
            self._fail(items, files, original)
        except BaseException as error:
            attach_report(error, self.to_dict())
            raise
        self.items = [item for item in self.items if item not in items]
        self.tell()

    def _fail(self, items: list[Json], files: list[Path], error: Exception) -> None:
        reason, more = reason_of(error), {}
        if not isinstance(error, LdctError):
            more = {"details": str(crash_file(error))}
            line = f"ldct: {shown_name(items[0])}: {reason} (details: {more['details']})"
            log("contained", line, {"error": type(error).__name__, **more})
        self.failed += [{**item, "reason": reason, **more} for item in items]
        self.errors.append(error)
        self.refusals += [Refusal(path, Disposition.QUARANTINED, reason) for path in files]

    def require_exported(self, what: str, *, all_or_nothing: bool = False) -> None:
        """Raises where nothing was exported, or, with all_or_nothing, not all: LdctError with the
        first reason, or an unforeseen error. what: the items' name."""
        if not self.errors or (self.exported and not all_or_nothing):
            return
        report = self.to_dict()
        unforeseen = [error for error in self.errors if not isinstance(error, LdctError)]
        if unforeseen:
            attach_report(unforeseen[0], report)
            raise unforeseen[0]
        others = f"; {len(self.exported)} others were" if self.exported else ""
        line = f"{len(self.failed)} {what} not exported: {self.failed[0]['reason']}{others}"
        raise LdctError(line, report)


#: Begins with a volume, known by its key, to be written to a folder; what it returns waits for
#: the end.
Start = Callable[[Source, str, Path], Callable[[], Exported]]


def each_volume(
    source: Path,
    out: Path,
    intake: IngestOptions,
    start: Start,
    *,
    suffix: str,
    all_or_nothing: bool = False,
) -> Json:
    """Start on each volume of a source, report what went where, and go on past bad ones.

    Each goes to `out`/KEY-`suffix`. all_or_nothing: raise where one of several fails, too.
    """
    record, found = OutputRecord(out, source), discover(source, intake=intake)
    batch = Batch(record, found.root, [], list(found.refusals))
    started: list[tuple[Source, Json, Callable[[], Exported]]] = []
    for volume, item in _items(found.sources, suffix, batch):
        batch.items.append(item)
        started.append((volume, item, _start(start, volume, item, out)))
    batch.tell()
    for volume, item, finish in started:
        with batch.together([item], files_of(volume)):
            done, refused, skipped = finish()
            batch.refusals.extend(refused)
            if skipped:
                batch.skipped.append({**item, "reason": skipped})
            if done:
                batch.uids.add(out / item["folder"])
                warnings = list(volume.warnings) if isinstance(volume, Series) else []
                row = {"series": item["series"], "warnings": warnings, **done.to_dict()}
                if isinstance(volume, Path):
                    row["source_file"] = name_below(volume, found.root)
                batch.exported.append(row)
    batch.require_exported("series", all_or_nothing=all_or_nothing)
    if not batch.exported and not batch.skipped:
        raise nothing_usable(found.root, batch.refusals, batch.to_dict())
    return batch.to_dict()


def _items(sources: list[Source], suffix: str, batch: Batch) -> Iterator[tuple[Source, Json]]:
    """Each volume with its key and its folder's name; a file that cannot be read is refused."""
    key = installation_key()
    for volume in sources:
        try:
            name = source_key(volume, key)
        except OSError as error:
            fault = Unreadable(f"cannot be read: {error.strerror}")
            batch.refusals += [fault.refusal(path) for path in files_of(volume)]
            continue
        yield volume, {"series": name, "folder": f"{name}-{suffix}"}


def _start(start: Start, volume: Source, item: Json, out: Path) -> Callable[[], Exported]:
    """What waits for the end of a volume; where it cannot even begin, what raises the reason."""
    try:
        return start(volume, item["series"], out / item["folder"])
    except Exception as error:
        failure = error

        def fail() -> Exported:
            raise failure

        return fail
