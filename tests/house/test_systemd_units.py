"""deploy/systemd: units that systemd takes, one for each part, closed and watched."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.app import app

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").iterdir())
SERVICES = [path for path in UNITS if path.suffix == ".service"]
COMMAND = "/opt/ldct/bin/ldct"


def read(path: Path) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(path)
    return parser["Service"]


def test_there_is_one_for_each_part() -> None:
    names = {path.name for path in UNITS}
    parts = {f"ldct-{part}.service" for part in ("receive", "work", "schedule", "review")}
    assert names == {"ldct.target", *parts}


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.stem)
def test_a_service_is_watched_closed_and_starts_again(path: Path) -> None:
    service = read(path)
    assert service["Type"] == "notify"
    assert service["NotifyAccess"] == "main"  # not the jobs that it starts
    assert service["WatchdogSec"] == "5min"
    assert service["Restart"] == "always"
    assert service["User"] == "ldct"
    assert service["StateDirectoryMode"] == "0700"
    assert service["UMask"] == "0077"
    assert service["LimitCORE"] == "0"  # a dump holds patients' images
    assert service["ProtectSystem"] == "strict"
    assert service["NoNewPrivileges"] == "yes"
    assert "LDCT_LOG=json" in service["Environment"]


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.stem)
def test_a_service_starts_a_command_that_there_is(path: Path) -> None:
    program, *words = read(path)["ExecStart"].split()
    assert program == COMMAND
    assert words[-2] == "--metrics"
    name = words[: next(n for n, word in enumerate(words) if word.startswith("/"))]
    shown = CliRunner().invoke(app, [*name, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    for option in (word for word in words if word.startswith("--")):
        assert option.replace("--no-", "--") in shown.output


def test_the_review_link_is_not_in_the_journal() -> None:
    (review,) = (read(path) for path in SERVICES if path.stem == "ldct-review")
    assert review["StandardOutput"].startswith("truncate:/run/ldct-review/")
    assert review["RuntimeDirectoryMode"] == "0700"


def test_systemd_takes_them(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    for path in UNITS:
        text = path.read_text(encoding="utf-8").replace(COMMAND, "/bin/true")
        (tmp_path / path.name).write_text(text)
    command = ["systemd-analyze", "verify", *(p.name for p in UNITS)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
