"""--json: one JSON object on stdout, whatever way a command ends, and nothing else there."""

from __future__ import annotations

import errno
import functools
import html
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from conftest import Ended
from helpers.commands import arguments_of, with_json
from helpers.dicom import ct_slice, save, write_series
from helpers.flows import identity_config, register
from pydicom.dataset import Dataset

from flows.cli import app as cli
from flows.cli.endings import PARTIAL
from pipeline.core.errors import ConfigError, LdctError, NothingUsableError
from pipeline.core.versions import VERSION
from pipeline.dicom.synthetic.phantom_series import write_phantom_series
from pipeline.export.denoised import export_denoised
from pipeline.physics.phantoms.patient import patient_phantom

REASONS = {
    "exported": [],
    "failed": [{"series": "s-1", "reason": "why it failed"}],
    "quarantined": [
        {"file": "a.dcm", "reason": "no HU", "attribute": "RescaleType", "value": "US"},
        {"file": "b.dcm", "reason": "no HU", "attribute": "RescaleType", "value": "US"},
        {"file": "c.dcm", "reason": "cut short", "attribute": "", "value": ""},
    ],
    "excluded": [{"file": "d.txt", "reason": "not a DICOM file", "attribute": "", "value": ""}],
}


COMMANDS = dict(with_json(typer.main.get_command(cli.app)))
each_command = pytest.mark.parametrize("path", COMMANDS, ids=" ".join)


def test_the_version_is_said(ldct: Callable[..., Ended]) -> None:
    ended = ldct("--version")
    assert (ended.code, ended.out) == (0, f"ldct {VERSION}\n")


def test_these_commands_have_json() -> None:
    names = {" ".join(path) for path in COMMANDS}
    assert names >= {
        "run", "demo", "train", "evaluate", "ingest", "apply", "simulate", "check", "deidentify",
        "status", "retry", "schedule", "models", "models show", "models promote", "pacs pull",
        "pacs work", "latent fill", "review stats",
    }  # fmt: skip


