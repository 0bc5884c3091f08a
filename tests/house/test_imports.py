"""Importing the library changes nothing of the process that imports it."""

import subprocess
import sys

import pytest

from flows.cli import app as cli

#: Imports every module of the package and prints which of them changed what.
PROGRAM = """
import ctypes, os, pkgutil, sys, warnings
import matplotlib, monai.data, numpy, torch

settings = set(matplotlib.rcParams) - {"backend"}  # reading that one chooses one
calls = []

class Library(ctypes.CDLL):
    def __getattr__(self, name):
        if name == "mallopt":
            calls.append(name)
        return super().__getattr__(name)

ctypes.CDLL = Library

def state():
    return {
        "malloc": list(calls),
        "MONAI's track_meta": monai.data.get_track_meta(),
        "torch's threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "torch's precision": (torch.get_float32_matmul_precision(), torch.get_default_dtype()),
        "torch's determinism": torch.are_deterministic_algorithms_enabled(),
        "torch's gradients": torch.is_grad_enabled(),
        "torch's seed": torch.initial_seed(),
        "numpy's random state": numpy.random.get_state()[1].tolist(),
        "numpy's error state": numpy.geterr(),
        "environment": dict(os.environ),
        "warnings": list(warnings.filters),
        "matplotlib's backend": matplotlib.get_backend(auto_select=False),
        "matplotlib's settings": {n: matplotlib.rcParams[n] for n in settings},
        "working folder": os.getcwd(),
    }

before = state()
import pipeline
modules = ["pipeline", *(m.name for m in pkgutil.walk_packages(pipeline.__path__, "pipeline."))]
for module in modules:
    __import__(module)
    after = state()
    for part in after:
        if after[part] != before[part]:
            print(f"{module} changes {part}: {before[part]} -> {after[part]}")
    before = after
print(len(modules), "modules")
"""


def test_importing_changes_nothing_of_the_process() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, check=True, text=True
    )
    *changes, count = ran.stdout.splitlines()
    assert not changes, "\n".join(changes)
    assert int(count.split()[0]) > 200


def test_the_command_line_keeps_freed_memory_before_anything_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: order.append("memory"))
    monkeypatch.setattr(cli, "app", lambda: order.append("command"))
    cli.main()
    assert order == ["memory", "command"]
