"""What tests share: the real data, the real programs, and one Prefect server a session."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.pacs import DICOMWEB_PLUGIN, Orthanc, running_orthanc

import flows  # noqa: F401  (sets Prefect and MLflow up before they are imported)
from flows.cli import app as cli
from pipeline.dicom.synthetic.phantom_series import write_phantom_series
from pipeline.physics.phantoms.patient import patient_phantom

ROOT = Path(__file__).parents[1]
REQUIRE_ALL = os.environ.get("LDCT_REQUIRE_ALL") == "1"


def missing(reason: str) -> None:
    """Skip with the reason; in CI, where everything must be there, fail instead."""
    if REQUIRE_ALL:
        pytest.fail(f"LDCT_REQUIRE_ALL=1, but {reason}")
    pytest.skip(reason, allow_module_level=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--may-skip",
        action="store_true",
        help="only the tests that ask for another program or for real CT",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of several processes: files of few tests first. They are the long ones, whole runs and
    servers, and at the end one process would be left alone with them. With --may-skip,
    what asks for no program and no real CT, by any fixture, is deselected."""
    if config.getoption("--may-skip"):
        asking = {"require_program", "test_data"}
        asks = {item: bool(asking & {*getattr(item, "fixturenames", ())}) for item in items}
        config.hook.pytest_deselected(items=[item for item in items if not asks[item]])
        items[:] = [item for item in items if asks[item]]
    if hasattr(config, "workerinput"):
        tests = Counter(item.path for item in items)
        items.sort(key=lambda item: tests[item.path])


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real CT (LDCT_TEST_DATA, by default ../shared/data)."""
    folder = Path(os.environ.get("LDCT_TEST_DATA", ROOT / ".." / "shared" / "data")).resolve()
    if not (folder / "ct").is_dir():
        missing(f"no real CT at {folder}; set LDCT_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def require_program() -> Callable[[str], str]:
    """The path of a program that a Debian package brings."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            missing(f"the program {name} is not installed (see .ci/run for its package)")
        assert path is not None
        return path

    return find


@pytest.fixture(scope="session")
def orthanc_server(
    require_program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Orthanc]:
    """A real Orthanc with its DICOMweb plugin on loopback; starting it takes seconds."""
    program = require_program("Orthanc")
    if not DICOMWEB_PLUGIN.exists():
        missing(f"Orthanc's plugin {DICOMWEB_PLUGIN} is not installed (orthanc-dicomweb)")
    with running_orthanc(program, tmp_path_factory.mktemp("orthanc")) as server:
        yield server


@pytest.fixture
def orthanc(orthanc_server: Orthanc) -> Orthanc:
    """The session's Orthanc, empty."""
    orthanc_server.empty()
    return orthanc_server


@pytest.fixture(autouse=True)
def same_weights() -> None:
    """Networks draw their first weights from PyTorch's own generator: always the same ones,
    whatever ran before in this process. A test that fails fails again."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def own_key(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has a patient key of its own: none touches the user's.

    Always the same one, since it decides who is held back: a test that fails fails again.
    """
    key_file = tmp_path_factory.mktemp("key") / "patient.key"
    key_file.write_bytes(b"a key for tests, of 32 bytes and more")
    monkeypatch.setenv("LDCT_KEY_FILE", str(key_file))


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is measured of this machine, once a session: none of the user's is read or changed."""
    os.environ["LDCT_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A Prefect server of the tests' own; starting one takes seconds, so once a session."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=300):
        yield


@pytest.fixture(scope="session")
def phantom_patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three synthetic patients as real DICOM series, small enough for whole runs."""
    folder = tmp_path_factory.mktemp("patients")
    for number in (1, 2, 3):
        phantom = patient_phantom(np.random.default_rng(number), slices=2, matrix=128)
        write_phantom_series(phantom, folder / str(number), patient_number=number, seed=7)
    return folder


class Ended:
    """How a command ended: its exit code and what it printed."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> dict:
        return json.loads(self.out)


@pytest.fixture
def ldct(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
    prefect_server: None,
    own_registry: None,
) -> Callable[..., Ended]:
    """Run `ldct ...` in this process, on the session's Prefect server."""

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["ldct", *map(str, arguments)])
        capfd.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capfd.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database without a model: making its tables takes seconds, so once a session."""
    from flows.tracking.registry import SQLITE, Registry

    path = tmp_path_factory.mktemp("registry") / "mlflow.db"
    Registry(f"{SQLITE}{path}", None).client.search_registered_models()
    return path


@pytest.fixture
def own_registry(
    tmp_path: Path, empty_registry: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Each test has a registry of its own where a user's is: under ./mlruns."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlruns").mkdir()
    shutil.copy(empty_registry, tmp_path / "mlruns" / "mlflow.db")
    yield
    import mlflow

    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def browser(require_program: Callable[[str], str]) -> Iterator[Any]:
    """Chromium, for the tests of one file; without it they are skipped."""
    from helpers.browser import chromium

    with chromium(require_program) as found:
        yield found


@pytest.fixture
def entered(browser: Any, collection: Any) -> Iterator[Any]:
    """The review page of the `collection` of a test's file, at its worklist, from a server of its
    own. No script of it may fail."""
    from helpers.browser import opened
    from helpers.review import TOKEN, served

    with served(collection) as address:
        found = opened(browser, f"{address}/?token={TOKEN}")
        yield found
        assert found.errors == []
        found.page.close()
