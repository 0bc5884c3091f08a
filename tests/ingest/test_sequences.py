"""Sequences: frames and slices share one path; neighbours, steps, consistency, flicker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.images import tiny_train
from PIL import Image as PillowImage
from torch import nn

from pipeline.config.load import parse_config
from pipeline.config.run import RunConfig
from pipeline.core.errors import ConfigError, LdctError, NothingUsableError
from pipeline.core.pseudonyms import installation_key
from pipeline.data.stored_pictures import StoredPictures, StoredSteps, beside
from pipeline.export.pictures import export_picture
from pipeline.inference.denoise import apply_model
from pipeline.ingest.ingest import IngestReport
from pipeline.ingest.picture_ingest import store_stack
from pipeline.ingest.sequences import FRAMES, RADIUS, SIDE, STEP, moving
from pipeline.models.adapters.restorer import Restorer, degradation_of
from pipeline.store.store import Store
from pipeline.tasks.base import task_of
from pipeline.training.steps.temporal_consistency import Consistent

NOISE = {"target": "pipeline.degradations.base.GaussianNoise", "args": {"sigma": 20}}


def run(neighbours: int | None = 1, source: str = "frames", **more: object) -> RunConfig:
    step = {
        "target": "pipeline.training.steps.temporal_consistency.Consistent",
        "args": {"residual": True},
    }
    return parse_config(
        {
            "name": "tiny",
            "task": "restore",
            "data": {"patch": [16, 16], "augment": False},
            "restoration": {"source": source, "neighbours": neighbours},
            "degradation": {"target": NOISE["target"], "args": {"sigma": 0}},
            "model": {"target": "pipeline.models.adapters.base.Identity"},
            "normalize_hu": {"centre": 0, "scale": 1},
            "step": step,
            "loss": {"target": "torch.nn.MSELoss"},
            "train": tiny_train(),
            "windows": {"levels": [127.5, 255]},
            "register": {"name": "tiny"},
        }
        | more
    )


class Neighbours(nn.Module):
    """Says what is to be corrected: the next frame less the one before."""

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return frames[:, 2:] - frames[:, :1]


def shell(config: RunConfig) -> Restorer:
    network = Neighbours()
    degradation = degradation_of(config)
    return Restorer(network, config=config, degradation=degradation, residual=True).eval()


def counted(frames: int, side: int = 20) -> np.ndarray:
    """Frame n holds 10 n everywhere."""
    values = 10 * np.arange(frames, dtype=np.float32)[:, None, None]
    return np.broadcast_to(values, (frames, side, side)).copy()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    for number in range(2):
        name = f"p-{number}"
        frames = counted(5) + 100 * number
        store_stack(frames, store, IngestReport(Path()), colour="grey", name=name)
    store.record_split({"p-0": "train", "p-1": "test"})
    return store


def test_beside_an_end_lies_the_end_again() -> None:
    stack = counted(4)
    assert beside(stack, 0, 2)[:, 0, 0].tolist() == [0, 0, 0, 10, 20]
    assert beside(stack, 3, 1)[:, 0, 0].tolist() == [20, 30, 30]


def test_items_are_two_places_in_a_row_of_one_sequence(store: Store) -> None:
    config = run()
    items = task_of(config).training_data(store, ["p-0", "p-1"], config, 20)
    seen = set()
    for item in items:
        assert item["input"].shape == (4, 16, 16)
        assert torch.equal(item["input"], item["target"])
        frames = item["target"][:, 0, 0].tolist()
        # No step leads from one sequence into the other.
        assert frames[2] - frames[1] == 10
        seen.add(tuple(frames))
    assert (0, 0, 10, 20) in seen or (100, 100, 110, 120) in seen


def test_a_step_begins_nowhere_but_in_its_sequence(store: Store) -> None:
    pictures = StoredPictures(store, ["p-0", "p-1"], run())
    assert [pictures.begins(n) for n in range(10)] == [n in (0, 5) for n in range(10)]
    assert len(StoredSteps(pictures)) == 8


def test_slices_and_frames_and_files_go_the_same_way(store: Store, tmp_path: Path) -> None:
    """One model, one answer: a stack by `apply_model`, by evaluation, and from files."""
    config, stack = run(), counted(5)
    model = shell(config)
    # Its correction is 20 inside, and 10 at both ends.
    expected = stack[:, 0, 0] + [10, 20, 20, 20, 10]
    for batch in (1, 2, 5):
        assert apply_model(model, stack, batch=batch)[:, 3, 3].tolist() == expected.tolist()
    task = task_of(config)
    task.prepare(store, {"test": ["p-0"]}, config)
    pictures = StoredPictures(store, ["p-0"], config)
    assert pictures.model_input(0)[:, 0, 0].tolist() == [0, 0, 10]
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, frame in enumerate(stack):
        PillowImage.fromarray(frame.astype(np.uint8)).save(folder / f"{number}.png")
    for number in range(5):
        export_picture(model, folder / f"{number}.png", tmp_path / f"out{number}.png")
        written = np.asarray(PillowImage.open(tmp_path / f"out{number}.png"))
        assert written[3, 3] == expected[number]
    PillowImage.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(folder / "3.png")
    with pytest.raises(LdctError, match="another size"):
        export_picture(model, folder / "2.png", tmp_path / "never.png")


def test_consistency_is_the_error_of_the_step() -> None:
    config = run()
    model = shell(config)
    model.network.weight = nn.Parameter(torch.zeros(1))  # something to own an optimiser for
    model.network.forward = lambda f: f[:, 1:2] * 0 + model.network.weight  # type: ignore[method-assign]
    step = Consistent(model, nn.MSELoss(), config.train, residual=True, consistency=2.0)
    frames = torch.from_numpy(np.stack([[1, 2, 5, 6]]).astype(np.float32))[..., None, None]
    target = torch.tensor([[9.0, 2.0, 4.0, 9.0]])[..., None, None]
    result = step.backward({"input": frames, "target": target}, share=1.0)
    # Output: 2 and 5; target: 2 and 4. Its step is 3, the target's 2.
    assert result["loss"] == pytest.approx((0 + 1) / 2)
    assert result["unsteady"] == pytest.approx(1)
    with pytest.raises(ValueError, match="consistency"):
        Consistent(model, nn.MSELoss(), config.train, consistency=-1)


def test_flicker_is_measured_where_the_target_stands_still(tmp_path: Path) -> None:
    """A left half that moves is left out; on the right the input's noise flickers."""
    store = Store(tmp_path)
    frames = np.full((6, 20, 20), 100, dtype=np.float32)
    frames[:, :, :10] += 30 * np.arange(6, dtype=np.float32)[:, None, None] / 6
    store_stack(frames, store, IngestReport(Path()), colour="grey", name="p-0")
    config = run(0, degradation=NOISE, model={"target": "pipeline.models.adapters.base.Identity"})
    task = task_of(config)
    task.prepare(store, {"test": ["p-0"]}, config)

    class Still(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return 100 - image  # residual: the output is 100 everywhere

    model = Restorer(
        Still(), config=config, degradation=degradation_of(config), residual=True
    ).eval()
    found = task.evaluate(model, store, ["p-0"], config).overall.windows["levels"].answers
    # Of the difference of two draws of a normal the mean absolute value is 2 sigma / sqrt(pi).
    assert found["input"]["flicker"] == pytest.approx(2 * 20 / np.sqrt(np.pi), rel=0.08)
    assert found["output"]["flicker"] == pytest.approx(0, abs=1e-4)


def test_folders_of_frames_are_sequences(tmp_path: Path) -> None:
    config, store = run(), Store(tmp_path / "store")
    for name, sizes in (("walk", [20, 20, 20]), ("Miller", [20, 20]), ("odd", [20, 24])):
        (tmp_path / "in" / name).mkdir(parents=True)
        for number, side in enumerate(sizes):
            frame = np.full((side, side), 50 * number + len(name), dtype=np.uint8)
            PillowImage.fromarray(frame).save(tmp_path / "in" / name / f"{number:03}.png")
    result = task_of(config).ingest(tmp_path / "in", store, config, key=installation_key())
    assert sorted(row.slices for row in result.series) == [2, 3]
    assert {refusal.path.parent.name for refusal in result.refusals} == {"odd"}
    assert "Miller" not in " ".join(path.name for path in store.path.rglob("*"))
    key = next(row.series for row in result.series if row.slices == 3)
    assert store.load(key).image_hu[:, 0, 0].tolist() == [4, 54, 104]
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingUsableError, match="two frames"):
        task_of(config).ingest(tmp_path / "empty", store, config, key=installation_key())


def test_a_built_sequence_moves_in_its_disk_alone() -> None:
    picture = np.random.default_rng(0).uniform(0, 255, (200, 300)).astype(np.float32)
    frames = moving(picture)
    assert frames.shape == (FRAMES, SIDE, SIDE)
    moves = (np.diff(frames, axis=0) != 0).any(axis=0)
    rows, columns = np.nonzero(moves)
    assert np.abs(rows - SIDE / 2).max() <= RADIUS
    assert np.ptp(columns) <= 2 * RADIUS + STEP * (FRAMES - 1)
    assert moves.mean() < 0.3


def test_what_sequences_cannot_do_is_named() -> None:
    with pytest.raises(ConfigError, match="have none"):
        run(source="pictures")
    with pytest.raises(ConfigError, match="sequences and slices are grey"):
        run(restoration={"source": "frames", "colour": "rgb"})
    config = run(degradation={"target": "pipeline.degradations.ct.Rings", "args": {}})
    with pytest.raises(ConfigError, match="no piece can be degraded"):
        task_of(config).training_data(Store.__new__(Store), [], config, 1)
