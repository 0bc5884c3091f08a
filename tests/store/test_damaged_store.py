"""A store of which a full disk left files cut or empty: named, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_store import assert_same, volume_of

from pipeline.core.errors import ConfigError
from pipeline.core.label_map import LabelMap
from pipeline.store.store import REAL, Store

CUT: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path)
    made.add(volume_of(), key="s-1", patient="p-1", real_input=volume_of(1))
    made.add(volume_of(2), key="s-2", patient="p-2")
    return made


@pytest.mark.parametrize("how", CUT)
@pytest.mark.parametrize("name", ["s-1.json", "s-1.nii", "s-1.valid.npy"])
def test_a_damaged_file_is_named_and_mended_by_ingesting_again(store, name, how):
    path = store.path / "volumes" / name
    path.write_bytes(CUT[how](path.read_bytes()))
    with pytest.raises(ConfigError, match=r"is damaged .*ingest its source again") as refused:
        store.load("s-1")
    assert str(path) in str(refused.value)
    assert_same(store.load("s-2"), volume_of(2))
    assert store.add(volume_of(), key="s-1", patient="p-1", real_input=volume_of(1))
    assert_same(store.load("s-1"), volume_of())


def test_a_record_without_a_field_is_named(store):
    path = store.path / "volumes" / "s-1.json"
    path.write_text('{"patient": "p-1"}')
    with pytest.raises(ConfigError, match=r"s-1.json, which is damaged"):
        store.records()


def test_damaged_real_inputs_are_mended(store):
    path = store.degraded_path("s-1", REAL)
    path.write_bytes(b"")
    assert store.add(volume_of(), key="s-1", patient="p-1", real_input=volume_of(1))
    np.testing.assert_array_equal(store.load_degraded("s-1", REAL), volume_of(1).image_hu)
    assert not store.add(volume_of(), key="s-1", patient="p-1", real_input=volume_of(1))


@pytest.mark.parametrize("how", CUT)
def test_damaged_labels_are_named_and_mended(store, how):
    labels = LabelMap(np.ones((4, 6, 5), np.uint8), {1: "lung"}, source="test")
    store.add_labels("s-1", "organs", labels)
    path = store.path / "labels" / "s-1.organs.json"
    path.write_bytes(CUT[how](path.read_bytes()))
    with pytest.raises(ConfigError, match=r"s-1.organs.json, which is damaged"):
        store.load_labels("s-1", "organs")
    assert store.add_labels("s-1", "organs", labels)
    assert store.load_labels("s-1", "organs").names == {1: "lung"}


@pytest.mark.parametrize("how", CUT)
def test_a_damaged_index_is_named_with_what_to_do(store, how):
    store.record_split({"p-1": "test"})
    path = store.path / "index.json"
    path.write_bytes(CUT[how](path.read_bytes()))
    with pytest.raises(ConfigError, match=r"index.json, which is damaged .*or delete it"):
        Store(store.path)
    path.unlink()
    Store(store.path)  # as `ldct ingest` opens it
    assert sorted(Store.existing(store.path).records()) == ["s-1", "s-2"]
