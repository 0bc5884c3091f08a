"""A checkpoint that is damaged: named, and its predecessor taken, or refused with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.core.errors import ConfigError
from pipeline.training import checkpoint as module
from pipeline.training.checkpoint import Checkpoint


@pytest.fixture
def kept(tmp_path: Path) -> Checkpoint:
    """Saved at iterations 1, 2 and 3."""
    checkpoint = Checkpoint(tmp_path, "0" * 64)
    for iteration in (1, 2, 3):
        checkpoint.save({"iteration": iteration, "weights": torch.arange(1000.0)})
    return checkpoint


def loaded(checkpoint: Checkpoint) -> tuple[int, list[str]]:
    told: list[str] = []
    state = checkpoint.load("cpu", told.append)
    assert state is not None
    assert torch.equal(state["weights"], torch.arange(1000.0))
    return state["iteration"], told


def one_bit_changed(content: bytes) -> bytes:
    """Among the weights, where the file can still be read."""
    at = content.index(torch.arange(1000.0).numpy().tobytes()) + 2000
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGE = {"emptied": lambda c: b"", "cut": lambda c: c[: len(c) // 2], "bit": one_bit_changed}


def test_the_last_one_is_taken(kept):
    assert loaded(kept) == (3, [])
    assert Checkpoint(kept.folder, "1" * 64).load("cpu", pytest.fail) is None


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_one_is_put_aside_and_its_predecessor_taken(kept, damage):
    kept.path.write_bytes(DAMAGE[damage](kept.path.read_bytes()))
    iteration, (said,) = loaded(kept)
    assert iteration == 2
    assert str(kept.path) in said
    assert "goes on from its predecessor" in said
    assert kept.path.with_suffix(".pt.damaged").exists()
    assert loaded(kept) == (2, []), "said once"
    kept.save({"iteration": 4, "weights": torch.arange(1000.0)})
    assert loaded(kept) == (4, [])
    kept.path.write_bytes(b"")
    assert loaded(kept)[0] == 2, "a damaged one became nobody's predecessor"


def test_where_both_are_damaged_it_says_what_to_do(kept):
    for path in (kept.path, kept.previous):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ConfigError, match="or delete it to train from scratch"):
        kept.load("cpu", pytest.fail)


def test_one_of_version_0_1_0_has_no_digest_and_is_read(kept):
    kept.digests.unlink()
    assert loaded(kept) == (3, [])
    kept.path.write_bytes(kept.path.read_bytes()[:3000])
    iteration, (said,) = loaded(kept)
    assert iteration == 2
    assert "is damaged" in said


@pytest.mark.parametrize("call", ["write_text", "replace"])
def test_a_kill_while_it_is_saved_leaves_one_that_is_known(kept, monkeypatch, call):
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if call == "write_text":
            patch.setattr(module, "write_text", killed)
        else:
            patch.setattr(Checkpoint, "_keep_previous", killed)
        with pytest.raises(KeyboardInterrupt):
            kept.save({"iteration": 4, "weights": torch.arange(1000.0)})
    assert loaded(kept) == (3, [])
