"""What tests share: the real data, the real programs, and one Prefect server a session."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import flows  # noqa: F401  (sets Prefect and MLflow up before they are imported)
from pipeline.dicom.phantom_series import write_phantom_series
from pipeline.physics.phantom import patient_phantom

ROOT = Path(__file__).parents[1]
REQUIRE_ALL = os.environ.get("LDCT_REQUIRE_ALL") == "1"


def missing(reason: str) -> None:
    """Skip with the reason; in CI, where everything must be there, fail instead."""
    if REQUIRE_ALL:
        pytest.fail(f"LDCT_REQUIRE_ALL=1, but {reason}")
    pytest.skip(reason)


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


@pytest.fixture(autouse=True)
def own_key(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has a patient key of its own: none touches the user's.

    Always the same one, since it decides who is held back: a test that fails fails again.
    """
    key_file = tmp_path_factory.mktemp("key") / "patient.key"
    key_file.write_bytes(b"a key for tests, of 32 bytes and more")
    monkeypatch.setenv("LDCT_KEY_FILE", str(key_file))


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A Prefect server of the tests' own; starting one takes seconds, so once a session."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def phantom_patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three invented patients as real DICOM series, small enough for whole runs."""
    folder = tmp_path_factory.mktemp("patients")
    for number in (1, 2, 3):
        phantom = patient_phantom(np.random.default_rng(number), slices=2, matrix=128)
        write_phantom_series(phantom, folder / str(number), patient_number=number, seed=7)
    return folder
