"""`ldct fetch`: what is chosen from an index, what is asked, what reaches the folder; offline."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from helpers.dicom import KEY
from helpers.pairs import write_dose
from pyarrow import parquet

from flows.cli import app as cli
from pipeline.config.sections import Pairs
from pipeline.core.errors import ConfigError, LdctError, NothingUsableError
from pipeline.ingest import idc_index, idc_transfer
from pipeline.ingest.idc_index import RemoteSeries, Wanted, is_cc_by, select_series
from pipeline.ingest.idc_transfer import fetch_series, require_network
from pipeline.ingest.ingest import ingest
from pipeline.store.store import Store

MAYO = "ldct_and_projection_data"
CT = "1.2.840.10008.5.1.4.1.1.2"
PLACES = [0.0, 5.0, 10.0]


def row(uid: str, **changes: Any) -> dict[str, Any]:
    """As the index of idc-index 0.13 (data v25) has one."""
    return {
        "collection_id": MAYO,
        "PatientID": "C002",
        "SeriesInstanceUID": uid,
        "SeriesDescription": "Full Dose Images",
        "Manufacturer": "Siemens Healthcare",
        "BodyPartExamined": "CHEST",
        "SOPClassUID": CT,
        "instanceCount": len(PLACES),
        "series_size_MB": 180.5,
        "license_short_name": "CC BY 4.0",
        "source_DOI": "10.7937/9npb-2637",
    } | changes


ROWS = [
    row("1.1"),
    row("1.2", SeriesDescription="Low Dose Images"),
    row("1.3", SeriesDescription="Full dose projections"),
    row("1.4", SeriesDescription=None, SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4"),
    row("2.1", PatientID="L010", Manufacturer="GE MEDICAL SYSTEMS", BodyPartExamined="ABDOMEN"),
    row("3.1", collection_id="other", license_short_name="CC BY-NC 3.0", PatientID="X"),
    row("3.2", collection_id="other", license_short_name="CC BY 3.0", PatientID="X"),
    row("3.3", collection_id="other", BodyPartExamined=None, SeriesDescription=None, PatientID="Y"),
]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "idc_index.parquet")
    return tmp_path / "idc_index.parquet"


def uids(index: Path, **wanted: Any) -> list[str]:
    return [one.uid for one in select_series(Wanted(**wanted), index).series]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"collections": ("LDCT-and-Projection-data",)}, ["1.1", "1.2", "2.1"]),
        ({"collections": (MAYO,), "vendors": ("siemens",)}, ["1.1", "1.2"]),
        ({"body_parts": ("abdomen",)}, ["2.1"]),
        ({"words": ("LOW", "images")}, ["1.2"]),
        ({"collections": ("other",)}, ["3.2", "3.3"]),
        ({"collections": ("other",), "any_licence": True}, ["3.1", "3.2", "3.3"]),
    ],
)
def test_series_are_chosen_by_what_their_headers_say(
    index: Path, wanted: dict[str, Any], found: list[str]
) -> None:
    assert uids(index, **wanted) == found


def test_what_the_licence_leaves_out_is_told(index: Path) -> None:
    chosen = select_series(Wanted(collections=("other",)), index)
    assert chosen.other_licences == {"CC BY-NC 3.0": 1}
    assert chosen.licences == {"CC BY 3.0": 1, "CC BY 4.0": 1}
    assert chosen.megabytes == 361.0
    with pytest.raises(NothingUsableError, match=r"fits$"):
        uids(index, collections=("none",))
    assert not any(map(is_cc_by, ("CC BY-NC 4.0", "CC BY-SA 4.0", "CC0", "Terms and Conditions")))


def test_kernels_are_known_only_from_the_index_of_ct_attributes(
    index: Path, tmp_path: Path
) -> None:
    wanted, kernels = Wanted(kernels=("b30F",)), tmp_path / "ct_index.parquet"
    with pytest.raises(ConfigError, match="has no kernels"):
        select_series(wanted, index, kernels)
    rows = [
        {"SeriesInstanceUID": "1.2", "ConvolutionKernel": "B30f"},
        {"SeriesInstanceUID": "1.1", "ConvolutionKernel": "B70f"},
    ]
    parquet.write_table(pa.Table.from_pylist(rows), kernels)
    assert [one.uid for one in select_series(wanted, index, kernels).series] == ["1.2"]


def test_everything_is_never_asked_for() -> None:
    with pytest.raises(ConfigError, match="--collection"):
        Wanted()


class Remote:
    """A copy of the remote's files: every file of a series, or fewer while `broken`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.broken, self.asked = folder, False, []
        for uid, description in (("1.1", "Full Dose Images"), ("1.2", "Low Dose Images")):
            write_dose(folder / uid, description, PLACES, patient="C002")

    def __call__(self, series: RemoteSeries, folder: Path) -> None:
        self.asked.append(series.uid)
        files = sorted((self.folder / series.uid).iterdir())
        for path in files[:1] if self.broken else files:
            if not (folder / path.name).exists():
                shutil.copy(path, folder)


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote(tmp_path / "remote")