def ended_by(
    error: BaseException, path: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """The words of a command line whose command raises an error."""

    def fail(*_: object, **__: object) -> None:
        print("what a library prints")
        raise error

    group = typer.main.get_command(cli.app)
    command = dict(with_json(group))[path]
    monkeypatch.setattr(command, "callback", fail)
    monkeypatch.setattr(cli, "app", group)
    return [*path, *arguments_of(command, folder), "--json"]


@pytest.fixture
def ldct_alone(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> Callable:
    """Run `ldct ...` in this process, without a Prefect server."""

    def run(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["ldct", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return Ended(int(end.value.code or 0), *capfd.readouterr())

    return run


EXITS = {
    "failed": (LdctError("it failed", REASONS), 1),
    "wrong configuration": (ConfigError("wrong"), 2),
    "nothing usable": (NothingUsableError("nothing", REASONS), 3),
    "disk full": (OSError(errno.ENOSPC, "no space"), 1),
    "memory": (MemoryError(), 1),
    "unforeseen": (AttributeError("of DOE^JANE"), 1),
    "ctrl-c": (KeyboardInterrupt(), 1),
}


@each_command
@pytest.mark.parametrize("exit_", EXITS)
def test_every_command_ends_with_one_object(
    path: tuple[str, ...],
    exit_: str,
    ldct_alone: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    error, code = EXITS[exit_]
    ended = ldct_alone(*ended_by(error, path, tmp_path, monkeypatch))
    assert ended.code == code
    assert ended.json["error"]["code"] == code
    assert ended.json["error"]["message"]
    if exit_ in ("failed", "nothing usable"):
        assert {key: ended.json[key] for key in REASONS} == REASONS
        assert "quarantined: 2 file(s), such as a.dcm: no HU (RescaleType 'US')" in ended.err
        assert "quarantined: 1 file(s), such as c.dcm: cut short" in ended.err
        assert "excluded: 1 file(s), such as d.txt: not a DICOM file" in ended.err
        assert "not exported: s-1: why it failed" in ended.err
    assert "what a library prints" in ended.err


@each_command
def test_a_wrong_option_is_told_as_an_object_too(
    path: tuple[str, ...], ldct_alone: Callable
) -> None:
    ended = ldct_alone(*path, "--json", "--no-such-option")
    assert (ended.code, ended.json["error"]["code"]) == (2, 2)
    assert "--no-such-option" in ended.json["error"]["message"]
    assert "--no-such-option" in ended.err


def test_help_prints_no_object(ldct_alone: Callable) -> None:
    ended = ldct_alone("ingest", "--json", "--help")
    assert ended.code == 0
    assert "--store" in ended.out


def test_an_object_is_printed_once(
    ldct_alone: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`ldct schedule` prints its times, and is interrupted when it has served long enough."""

    def told_and_interrupted(**_: object) -> None:
        cli.json_output.print({"next": []})
        raise KeyboardInterrupt

    words = ended_by(KeyboardInterrupt(), ("schedule",), tmp_path, monkeypatch)
    monkeypatch.setattr(cli.app.commands["schedule"], "callback", told_and_interrupted)
    assert ldct_alone(*words).json == {"next": []}


def write_case_slices(folder: Path) -> None:
    """Four slices of one scan with a body, which figures need."""
    write_phantom_series(
        patient_phantom(np.random.default_rng(1), slices=4, matrix=128),
        folder, patient_number=1, seed=7,
    )  # fmt: skip
    for number, path in enumerate(sorted(folder.glob("*.dcm"))):
        path.rename(folder / f"{number:03d}.dcm")


def two_slices(folder: Path, number: int) -> None:
    """A series of its own for each number."""

    def name_it(dataset: Dataset, index: int) -> None:
        dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID}.{number}.{index}"

    write_series(folder, 2, edit=name_it, SeriesInstanceUID=f"1.2.3.{number}")


@pytest.mark.usefixtures("own_registry")
class TestReasons:
    """Commands over real files end with each file's reason."""

    @pytest.fixture
    def unusable(self, tmp_path: Path) -> Path:
        """Two files without a place in the patient, one of nothing, and one that is no DICOM."""
        folder = tmp_path / "in"
        for number in range(2):
            dataset = ct_slice(number)
            del dataset.ImagePositionPatient
            save(dataset, folder / f"{number}.dcm")
        (folder / "empty.dcm").touch()
        (folder / "notes.txt").write_text("nothing")
        return folder

    @pytest.mark.parametrize(
        "command",
        ["ingest", "apply", "simulate", "deidentify", "evaluate", "run"],
    )
    def test_where_nothing_is_usable(
        self, command: str, unusable: Path, ldct: Callable[..., Ended], tmp_path: Path
    ) -> None:
        model, out, key = register(identity_config()).uri, tmp_path / "out", tmp_path / "key"
        key.write_bytes(bytes(range(32)))
        if command == "deidentify":  # it copies what has no place, too
            for path in unusable.glob("[01].dcm"):
                path.write_bytes(path.read_bytes()[:200])
        words: dict[str, list] = {
            "ingest": [unusable, "--store", tmp_path / "store"],
            "apply": [model, unusable, "--out", out],
            "simulate": [unusable, "--dose", 0.5, "--out", out],
            "deidentify": [unusable, "--out", out, "--key-file", key],
            "evaluate": [model, "--input", unusable, "--target", unusable],
            "run": ["denoise_redcnn", "--data", unusable, "--out", out],
        }
        ended = ldct(command, *words[command], "--json")
        assert ended.code == 3, ended.err
        report = ended.json
        assert {row["file"] for row in report["quarantined"]} == {"0.dcm", "1.dcm", "empty.dcm"}
        assert [row["file"] for row in report["excluded"]] == ["notes.txt"]
        assert len({row["reason"] for row in report["quarantined"]}) == 2
        for row in report["quarantined"]:
            assert row["reason"] in ended.err
        if command in ("apply", "simulate", "run"):
            written = json.loads((out / "report.json").read_text())
            assert written["quarantined"] == report["quarantined"]

    def test_what_of_a_pair_is_not_used_is_told(
        self, ldct: Callable[..., Ended], tmp_path: Path
    ) -> None:
        model = register(identity_config()).uri
        source, out = tmp_path / "in", tmp_path / "out"
        for name in ("low", "full"):
            write_case_slices(source / name)
        cut = source / "full" / "002.dcm"
        cut.write_bytes(cut.read_bytes()[:-40])
        (source / "low" / "notes.txt").write_text("nothing")
        words = ["--input", source / "low", "--target", source / "full", "--out", out]
        ended = ldct("evaluate", model, *words, "--json")
        assert ended.code == PARTIAL, ended.err
        report = ended.json
        assert [row["file"] for row in report["quarantined"]] == ["full/002.dcm"]
        assert [row["file"] for row in report["excluded"]] == ["low/notes.txt"]
        reason = report["quarantined"][0]["reason"]
        written = json.loads((out / "evaluation.json").read_text())
        assert written["quarantined"] == report["quarantined"]
        assert reason in html.unescape((out / "evaluation.html").read_text())
        assert "full/002.dcm" in ldct("evaluate", model, *words).out

        for path in (source / "full").glob("*.dcm"):
            path.write_bytes(path.read_bytes()[:-40])
        ended = ldct("evaluate", model, *words, "--json")
        assert ended.code == 3
        assert len(ended.json["quarantined"]) == 4

    @pytest.mark.parametrize(
        "error", [AttributeError("of DOE^JANE"), MemoryError(), LdctError("x")]
    )
    def test_an_exception_stays_with_its_series(
        self,
        error: Exception,
        ldct: Callable[..., Ended],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        for number, name in enumerate("ab"):
            two_slices(tmp_path / "in" / name, number)
        broken = set(map(str, (tmp_path / "in" / "a").glob("*.dcm")))

        @functools.wraps(export_denoised)
        def fail(model: Any, card: Any, source: Any, *rest: Any, **more: Any) -> Any:
            if str(source.instances[0].path) in broken:
                raise error
            return export_denoised(model, card, source, *rest, **more)

        monkeypatch.setattr("pipeline.tasks.denoise.export_denoised", fail)
        model, out = register(identity_config()).uri, tmp_path / "out"
        ended = ldct("apply", model, tmp_path / "in", "--out", out, "--json")
        assert ended.code == PARTIAL
        report = ended.json
        assert len(report["exported"]) == 1
        (failed,) = report["failed"]
        expected = str(error) if isinstance(error, LdctError) else type(error).__name__
        assert expected in failed["reason"]
        assert {row["file"] for row in report["quarantined"]} == {
            str(Path(path).relative_to(tmp_path / "in")) for path in broken
        }
        assert {row["reason"] for row in report["quarantined"]} == {failed["reason"]}
        assert "DOE" not in ended.out + ended.err + (out / "report.json").read_text()
        if not isinstance(error, LdctError):
            details = Path(failed["details"])
            assert details.stat().st_mode & 0o777 == 0o600
            assert type(error).__name__ in details.read_text()
        written = json.loads((out / "report.json").read_text())
        assert written == {key: report[key] for key in written}

        alone = ldct("apply", model, tmp_path / "in" / "a", "--out", out, "--json")
        assert alone.code == 1
        assert alone.json["failed"][0]["reason"] == failed["reason"]
        # The other series, which an earlier run exported, is told still.
        assert len(json.loads((out / "report.json").read_text())["exported"]) == 1


def test_ctrl_c_tells_what_was_done(tmp_path: Path) -> None:
    write_series(tmp_path / "in" / "a", 2)
    words = ["ingest", tmp_path / "in", "--store", tmp_path / "store", "--json"]
    code = (
        "import sys, time, pipeline.io.discover as d, flows.commands\n"
        "import pipeline.ingest.ingest as i\n"
        "def wait(*a, **k):\n    print('ready', file=sys.stderr, flush=True); time.sleep(60)\n"
        "i.discover = wait\n"
        "from flows.cli.app import main\nmain()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "ready" in process.stderr.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "interrupted" in json.loads(out)["error"]["message"]
