"""Damage at random: whatever a file holds, it is used or refused, quickly and in little memory."""

from __future__ import annotations

import os
import random
import resource
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core.refusals import SeriesRefusedError
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume

#: Damaged files of a run; LDCT_FUZZ_CASES asks for more.
CASES = int(os.environ.get("LDCT_FUZZ_CASES", "500"))
HEADERS, STREAMS = 8 * CASES, 2 * CASES
HEADER_BYTES = 3_000
LENGTHS = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\0\xc0", b"\xfe\xff\0\xe0")
VRS = (b"SQ", b"UN", b"OW", b"DS", b"IS", b"PN", b"UI", b"US", b"FD", b"AT", b"OB", b"zz")
SECONDS, MEGABYTES = 10.0, 700


@pytest.fixture(scope="module")
def contents(test_data) -> list[bytes]:
    """A real slice of each scanner, and one in every transfer syntax."""
    scanners = ("chest-ge-lidc0001", "abdomen-ge-crlm1004", "head-ge-tilted", "torso-siemens")
    paths = [sorted((test_data / "ct" / name).iterdir())[3] for name in scanners]
    paths += sorted((test_data / "edge" / "transfer-syntaxes").glob("*.dcm"))
    return [path.read_bytes() for path in paths]


def mutated(content: bytes, generator: random.Random, first: int, last: int) -> bytes:
    """The content with up to sixteen wounds between two places."""
    damaged = bytearray(content)
    for _ in range(generator.choice([1, 1, 2, 4, 16])):
        at = generator.randrange(first, max(first + 1, min(last, len(damaged))))
        wound: list[Callable[[], object]] = [
            lambda at=at: damaged.__setitem__(slice(at, at + 1), generator.randbytes(1)),
            lambda at=at: damaged.__setitem__(slice(at, at + 4), generator.choice(LENGTHS)),
            lambda at=at: damaged.__setitem__(slice(at, at + 2), generator.choice(VRS)),
            lambda at=at: damaged.__delitem__(slice(at, at + generator.randrange(1, 40))),
            lambda at=at: damaged.__setitem__(
                slice(at, at), generator.randbytes(generator.randrange(1, 20))
            ),
            lambda at=at: damaged.__delitem__(slice(at + 200, None)),
        ]
        generator.choice(wound)()
    return bytes(damaged)


def fate(path: Path) -> str:
    """What becomes of a file, read the whole way."""
    found = find_series(path)
    for series in found.series:
        try:
            return "used" if not read_volume(series).refusals else "refused"
        except SeriesRefusedError:
            return "refused"
    assert found.refusals, "a file that is neither used nor refused"
    return str(found.refusals[0].disposition)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("where", ["header", "stream"])
def test_no_damage_escapes(tmp_path, contents, where):
    generator = random.Random(where)
    path = tmp_path / "x.dcm"
    fates: Counter[str] = Counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(HEADERS if where == "header" else STREAMS):
        content = generator.choice(contents)
        ends = (128, HEADER_BYTES) if where == "header" else (HEADER_BYTES, len(content))
        damaged = mutated(content, generator, *ends)
        path.write_bytes(damaged)
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fates[fate(path)] += 1
        assert time.perf_counter() - start < SECONDS
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < MEGABYTES
    # The wounds are neither all mortal nor all harmless: the whole way is walked.
    assert fates["quarantined"] > 0.15 * CASES
    assert fates["used"] > 0.05 * CASES
    assert fates["refused"] > 0.015 * CASES


@pytest.mark.parametrize("claim", [3 * 1024**3, 2**32 - 2])
def test_a_claim_of_gigabytes_costs_no_memory(tmp_path, contents, claim):
    chest = contents[0]
    at = chest.index(b"\xe0\x7f\x10\x00")
    is_explicit = chest[at + 4 : at + 6].isalpha()
    length_at = at + 8 if is_explicit else at + 4
    path = tmp_path / "x.dcm"
    path.write_bytes(chest[:length_at] + claim.to_bytes(4, "little") + chest[length_at + 4 :])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert fate(path) in ("refused", "quarantined")
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 100
