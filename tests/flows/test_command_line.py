"""What every command line is expected to have: its version, short options, completion."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import arguments_of
from typer.main import get_command

from flows.cli import app as cli
from flows.cli.completion import complete_config, complete_model
from flows.runtime import progress
from pipeline.core.versions import VERSION


def ended(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["ldct", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_the_version_is_one_line(monkeypatch, capsys):
    assert ended(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"ldct {VERSION}\n"


@pytest.mark.parametrize("words", [[], ["run"], ["models"], ["models", "show"], ["review"]])
def test_h_is_help_of_every_command(monkeypatch, capsys, words):
    assert ended(monkeypatch, *words, "-h") == 0
    short = capsys.readouterr().out
    assert ended(monkeypatch, *words, "--help") == 0
    assert short == capsys.readouterr().out != ""


def test_o_is_out_wherever_there_is_one():
    def commands(group):
        for command in getattr(group, "commands", {}).values():
            yield command
            yield from commands(command)

    outs = [
        parameter.opts
        for command in commands(get_command(cli.app))
        for parameter in command.params
        if "--out" in parameter.opts
    ]
    assert len(outs) > 8
    assert all("-o" in options for options in outs)


def named_commands(group, path=()):
    for name, command in getattr(group, "commands", {}).items():
        yield (*path, name), command
        yield from named_commands(command, (*path, name))


COMPUTES = [
    path
    for path, command in named_commands(get_command(cli.app))
    if any("--device" in parameter.opts for parameter in command.params)
]


def test_every_command_that_computes_takes_a_device():
    assert {" ".join(path) for path in COMPUTES} == {
        "run", "demo", "train", "evaluate", "qualify", "apply", "simulate", "schedule",
        "latent sample", "latent reconstruct", "latent interpolate", "latent traverse",
        "latent arithmetic", "latent fill", "latent plot", "models promote", "pacs work",
        "pacs module", "compress", "expand",
    }  # fmt: skip


@pytest.mark.parametrize("path", COMPUTES, ids=" ".join)
def test_a_device_that_is_not_there_ends_the_command(path, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    command = dict(named_commands(get_command(cli.app)))[path]
    words = arguments_of(command, tmp_path / "none")
    assert ended(monkeypatch, *path, *words, "--device", "cuda:1") == 2
    said = capsys.readouterr().err
    assert said == "ldct: --device cuda:1: PyTorch finds no GPU here; take auto or cpu\n"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def broken(monkeypatch):
    """`ldct check` meets an error that was not foreseen, after a message."""

    def fail(*_, **__):
        progress.log("stage", "check: done", {})
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("pipeline.dicom.derived.check.check_tree", fail)
    yield
    progress.verbosity.quiet = progress.verbosity.verbose = False


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(
    ("words", "says", "says_not"),
    [
        (["check", "."], "check: done", "Traceback"),
        (["check", "-q", "."], "ldct: RuntimeError: unforeseen", "check: done"),
        (["--quiet", "check", "."], "ldct: RuntimeError: unforeseen", "check: done"),
        (["check", ".", "--verbose"], "Traceback (most recent call last)", "no such option"),
        (["check", ".", "-v", "-q"], "Traceback (most recent call last)", "check: done"),
        (["check", "--", "-q"], "check: done", "Traceback"),
    ],
)
def test_quiet_and_verbose_stand_anywhere(monkeypatch, capsys, words, says, says_not):
    assert ended(monkeypatch, *words) == 1
    err = capsys.readouterr().err
    assert says in err
    assert says_not not in err
    assert "ldct: RuntimeError: unforeseen" in err


def test_configurations_and_files_are_completed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "denoise_mine.yaml").touch()
    (tmp_path / "denoise_notes.txt").touch()
    (tmp_path / "denoise_more").mkdir()
    found = complete_config("denoise_")
    assert found[-2:] == ["denoise_mine.yaml", "denoise_more/"]
    assert "denoise_redcnn" in found
    assert "demo" not in found


def test_models_are_completed_without_mlflow(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert complete_model("redcnn") == ["redcnn@pretrained"]
    (tmp_path / "mlruns").mkdir()
    database = tmp_path / "mlruns" / "mlflow.db"
    database.write_bytes(b"no database")
    assert complete_model("redcnn") == ["redcnn@pretrained"]
    database.unlink()
    with sqlite3.connect(database) as made:
        made.execute("CREATE TABLE registered_models (name TEXT)")
        made.execute("INSERT INTO registered_models VALUES ('redcnn-demo')")
    assert complete_model("redcnn") == ["redcnn-demo", "redcnn@pretrained"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    monkeypatch.chdir(Path("/"))
    assert complete_model("redcnn-") == ["redcnn-demo"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://nowhere:1")
    assert complete_model("redcnn-") == []


@pytest.mark.parametrize(
    ("line", "completed"),
    [("ldct run vae_digits2", "vae_digits28"), ("ldct apply swift@", "swift@pretrained")],
)
def test_the_shell_asks_for_them(tmp_path, line, completed):
    asked = {"_LDCT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": "2"}
    command = Path(sys.executable).with_name("ldct")
    answer = subprocess.check_output([command], env=os.environ | asked, cwd=tmp_path, text=True)
    assert answer.split() == [completed]
