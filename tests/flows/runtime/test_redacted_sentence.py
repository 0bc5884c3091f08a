"""A failure in Prefect says what went wrong, and nothing of whom."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from flows.runtime.private_errors import StageFailedError, redact_errors
from flows.runtime.redacted_sentence import redacted_sentence
from pipeline.core.errors import ConfigError, LdctError, NothingUsableError
from pipeline.store.store import Store

SECRET = "DOE^JOHN 4711 19700101 1.2.826.0.1.3680043.8 /data/doe john"
FILES = [{"file": SECRET, "reason": SECRET}]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConfigError(SECRET), "ConfigError: the request or its configuration is wrong"),
        (
            NothingUsableError(SECRET, {"quarantined": FILES * 2, "excluded": FILES}),
            "nothing in the input could be used (1 excluded, 2 quarantined files)",
        ),
        (OSError(errno.ENOSPC, SECRET), "the disk is full"),
        (PermissionError(errno.EACCES, SECRET, SECRET), "PermissionError: permission denied"),
        (ConnectionRefusedError(errno.ECONNREFUSED, SECRET), "a server cannot be reached"),
        (MemoryError(SECRET), "too little memory"),
        (KeyError(SECRET), "KeyError: it went wrong"),
        (LdctError(SECRET), "LdctError: it went wrong"),
    ],
)
def test_the_sentence_says_what_and_holds_no_word_of_the_error(error, said):
    sentence = redacted_sentence(error)
    assert said in sentence
    assert not any(word in sentence for word in (*SECRET.split(), "doe", "john", "DOE"))


def test_a_failed_stage_names_the_line_of_our_code(tmp_path):
    folder = tmp_path / "doe john"

    @redact_errors("evaluate")
    def stage(path: Path) -> Store:
        return Store.existing(path)

    with pytest.raises(
        StageFailedError, match=r"^evaluate: .*\(pipeline\.store\.store:\d+\)$"
    ) as at:
        stage(folder)
    assert "doe" not in str(at.value)
    assert isinstance(at.value.original, NothingUsableError)
