"""Memory that is freed stays with the process: no fresh pages for the next tensor."""

import os
import subprocess
import sys

import pytest

from pipeline.core.malloc import SWITCH

PAGES = """
from pipeline.core.malloc import keep_freed_memory
keep_freed_memory()
import torch
from concurrent.futures import ThreadPoolExecutor
from resource import RUSAGE_SELF, getrusage
torch.randn(1000, 1000) @ torch.randn(1000, 1000)  # begins threads
def fresh_pages(times):
    before = getrusage(RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.empty(20_000_000).fill_(1)  # 80 MB
    return getrusage(RUSAGE_SELF).ru_minflt - before
def counted():
    # A place that was left is an alignment too small for its like, until places grow together.
    fresh_pages(25)
    return fresh_pages(5)
with ThreadPoolExecutor(2) as pool:
    print(counted(), max(pool.map(lambda _: counted(), range(2))))
"""


def fresh_pages(switch: str) -> list[int]:
    """In the main thread, and in others."""
    ran = subprocess.run(
        [sys.executable, "-c", PAGES],
        capture_output=True,
        check=True,
        text=True,
        env={**os.environ, SWITCH: switch},
    )
    return [int(pages) for pages in ran.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is asked to keep memory")
def test_tensors_take_the_pages_of_those_before_them() -> None:
    kept, as_usual = fresh_pages("1"), fresh_pages("0")
    assert all(10 * few < many for few, many in zip(kept, as_usual, strict=True)), (kept, as_usual)
