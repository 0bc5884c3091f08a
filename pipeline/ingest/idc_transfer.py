"""Series of the Imaging Data Commons into a folder: resumable, and nothing there is overwritten."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core.atomic_files import write_json
from pipeline.core.errors import LdctError, is_disk_full
from pipeline.core.types import Json
from pipeline.ingest.idc_index import RemoteSeries, ct_index_file

#: Where the Imaging Data Commons keeps its files: public, no account.
HOST = "idc-open-data.s3.amazonaws.com"
#: In the folder of all: what was fetched, under which licence, and what to cite.
RECORD = "fetched.json"
_TIMEOUT_S = 10.0

#: Copies the files of a series into a folder that exists; what is there already is kept.
Transfer = Callable[[RemoteSeries, Path], None]


@dataclass
class Fetched:
    """Series by what became of them; failed: with the reason."""

    new: list[RemoteSeries] = field(default_factory=list)
    already_there: list[RemoteSeries] = field(default_factory=list)
    failed: list[tuple[RemoteSeries, str]] = field(default_factory=list)

    def to_dict(self) -> Json:
        """As a report has it."""
        return {
            "new": [series.to_dict() for series in self.new],
            "already_there": [series.to_dict() for series in self.already_there],
            "failed": [{**series.to_dict(), "reason": why} for series, why in self.failed],
        }


def fetch_series(
    series: list[RemoteSeries],
    out: Path,
    transfer: Transfer,
    progress: Callable[[int], None] = lambda done: None,
) -> Fetched:
    """Each series into OUT/collection/patient/SeriesInstanceUID, and RECORD beside them.

    A series arrives beside its place, in a folder that ends in `.partial`, and moves there once
    all its files came; a later call goes on with what is there. A folder with another number of
    files is left as it is, and reported as failed. A full disk is raised.
    """
    found = Fetched()
    for one in series:
        place = out / one.folder
        try:
            if place.exists():
                _require_whole(one, place)
                found.already_there.append(one)
            else:
                _fetch(one, place, transfer)
                found.new.append(one)
        except Exception as failure:
            if is_disk_full(failure):
                raise
            found.failed.append((one, str(failure) or type(failure).__name__))
        progress(1)
    write_json(out / RECORD, _record(out, found))
    return found


def _fetch(one: RemoteSeries, place: Path, transfer: Transfer) -> None:
    partial = place.with_name(f"{place.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    transfer(one, partial)
    _require_whole(one, partial)
    partial.rename(place)


def _require_whole(one: RemoteSeries, folder: Path) -> None:
    count = sum(path.is_file() for path in folder.rglob("*.dcm"))
    if count != one.files:
        raise LdctError(f"{folder} holds {count} of {one.files} files; nothing there is changed")


def _record(out: Path, found: Fetched) -> Json:
    """Everything fetched into OUT so far: each series' licence and the DOI to cite."""
    path = out / RECORD
    before = json.loads(path.read_text())["series"] if path.exists() else []
    rows = {row["uid"]: row for row in before}
    rows |= {one.uid: one.to_dict() for one in (*found.already_there, *found.new)}
    dois = sorted({row["doi"] for row in rows.values() if row["doi"]})
    return {"cite": [f"https://doi.org/{doi}" for doi in dois], "series": [*rows.values()]}


def require_network(host: str = HOST) -> None:
    """Raises LdctError, in one sentence, where the Imaging Data Commons cannot be reached."""
    try:
        socket.create_connection((host, 443), timeout=_TIMEOUT_S).close()
    except OSError as failure:
        raise LdctError(
            f"the Imaging Data Commons ({host}) cannot be reached from here ({failure}), so "
            "nothing was fetched: run the same command where the network is open"
        ) from failure


def idc_transfer() -> Transfer:
    """By idc-index's own client, which goes on with what is partly there (s5cmd sync)."""
    from idc_index import IDCClient

    client = IDCClient()

    def transfer(series: RemoteSeries, folder: Path) -> None:
        client.download_from_selection(
            str(folder),
            seriesInstanceUID=[series.uid],
            dirTemplate=None,
            use_s5cmd_sync=any(folder.iterdir()),
            show_progress_bar=False,
        )

    return transfer


def fetch_ct_index() -> Path:
    """Download the index of CT attributes, kernels among them; where idc-index keeps it."""
    require_network("github.com")
    from idc_index import IDCClient

    IDCClient().fetch_index("ct_index")
    if not ct_index_file().exists():
        raise LdctError("idc-index could not download ct_index: try again later")
    return ct_index_file()
