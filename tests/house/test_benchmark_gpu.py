"""benchmarks/gpu.py, which is for a GPU: every part of it runs on a CPU, in tiny sizes, and says
what is so there."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.images import body_slice, volume_of

from pipeline.config.load import load_config
from pipeline.models.adapters.base import build_model
from pipeline.store.store import Store

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import gpu  # noqa: E402  (the folder is no package)
import gpu_pack  # noqa: E402
import gpu_parts  # noqa: E402
from gpu_tables import markdown  # noqa: E402
from gpu_training import longest_training  # noqa: E402

sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three series of whole HU with noise, and one of halves."""
    made, generator = Store(tmp_path_factory.mktemp("packed") / "store"), np.random.default_rng(0)
    for number in range(4):
        slices = np.stack([body_slice(96) + generator.normal(0, 20, (96, 96)) for _ in range(5)])
        half = 0.5 if number == 3 else 0
        volume = volume_of(slices.round() + half, pixel_mm=(0.7, 0.8))
        provenance = {"warnings": [], "Manufacturer": "Maker", "ConvolutionKernel": "B30f"}
        volume = dataclasses.replace(volume, provenance={**provenance, "StudyDate": "unwanted"})
        made.add(volume, key=f"s-{number}", patient=f"p-{number}")
    return made


@pytest.fixture(scope="module")
def packed(store: Store) -> Path:
    path = store.path.parent / "training.npz"
    found = gpu_pack.pack(store, sorted(store.records()), path, most_mib=1)
    assert (found.series, found.slices, found.slices_there, found.left_out) == (3, 15, 20, 1)
    return path


@pytest.fixture
def work(packed: Path, tmp_path: Path) -> gpu_parts.Work:
    return gpu_parts.Work("cpu", True, tmp_path, time.time() + 600, packed)


def test_an_image_is_packed_without_loss() -> None:
    generator = np.random.default_rng(0)
    for image in (
        generator.integers(-(2**15), 2**15, (7, 13)).astype(np.int16),
        np.array([[-(2**15), 2**15 - 1, -(2**15)]], np.int16),
        np.zeros((3, 2), np.int16),
    ):
        assert (gpu_pack.decoded(gpu_pack.encoded(image), image.shape) == image).all()


def test_the_slices_come_back_with_their_places(store: Store, packed: Path, tmp_path: Path) -> None:
    back = Store(tmp_path)
    assert gpu_pack.unpack(packed, back) == ["s-0", "s-1", "s-2"]
    for key in back.records():
        was, now = store.load(key), back.load(key)
        inside = np.asarray(now.valid)
        assert inside.mean() > 0.5
        assert (now.image_hu[inside] == was.image_hu[inside]).all()
        assert (now.image_hu[~inside] == -1000).all()
        assert now.spacing_mm == pytest.approx(was.spacing_mm)
        assert (now.slice_origins_mm == was.slice_origins_mm).all()
        assert back.record(key).patient == store.record(key).patient
        assert "StudyDate" not in now.provenance


def test_less_room_takes_fewer_slices_of_every_series(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "small.npz"
    found = gpu_pack.pack(store, ["s-0", "s-1", "s-2"], path, most_mib=0.05)
    assert found.series == 3
    assert found.slices < 15
    assert path.stat().st_size <= 0.05 * 2**20
    with pytest.raises(SystemExit, match="nothing fits"):
        gpu_pack.pack(store, ["s-0"], path, most_mib=0.0001)


def test_results_are_compared_with_the_cpu_s(work: gpu_parts.Work) -> None:
    found = gpu_parts.parity(work)
    assert set(found) == {"anydose", "redcnn", "swift"}
    for ways in found.values():
        assert ways["fp32"]["voxel_hu"] == 0  # here the device is that CPU
        assert ways["bf16"]["voxel_hu"] > 0.1


def test_ways_of_inference_are_measured(work: gpu_parts.Work) -> None:
    found = gpu_parts.inference(work)
    for ways in found.values():
        assert set(ways) == {"plain", "ours", "ours, bf16"}
        assert ways["ours"]["largest_difference_hu"] < 0.01
        assert all(row["seconds_per_slice"][0] > 0 for row in ways.values())


def test_steps_are_measured(work: gpu_parts.Work) -> None:
    found = gpu_parts.training(work)
    assert set(found["denoise_redcnn_gpu"]) == {"plain", "fp32", "bf16"}
    assert set(found["denoise_any_dose_gpu"]) == {"fp32", "bf16"}
    rows = [row for ways in found.values() for row in ways.values()]
    rows += [*gpu_parts.volumes(work).values(), *gpu_parts.generative(work).values()]
    assert len(rows) == 5 + 1 + 4
    assert all(row["seconds"][0] > 0 for row in rows)


def test_a_step_that_fails_is_a_row_that_says_so(work: gpu_parts.Work) -> None:
    def fails() -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    assert work.measured(fails) == {"failed": "CUDA out of memory"}


def test_both_simulations_are_of_the_same_noise(work: gpu_parts.Work) -> None:
    found = gpu_parts.simulation(work)
    assert found["noise_hu"] > 2
    assert found["largest_difference_hu"] < 0.01 * found["noise_hu"]


def test_a_process_joined_with_itself_has_the_same_gradients(work: gpu_parts.Work) -> None:
    found = gpu_parts.nccl(work)
    assert found["sums_equal"]
    assert found["largest_gradient"] > 0
    assert found["largest_difference"] <= 1e-6 * found["largest_gradient"]


def test_the_training_leaves_weights_that_another_machine_can_load(work: gpu_parts.Work) -> None:
    found = longest_training(work)
    assert found["series"] == 3
    assert found["iterations"] == 4
    weights = work.out / found["weights"]
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == found["weights_sha256"]
    config = load_config(weights.parent / "config.yaml")
    assert config.degradation is not None
    assert "device" not in config.degradation.args
    build_model(config)
    late = dataclasses.replace(work, ends_at=time.time(), out=work.out / "late")
    assert "s are left" in longest_training(late)["failed"]


def test_a_part_that_fails_is_written_down_and_the_rest_goes_on(work: gpu_parts.Work) -> None:
    without = dataclasses.replace(work, packed=None)
    found = gpu.run(without, ["longest", "nccl"], work.out)
    assert "no packed training data" in found["longest"]["failed"]
    assert found["nccl"]["sums_equal"]
    table = (work.out / "gpu.md").read_text()
    assert "Failed: no packed training data" in table
    assert "only show that it runs" in table
    assert gpu.in_own_process("device", work, 0.1) == {"failed": "took more than 0 s"}


def test_all_parts_have_a_table() -> None:
    assert "device" in gpu.PARTS
    assert "## device" in markdown(
        {"taken_on": gpu.machine.facts(), "device": {"name": "A GPU", "memory_mib": 1.0}}
    )
    assert set(gpu.PARTS) == set(gpu.__dict__["markdown"].__globals__["TABLES"])
