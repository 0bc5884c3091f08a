"""The user's own pairs: which belong together, that they stay together, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.restore import drawing, run
from PIL import Image as PillowImage

from pipeline.config.run import RunConfig
from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.core.pseudonyms import installation_key
from pipeline.data.stored_pictures import StoredPictures
from pipeline.degradations.cache import degrade_store
from pipeline.ingest.ingest import IngestReport
from pipeline.store.store import Store
from pipeline.tasks.base import task_of

INPUT = {"target": "pipeline.degradations.paired.PairInput"}
TARGET = {"target": "pipeline.degradations.paired.PairTarget"}
NOISE = {"target": "pipeline.degradations.base.GaussianNoise", "args": {"sigma": 20}}


def pairs(**restoration: object) -> RunConfig:
    return run(INPUT, restoration={"source": "pairs", "wanted": TARGET, **restoration})


def save(path: Path, levels: np.ndarray, **more: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(np.moveaxis(levels, 0, -1).astype(np.uint8)).save(path, **more)


def ingested(folder: Path, config: RunConfig) -> tuple[Store, IngestReport]:
    store = Store(folder.with_name("store"))
    return store, task_of(config).ingest(folder, store, config, key=installation_key())


@pytest.mark.parametrize("colour", ["grey", "rgb"])
def test_every_piece_of_an_input_is_that_of_its_target(tmp_path: Path, colour: str) -> None:
    """Negatives: input + target is white, wherever a piece lies and however it is turned."""
    folder, config = tmp_path / "in", pairs(colour=colour)
    for number in range(3):
        save(folder / "target" / f"Miller-{number}.png", drawing(number))
        save(folder / "input" / f"Miller-{number}.PNG", 255 - drawing(number).astype(np.uint8))
    store, report = ingested(folder, config)
    keys = sorted(store.records())
    assert (len(keys), report.refusals) == (3, [])
    assert all(task_of(config).usable(store, key, config) for key in keys)
    assert "Miller" not in " ".join(path.name for path in store.path.rglob("*"))
    items = task_of(config).training_data(store, keys, config, 20)
    for item in items:
        assert item["input"].shape == (1 if colour == "grey" else 3, 32, 32)
        np.testing.assert_allclose(item["input"] + item["target"], 255, atol=1e-3)
    assert len({float(item["input"].mean()) for item in items}) > 10
    degrade_store(store, dict.fromkeys(keys, 1), config)
    stored = StoredPictures(store, keys, config)
    np.testing.assert_allclose(stored.degraded(0) + stored.target(0), 255, atol=1e-3)


def test_a_folder_is_a_patient(tmp_path: Path) -> None:
    folder, number = tmp_path / "in", 0
    for patient in ("Miller", "Smith"):
        for name in ("a", "b"):
            number += 1
            for side in ("input", "target"):
                save(folder / side / patient / f"{name}.png", drawing(number))
    store, _ = ingested(folder, pairs())
    of_patient = [record.patient for record in store.records().values()]
    assert sorted(of_patient.count(patient) for patient in set(of_patient)) == [2, 2]
    assert not {"Miller", "Smith"} & {*of_patient}


def test_one_target_of_two_inputs_is_two_pairs_and_the_same_again_is_none(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name in ("a", "b"):
        save(folder / "target" / f"{name}.png", drawing(0))
    save(folder / "input" / "a.png", drawing(1))
    save(folder / "input" / "b.png", drawing(2))
    store, _ = ingested(folder, pairs())
    assert len(store.records()) == 2
    _, again = ingested(folder, pairs())
    assert [row.new for row in again.series] == [False, False]


def test_what_is_no_pair_is_quarantined_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for side in ("input", "target"):
        save(folder / side / "good.png", drawing(0))
    save(folder / "input" / "lonely.png", drawing(1))
    save(folder / "input" / "small.png", drawing(2, side=48))
    save(folder / "target" / "small.png", drawing(2))
    save(folder / "input" / "twice.png", drawing(3))
    save(folder / "target" / "twice.png", drawing(3))
    save(folder / "target" / "twice.jpg", drawing(3))
    turned = PillowImage.Exif()
    turned[274] = 6
    save(folder / "input" / "turned.jpg", drawing(4), exif=turned)
    save(folder / "target" / "turned.jpg", drawing(4))
    (folder / "input" / "broken.png").write_bytes(b"\x89PNG nothing")
    save(folder / "target" / "broken.png", drawing(5))
    store, report = ingested(folder, pairs())
    assert len(store.records()) == 1
    why = {refusal.path.stem: refusal.reason for refusal in report.refusals}
    assert "1 pictures of its name in input/ and 0 in target/" in why["lonely"]
    assert "the target has 64 x 64 pixels, its input 48 x 48" in why["small"]
    assert "2 in target/" in why["twice"]
    assert "the target has EXIF orientation 1, its input 6" in why["turned"]
    assert "cannot be read" in why["broken"]
    assert len(report.refusals) == 1 + 2 + 3 + 2 + 2


def test_a_folder_without_pairs_is_reported(tmp_path: Path) -> None:
    save(tmp_path / "in" / "input" / "a.png", drawing(0))
    with pytest.raises(NothingUsableError, match=r"no usable pair in .*input and .*target"):
        ingested(tmp_path / "in", pairs())


def test_halves_and_pairs_need_each_other(tmp_path: Path) -> None:
    only = {"source": "pairs"}
    for config, message in (
        (run(NOISE, restoration=only | {"wanted": TARGET}), "degradation: .*needs .*PairInput"),
        (run(INPUT, restoration=only), "target: .*needs .*PairTarget"),
        (run(INPUT), "degradation: .*alone knows .*PairInput"),
    ):
        with pytest.raises(ConfigError, match=message):
            ingested(tmp_path, config)
    more = {"target": "pipeline.degradations.base.Chain", "args": {"parts": [INPUT, NOISE]}}
    with pytest.raises(NothingUsableError):  # a chain may begin with it: only the pairs lack
        ingested(tmp_path, run(more, restoration=only | {"wanted": TARGET}))


def test_other_runs_do_not_take_a_pair_for_a_picture(tmp_path: Path) -> None:
    for side in ("input", "target"):
        save(tmp_path / "in" / side / "a.png", drawing(0))
    store, _ = ingested(tmp_path / "in", pairs())
    (key,) = store.records()
    assert not task_of(run(NOISE)).usable(store, key, run(NOISE))
