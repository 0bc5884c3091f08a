"""Nothing of a patient in the store, the logs, Prefect, MLflow or any file's name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.dicom import identifying, in_order

#: Study identifiers of one or two digits, and words that stand for "taken away", are in
#: every text.
SHORTEST = 6
SAID_BY_ANYBODY = {"REMOVED"}


@pytest.fixture(scope="module")
def ran(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The main job as its user runs it, on slices of real series, all its state in one folder."""
    root = tmp_path_factory.mktemp("run")
    for name in ("chest-ge-lidc0001", "abdomen-ge-crlm1004", "head-ge-tilted"):
        folder = root / "source" / name
        folder.mkdir(parents=True)
        for path in in_order(test_data / "ct" / name)[10:13]:
            shutil.copy(path, folder)
    (root / "source" / "broken.dcm").write_bytes(path.read_bytes()[:700])
    config = Path(__file__).parents[2] / "configs" / "denoise_redcnn.yaml"
    settings = ("train.iterations=2", "data.realisations=1", "model.args.channels=4")
    chosen = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "flows.cli.app", "run", str(config)]
    command += ["--data", str(root / "source"), "--out", str(root / "out"), *chosen]
    environment = {
        **os.environ,
        "PREFECT_HOME": str(root / "prefect"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}",
        "LDCT_KEY_FILE": str(root / "key"),
        "TMPDIR": str(root / "tmp"),
    }
    (root / "tmp").mkdir()
    # A key that does not change, since it decides who is held back.
    (root / "key").write_bytes(b"a key for tests, of 32 bytes and more")
    ended = subprocess.run(command, cwd=root, env=environment, capture_output=True, check=False)
    (root / "logs.txt").write_bytes(ended.stdout + ended.stderr)
    # 5, a failed gate, goes before 4, the broken file in quarantine.
    assert ended.returncode == 5, ended.stderr.decode()[-2000:]
    return root


def secrets_of(source: Path) -> set[str]:
    found = set()
    for path in source.rglob("*.dcm"):
        if path.name != "broken.dcm":
            found |= identifying(path)
    return {text for text in found if len(text) >= SHORTEST} - SAID_BY_ANYBODY


def test_no_name_id_date_or_uid_is_kept_outside_the_derived_series(ran):
    secrets = secrets_of(ran / "source")
    assert len(secrets) > 20
    looked_at = set()
    for path in ran.rglob("*"):
        kept_by_us = path.relative_to(ran).parts
        if {"source", "derived", "low-dose"} & {*kept_by_us} or not path.is_file():
            continue
        looked_at.add(kept_by_us[0])
        content = path.read_bytes()
        told = [text for text in secrets if text.encode() in content or text in str(path)]
        assert told == [], f"{path.relative_to(ran)} tells {len(told)} of the patient's secrets"
    assert {"out", "mlflow.db", "artifacts", "prefect", "logs.txt"} <= looked_at


def test_the_report_in_mlflow_has_no_name_of_a_file_of_the_source(ran):
    (kept,) = (ran / "artifacts").rglob("report.html")
    text, own = kept.read_text(), (ran / "out" / "report.html").read_text()
    assert "broken.dcm" in own, "its user is shown which file"
    assert "broken.dcm" not in text
    assert ("ldct review ." in own, "ldct review ." in text) == (True, False)
    assert "should have been usable: 1 file<" in text
    assert text.count("data:image/png") == own.count("data:image/png") > 3
    assert (kept.parent / "overview.png").exists()


def test_the_derived_series_carry_the_patient_back(ran):
    # What was looked for is there to be found: the export keeps the original identity.
    split = json.loads((ran / "out" / "report.json").read_text())["split"]
    derived = list((ran / "out" / "derived").rglob("*.dcm"))
    assert len(derived) == 3 * list(split.values()).count("test") > 0
    content = b"".join(path.read_bytes() for path in derived)
    assert any(text.encode() in content for text in secrets_of(ran / "source"))
    names = " ".join(str(path.relative_to(ran)) for path in derived)
    assert not [text for text in secrets_of(ran / "source") if text in names]
