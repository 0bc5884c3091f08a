"""What commands print with --json is what the reference says (docs/generate/reports.py)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from conftest import Ended
from generate.reports import OTHERS, report_schema
from helpers.commands import with_json
from helpers.dicom import write_series
from helpers.flows import identity_config, register
from helpers.images import tiny_store
from helpers.reports import assert_as_documented

from flows.cli import app as cli

Ldct = Callable[..., Ended]
#: They print report.json, which has a schema.
OF_THE_SCHEMA = {"run", "demo", "apply", "simulate", "latent fill"}
#: Described in the row of `latent sample`.
LIKE_SAMPLE = {
    f"latent {name}" for name in ("reconstruct", "interpolate", "traverse", "arithmetic", "plot")
}


def keys_of(command: str) -> set[str]:
    """The keys that the reference names; what is in brackets names its own."""
    return set(re.findall(r"`([a-z_]+)`", OTHERS[command]))


def test_every_command_with_json_is_in_the_reference() -> None:
    group = typer.main.get_command(cli.app)
    commands = {" ".join(path) for path, _ in with_json(group)}
    assert commands == OF_THE_SCHEMA | LIKE_SAMPLE | set(OTHERS)
    for name in LIKE_SAMPLE:
        assert name.split()[1] in OTHERS["latent sample"]


@pytest.fixture
def ran(tmp_path: Path, own_registry: None, ldct: Ldct) -> Callable[..., dict]:
    """The object that a command prints, of one derived series by a model that changes nothing."""
    write_series(tmp_path / "in", 2)
    register(identity_config())
    register(identity_config())
    (tmp_path / "key").write_bytes(bytes(range(32)))

    def run(*words: object, code: int = 0) -> dict:
        ended = ldct(*words, "--json")
        assert ended.code == code, ended.err
        return ended.json

    return run


def test_what_ingest_prints(ran: Callable[..., dict], tmp_path: Path) -> None:
    found = ran("ingest", tmp_path / "in", "--store", tmp_path / "store")
    assert found.keys() == keys_of("ingest")
    assert_as_documented(found)


def test_what_the_commands_of_series_print(ran: Callable[..., dict], tmp_path: Path) -> None:
    assert_as_documented(ran("apply", "identity/1", tmp_path / "in", "--out", tmp_path / "out"))
    checked = ran("check", tmp_path / "out")
    assert checked.keys() == {"passed", "series"} <= keys_of("check")
    assert {"passed", "instances", "problems"} <= checked["series"][0].keys()
    words = [tmp_path / "in", "--out", tmp_path / "copies", "--key-file", tmp_path / "key"]
    assert ran("deidentify", *words).keys() <= keys_of("deidentify")


def test_what_the_commands_of_models_print(ran: Callable[..., dict], tmp_path: Path) -> None:
    assert ran("models").keys() == keys_of("models")
    shown = ran("models", "show", "identity")
    assert shown.keys() == {"name", "versions"} <= keys_of("models show")
    assert {"figures", "gate", "config"} <= shown["versions"][0].keys()
    done = ran("models", "promote", "identity", 2, "--force", "--reason", "a test")
    assert done.keys() == keys_of("models promote")
    act = {"time", "act", "by", "version", "reason", "before", "forced"}
    back = ran("models", "rollback", "identity", "--reason", "a test")
    assert back.keys() == act <= keys_of("models promote")
    assert ran("models", "audit", "identity").keys() == keys_of("models audit")
    store = tiny_store(tmp_path / "figures", patients=4).path
    assert {"details", "model", "config"} <= ran("evaluate", "identity/1", "--store", store).keys()


def test_what_is_refused_is_in_the_schema_too(ran: Callable[..., dict], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    found = ran("ingest", tmp_path / "empty", "--store", tmp_path / "store", code=3)
    assert found["error"].keys() == report_schema()["$defs"]["Error"]["properties"].keys()