def chosen(index: Path) -> list[RemoteSeries]:
    return select_series(Wanted(collections=(MAYO,), vendors=("siemens",)), index).series


def test_what_was_cut_off_goes_on_and_what_is_there_stays(
    index: Path, tmp_path: Path, remote: Remote
) -> None:
    out, series = tmp_path / "out", chosen(index)
    remote.broken = True
    first = fetch_series(series, out, remote)
    assert (first.new, len(first.failed)) == ([], 2)
    assert "holds 1 of 3 files" in first.failed[0][1]
    assert not list(out.rglob("1.1"))
    remote.broken = False
    second = fetch_series(series, out, remote)
    assert [one.uid for one in second.new] == ["1.1", "1.2"]
    assert second.failed == []
    place = out / MAYO / "C002" / "1.1"
    assert sorted(path.name for path in place.iterdir()) == [f"1-{n:02d}.dcm" for n in (1, 2, 3)]
    assert not list(out.rglob("*.partial"))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.dcm")}
    asked = len(remote.asked)
    third = fetch_series(series, out, remote)
    assert len(third.already_there) == 2
    assert len(remote.asked) == asked, "nothing is transferred again"
    (place / "1-03.dcm").unlink()
    fourth = fetch_series(series, out, remote)
    assert "holds 2 of 3 files; nothing there is changed" in fourth.failed[0][1]
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.dcm")}.items() <= before.items()
    record = json.loads((out / "fetched.json").read_text())
    assert record["cite"] == ["https://doi.org/10.7937/9npb-2637"]
    assert {one["licence"] for one in record["series"]} == {"CC BY 4.0"}


def test_what_was_fetched_is_pairs(index: Path, tmp_path: Path, remote: Remote) -> None:
    fetch_series(chosen(index), tmp_path / "out", remote)
    report = ingest(tmp_path / "out", Store(tmp_path / "store"), key=KEY, pairs=Pairs())
    assert [one.slices for one in report.series] == [3]
    assert report.series[0].pair is not None


def unreachable(*args: object, **kwargs: object) -> None:
    raise OSError("Name or service not known")


def test_without_a_network_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", unreachable)
    with pytest.raises(LdctError, match="cannot be reached from here") as failure:
        require_network()
    assert "nothing was fetched" in str(failure.value)


@pytest.fixture
def fetch(
    index: Path,
    monkeypatch: pytest.MonkeyPatch,
    remote: Remote,
    capsys: pytest.CaptureFixture[str],
) -> Any:
    monkeypatch.setattr(idc_index, "index_file", lambda: index)
    monkeypatch.setattr(idc_transfer, "idc_transfer", lambda: remote)
    monkeypatch.setattr(idc_transfer, "require_network", lambda: None)

    def run(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["ldct", "fetch", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr().out

    return run


def test_the_command_shows_before_it_fetches(fetch: Any, tmp_path: Path, remote: Remote) -> None:
    out = tmp_path / "out"
    words = ["--collection", MAYO, "--vendor", "Siemens", "--word", "dose images", "--json"]
    code, printed = fetch(*words, "--dry-run")
    report = json.loads(printed)
    assert code == 0
    assert (report["count"], report["megabytes"]) == (2, 361.0)
    assert report["licences"] == {"CC BY 4.0": 2}
    assert remote.asked == []
    assert fetch(*words, "--out", out)[0] == 2, "--json cannot ask"
    assert fetch(*words[:-1])[0] == 2, "where to?"
    assert remote.asked == []
    code, printed = fetch(*words, "--out", out, "--yes")
    assert code == 0
    assert [one["uid"] for one in json.loads(printed)["new"]] == ["1.1", "1.2"]
    remote.broken = True
    shutil.rmtree(out)
    code, printed = fetch(*words, "--out", out, "--yes")
    assert code == 4
    assert len(json.loads(printed)["failed"]) == 2
    code, printed = fetch(*words[:-1], "--dry-run")
    assert "2 series, 0.4 GB" in printed
    assert "CC BY 4.0" in printed
