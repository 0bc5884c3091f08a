"""Every benchmark says on which processor and with which precision its figures were taken."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CPUINFO = """\
processor\t: 0
model name\t: A Processor 7
flags\t\t: fpu sse2 avx2 avx512f avx512_bf16

processor\t: 1
model name\t: A Processor 7
flags\t\t: fpu sse2 avx2 avx512f avx512_bf16
"""
WRITES = [
    path.name
    for path in sorted(BENCHMARKS.glob("*.py"))
    if "json.dump" in (text := path.read_text(encoding="utf-8"))
    and ("def main" in text or path.stem == "latent_training")
    and path.stem != "ship"  # a model, no figures of its own
]


@pytest.fixture(scope="module")
def machine() -> ModuleType:
    spec = importlib.util.spec_from_file_location("machine", BENCHMARKS / "machine.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_processor_is_named_with_what_decides_its_results(machine, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(CPUINFO, encoding="utf-8")
    name, features = machine.processor(tmp_path / "cpuinfo")
    assert name == "A Processor 7"
    assert features == ["avx2", "avx512f", "avx512_bf16"]
    assert machine.processor(tmp_path / "none")[1] == []


def test_a_table_tells_processor_precision_and_cores(machine) -> None:
    facts = machine.facts("auto")
    assert facts["precision"] == machine.MEASURED
    assert machine.facts()["precision"] == "fp32"
    said = machine.described(
        facts | {"processor": "A Processor 7", "features": ["avx2"], "cores": 2}
    )
    assert said.startswith(f"A Processor 7 (avx2), {facts['precision']}, 2 cores, ")


@pytest.mark.parametrize("name", WRITES)
def test_every_benchmark_names_its_machine(name: str) -> None:
    text = (BENCHMARKS / name).read_text(encoding="utf-8")
    assert "machine.facts(" in text
    assert "platform.processor" not in text


def test_every_benchmark_finds_what_it_imports() -> None:
    """In a process of their own, since they are no package."""
    names = [path.stem for path in sorted(BENCHMARKS.glob("*.py"))]
    script = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    command = [sys.executable, "-c", script, *names]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(BENCHMARKS), *sys.path])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_all_benchmarks_are_asked() -> None:
    assert {"speed.py", "apply.py", "restore.py", "quality.py", "swift.py"} <= {*WRITES}
