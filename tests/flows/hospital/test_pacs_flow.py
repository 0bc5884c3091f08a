"""`ldct pacs`, `status`, `retry` on a real Orthanc, as a hospital meets them; a router's module."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pydicom
import pytest
import yaml
from helpers.flows import identity_config, register
from helpers.pacs import PASSWORD, USER, Orthanc, write_ct

from flows.hospital import work
from pipeline.pacs.work.ledger import Ledger

pytestmark = pytest.mark.usefixtures("own_registry")


def hospital(folder: Path, orthanc: Orthanc, **more) -> Path:
    """A YAML as its owner writes it, the secret in a file of its own."""
    login = folder / "login.yaml"
    login.write_text(yaml.safe_dump({"user": USER, "password": PASSWORD}))
    login.chmod(0o600)
    service = {"url": orthanc.url, "login": {"file": str(login)}}
    described = {
        "model": "identity",
        "work": str(folder / "work"),
        "source": service,
        "rules": [{"name": "chest", "body_part": ["CHEST"], "description": "chest"}],
        "send": {"dicomweb": service},
        "settle_s": 0,
        **more,
    }
    path = folder / "hospital.yaml"
    path.write_text(yaml.safe_dump(described))
    return path


def test_a_series_from_the_pacs_and_back_by_the_commands(ldct, orthanc, tmp_path):
    register(identity_config())
    paths = write_ct(tmp_path / "in", 1, count=4)
    orthanc.fill(paths)
    described = hospital(tmp_path, orthanc)
    dry = ldct("pacs", "pull", described, "--dry-run", "--json")
    assert dry.code == 0, dry.err
    assert (dry.json["matched"], dry.json["new"]) == (1, 0)
    assert "description like chest: Chest 1" in dry.json["series"][0]["rules"]["chest"]
    assert not (tmp_path / "work").exists()

    assert ldct("pacs", "pull", described, "--json").json["new"] == 1
    worked = ldct("pacs", "work", described, "--json")
    assert worked.code == 0, worked.err
    assert worked.json["counts"]["sent"] == 1
    assert worked.json["open"] == []
    derived = "AI DENOISED identity v1 | Chest 1"
    assert orthanc.series() == {"Chest 1": 4, derived: 4}
    assert "sent: 1" in ldct("status", described).out

    register(identity_config())  # a later version is no champion: the work stays done
    assert ldct("pacs", "pull", described, "--json").json["new"] == 0
    shown = worked.out + worked.err + ldct("status", described, "--json").out
    for secret in (PASSWORD, "SECRET-4711", "Geheim", "826.0.1.3680043"):
        assert secret not in shown


def test_a_structured_report_goes_with_the_series_where_it_is_asked_for(ldct, orthanc, tmp_path):
    register(identity_config())
    orthanc.fill(write_ct(tmp_path / "in", 1, count=4))
    described = hospital(tmp_path, orthanc, structured_report=True)
    assert ldct("pacs", "pull", described, "--json").json["new"] == 1
    worked = ldct("pacs", "work", described, "--json")
    assert worked.json["counts"]["sent"] == 1, worked.err
    derived = "AI DENOISED identity v1 | Chest 1"
    report = "AI REPORT identity v1 | Chest 1"
    assert orthanc.series() == {"Chest 1": 4, derived: 4, report: 1}
    (found,) = [row for row in map(tags_of(orthanc), orthanc.call("GET", "/instances"))
                if row["SOPClassUID"] == "1.2.840.10008.5.1.4.1.1.88.34"]  # fmt: skip
    assert found["SeriesDescription"] == report


def tags_of(orthanc: Orthanc):
    return lambda name: orthanc.call("GET", f"/instances/{name}/simplified-tags")


def test_what_may_still_grow_is_waited_for_within_the_same_command(
    ldct, orthanc, tmp_path, monkeypatch
):
    """As a first day in docs/pacs.md: `pull`, then `work` at once."""
    register(identity_config())
    orthanc.fill(write_ct(tmp_path / "in", 1))
    described = hospital(tmp_path, orthanc, settle_s=3600)
    ldct("pacs", "pull", described)
    passed = sleep_by_the_ledgers_clock(monkeypatch)
    worked = ldct("pacs", "work", described, "--json")
    assert worked.json["counts"]["sent"] == 1
    assert "the next step is due in" in worked.err
    assert 0 < sum(passed) <= 3600


def sleep_by_the_ledgers_clock(monkeypatch) -> list[float]:
    """A worker's pauses pass at once, for the ledger too; the list of them, in seconds. A real
    wait of seconds is over before the worker looks where a machine is slow enough."""
    passed: list[float] = []
    later = partial(Ledger, now=lambda: time.time() + sum(passed))
    monkeypatch.setattr(work, "Ledger", later)
    monkeypatch.setattr(work, "time", SimpleNamespace(time=time.time, sleep=passed.append))
    return passed


def test_a_folder_of_studies_without_a_pacs_by_the_commands(ldct, tmp_path):
    register(identity_config())
    write_ct(tmp_path / "studies" / "in", 1, count=4)
    (tmp_path / "studies" / "cut.dcm").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "results").mkdir()
    described = {
        "model": "identity",
        "work": str(tmp_path / "work"),
        "source": {"folder": str(tmp_path / "studies")},
        "rules": [{"name": "chest", "body_part": ["CHEST"]}],
        "send": {"folder": str(tmp_path / "results")},
        "settle_s": 1,
    }
    path = tmp_path / "hospital.yaml"
    path.write_text(yaml.safe_dump(described))
    dry = ldct("pacs", "pull", path, "--dry-run")
    assert dry.code == 0, dry.err
    assert "1 series found, 1 match, nothing noted" in dry.out
    assert "1 files or folders of the source cannot be read" in dry.out
    assert not (tmp_path / "work").exists()
    assert ldct("pacs", "pull", path, "--json").json["new"] == 1
    worked = ldct("pacs", "work", path, "--json")
    assert worked.json["counts"]["sent"] == 1
    images = [pydicom.dcmread(found) for found in (tmp_path / "results").rglob("*.dcm")]
    assert {image.SeriesDescription for image in images} == {"AI DENOISED identity v1 | Chest 1"}
    assert len(images) == 4
    assert ldct("pacs", "pull", path, "--json").json["new"] == 0


def test_failures_are_reported_and_retried(ldct, orthanc, tmp_path):
    register(identity_config())
    orthanc.fill(write_ct(tmp_path / "in", 1))
    dead_end = {"dimse": {"host": "127.0.0.1", "port": orthanc.port, "called": "X"}}
    described = hospital(tmp_path, orthanc, send=dead_end, retry={"attempts": 1})
    ldct("pacs", "pull", described)
    worked = ldct("pacs", "work", described)
    assert worked.code == 4
    assert "1 failed for good" in worked.err
    (row,) = ldct("status", described, "--json").json["open"]
    assert row["state"] == "dead"
    assert row["note"].startswith("no association with X at 127.0.0.1")
    assert (tmp_path / "work" / "dead" / row["id"] / "why.json").exists()
    described = hospital(tmp_path, orthanc)  # its owner mends the address
    assert "1 due again" in ldct("retry", described, row["id"]).out
    assert ldct("pacs", "work", described, "--json").json["counts"]["sent"] == 1
    assert ldct("retry", described, "w-of-nobody").code == 2


def test_errors_in_the_yaml_are_reported_without_the_secret(ldct, orthanc, tmp_path):
    described = hospital(tmp_path, orthanc, send={"dicomweb": {"url": "http://u:hush@h/x"}})
    ended = ldct("pacs", "pull", described)
    assert ended.code == 2
    assert "send.dicomweb.url" in ended.err
    assert "hush" not in ended.err


def task_folder(folder: Path, process: object) -> Path:
    """A task as mercure hands it to a module."""
    for path in write_ct(folder, 1):
        header = pydicom.dcmread(path)
        path.rename(folder / f"{header.SeriesInstanceUID}#{header.SOPInstanceUID}.dcm")
    task = {"id": "1", "info": {"action": "both", "uid": "1.2", "uid_type": "series"}}
    (folder / "task.json").write_text(json.dumps({**task, "process": process}))
    return folder


@pytest.mark.parametrize("several", [False, True])
def test_a_routers_task_is_done_by_its_contract(ldct, tmp_path, monkeypatch, several):
    register(identity_config())
    step = {"module_name": "ldct", "settings": {"model": "identity"}, "retain_input_images": False}
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setenv(
        "MERCURE_IN_DIR", str(task_folder(tmp_path / "in", [step] if several else step))
    )
    monkeypatch.setenv("MERCURE_OUT_DIR", str(out))
    ended = ldct("pacs", "module")
    assert ended.code == 0, ended.err
    result = json.loads((out / "result.json").read_text())
    assert result == ended.json
    assert result["model"] == "models:/identity/1"
    assert [row["instances"] for row in result["series"]] == [3]
    images = {path.name: pydicom.dcmread(path) for path in out.glob("*.dcm")}
    assert sorted(path.suffix for path in out.iterdir()) == [".dcm", ".dcm", ".dcm", ".json"]
    for name, image in images.items():
        assert name == f"{image.SeriesInstanceUID}#{image.SOPInstanceUID}.dcm"
        assert image.SeriesDescription.startswith("AI DENOISED identity")


def test_a_routers_task_that_fails_says_why_and_leaves_no_image(ldct, tmp_path):
    (tmp_path / "out").mkdir()
    folder = task_folder(tmp_path / "in", {"settings": {"model": "identity", "dose": 1}})
    ended = ldct("pacs", "module", "--in", folder, "--out", tmp_path / "out")
    assert ended.code == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["result.json"]
    answer = json.loads((tmp_path / "out" / "result.json").read_text())
    assert "process.settings.dose" in answer["error"]


def test_a_module_without_folders_is_wrong_usage(ldct, monkeypatch):
    monkeypatch.delenv("MERCURE_IN_DIR", raising=False)
    assert ldct("pacs", "module").code == 2
