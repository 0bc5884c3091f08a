"""What a command imports before and while it works: what it has no use for takes seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers.dicom import write_series

#: Runs `ldct` with the arguments and prints which of the first argument's modules it imported.
PROGRAM = """
import json, sys
asked, sys.argv = json.loads(sys.argv[1]), ["ldct", *sys.argv[2:]]
from ldct.command import main
try:
    main()
except SystemExit as end:
    print("ENDED", json.dumps([end.code or 0, [name for name in asked if name in sys.modules]]))
"""
#: Heavy, and of no use to a command over series without a registry and a Prefect API.
NEVER = ["monai", "mlflow", "prefect", "pandas", "sklearn", "fastapi", "sqlalchemy", "matplotlib"]

#: Of this software, with what they bring: configurations (pydantic), DICOM and figures.
OURS = ["pipeline.config.run", "pipeline.dicom", "pydicom", "torch", "numba"]


def imported(modules: list[str], *arguments: object, folder: Path) -> tuple[int, list[str]]:
    """The exit code of a command, and which of the modules it imported."""
    ours = ("PREFECT_", "MLFLOW_")
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(modules), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith(ours)}
        | {"PREFECT_HOME": str(folder / "prefect")},
    )
    (line,) = [each for each in ran.stdout.splitlines() if each.startswith("ENDED")]
    code, found = json.loads(line.removeprefix("ENDED "))
    assert "Traceback" not in ran.stderr, ran.stderr
    return code, found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_series(tmp_path / "source", 1)
    return tmp_path / "source"


def test_the_program_sees_what_is_imported(tmp_path: Path) -> None:
    code, found = imported(["typer", "monai"], "--version", folder=tmp_path)
    assert (code, found) == (0, ["typer"])


def test_a_list_of_models_needs_nothing_that_computes(tmp_path: Path) -> None:
    code, found = imported(OURS, "models", folder=tmp_path)
    assert (code, found) == (0, [])


def test_the_program_by_itself_needs_no_configuration(tmp_path: Path) -> None:
    code, found = imported([*OURS, *NEVER], "--help", folder=tmp_path)
    assert (code, found) == (0, [])


def test_ingest_needs_no_torch(tmp_path: Path, source: Path) -> None:
    heavy = [*NEVER, "torch", "numba"]
    code, found = imported(heavy, "ingest", source, "--store", tmp_path / "s", folder=tmp_path)
    assert (code, found) == (0, [])
    assert list((tmp_path / "s").iterdir()), "it did store something"


def test_apply_needs_no_monai(tmp_path: Path, source: Path) -> None:
    line = ("apply", "swift@pretrained", source, "--out", tmp_path / "out")
    code, found = imported([*NEVER, "scipy.stats", "torch"], *line, folder=tmp_path)
    assert (code, found) == (0, ["torch"])
    assert list((tmp_path / "out").rglob("*.dcm"))


def test_the_list_of_models_needs_nothing_but_mlflow(tmp_path: Path) -> None:
    light = ["torch", "monai", "prefect", "numba", "nibabel", "sklearn"]
    code, found = imported([*light, "mlflow"], "models", folder=tmp_path)
    assert (code, found) == (0, ["mlflow"])


def test_a_worker_without_work_and_a_search_need_nothing_that_computes(
    tmp_path: Path, source: Path
) -> None:
    (tmp_path / "sent").mkdir()
    described = {
        "model": "swift@pretrained",
        "work": str(tmp_path / "work"),
        "source": {"folder": str(source)},
        "rules": [{"name": "any"}],
        "send": {"folder": str(tmp_path / "sent")},
        "settle_s": 0,
    }
    (tmp_path / "hospital.yaml").write_text(yaml.safe_dump(described))
    heavy = [*NEVER, "torch", "numba", "highdicom"]
    for command in ("work", "pull"):
        found = imported(heavy, "pacs", command, tmp_path / "hospital.yaml", folder=tmp_path)
        assert found == (0, [])
    code, found = imported([*heavy], "pacs", "work", tmp_path / "hospital.yaml", folder=tmp_path)
    assert (code, "torch" in found) == (0, True), "now there is work"


@pytest.mark.parametrize(
    ("line", "exit_code"),
    [
        (("ingest", "nowhere", "--store", "s"), 3),
        (("apply", "swift@pretrained", "nowhere", "--out", "o"), 3),
        (("apply", "nosuch@pretrained", ".", "--out", "o"), 2),
        (("apply", "swift@pretrained", ".", "--out", "o", "--compute", "fp16"), 2),
        (("run", "nosuch.yaml", "--data", ".", "--out", "o"), 2),
        (("run", "denoise_swift", "--set", "tran.batch=2", "--data", ".", "--out", "o"), 2),
    ],
)
def test_a_mistake_is_answered_before_heavy_imports(
    tmp_path: Path, line: tuple[str, ...], exit_code: int
) -> None:
    code, found = imported([*NEVER, "torch", "numba"], *line, folder=tmp_path)
    assert (code, found) == (exit_code, [])
