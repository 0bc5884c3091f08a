"""The work folder, when somebody opened it to others."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from helpers.pacs import settings

from flows.hospital.private import keep_private
from pipeline.core.errors import ConfigError
from pipeline.pacs.work.ledger import Ledger
from pipeline.pacs.work.private import close_to_others


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("found", [0o755, 0o750, 0o777, 0o701])
def test_a_work_folder_that_is_open_is_closed_and_that_is_told(tmp_path, capsys, found):
    work = tmp_path / "work"
    Ledger(work).close()
    assert mode(work) == 0o700
    keep_private(settings(work))
    assert capsys.readouterr().err == ""
    work.chmod(found)
    keep_private(settings(work))
    assert mode(work) == 0o700
    assert f"was open to others (mode {found:o})" in capsys.readouterr().err


def test_every_use_of_the_ledger_closes_it(tmp_path):
    (tmp_path / "work").mkdir(mode=0o755)
    Ledger(tmp_path / "work").close()
    assert mode(tmp_path / "work") == 0o700


def test_one_that_cannot_be_closed_is_refused(tmp_path, monkeypatch):
    work = tmp_path / "work"
    work.mkdir(mode=0o755)
    monkeypatch.setattr(Path, "chmod", lambda *_: None)  # as on a share without permissions
    with pytest.raises(ConfigError, match=r"is open to others \(mode 755\) and cannot be closed"):
        Ledger(work)


def test_one_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ConfigError, match="is another user's"):
        close_to_others(tmp_path)
