"""docs/pacs.md: the commands of "A first day", as they stand there, at a real Orthanc."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers.pacs import PASSWORD, USER, Orthanc, write_ct

PAGE = Path(__file__).parents[2] / "docs" / "pacs.md"


def commands() -> str:
    block = re.search(r"^## A first day\n\n```\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    assert block is not None
    login, rest = block[1].split("\n", 1)
    assert login.startswith("export LDCT_PACS_USER=... LDCT_PACS_PASSWORD=...")
    return f"export LDCT_PACS_USER={USER} LDCT_PACS_PASSWORD={PASSWORD}\n{rest}"


@pytest.mark.slow
def test_a_first_day_as_printed(orthanc: Orthanc, tmp_path: Path) -> None:
    orthanc.fill(write_ct(tmp_path / "in", 1, count=3))
    hospital = {
        "model": "swift@pretrained",
        "work": "work",
        "source": {"url": orthanc.url, "login": {"env": "PACS"}},
        "rules": [{"name": "chest", "body_part": ["CHEST"]}],
        "send": {"dicomweb": {"url": orthanc.url, "login": {"env": "PACS"}}},
        "settle_s": 1,
    }
    (tmp_path / "hospital.yaml").write_text(yaml.safe_dump(hospital), encoding="utf-8")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "LDCT_KEY_FILE": str(tmp_path / "patient.key"),
        "PREFECT_HOME": str(tmp_path / "prefect"),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands()],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 match" in done.stdout
    assert re.search(r"sent\W+1\b", done.stdout), done.stdout
    described = orthanc.series()
    assert sorted(described.values()) == [3, 3]
    assert any(name.startswith("AI DENOISED swift") for name in described)
