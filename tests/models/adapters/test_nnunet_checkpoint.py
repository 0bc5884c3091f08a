"""Checkpoints of nnU-Net are read without running anything of theirs."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core.errors import ConfigError
from pipeline.models.adapters.nnunet_checkpoint import FINAL, WEIGHTS, read_checkpoints

RESULTS = Path(__file__).parents[2] / "data" / "nnunet"


def checkpoint(**changes: Any) -> dict[str, Any]:
    """As nnUNetTrainer.save_checkpoint has it, with numpy's numbers and each weight twice."""
    weight = torch.ones(2, 1, 3, 3)
    return {
        WEIGHTS: {
            "encoder.stages.0.0.convs.0.conv.weight": weight,
            "encoder.stages.0.0.convs.0.all_modules.0.weight": weight,
            "decoder.encoder.stages.0.0.convs.0.conv.weight": weight,
        },
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01}]},
        "logging": {"ema_fg_dice": [np.float64(0.5), np.float32(0.25)], "lrs": [0.01]},
        "_best_ema": np.float64(0.7),
        "current_epoch": 1,
        "init_args": {"configuration": "2d", "fold": 0, "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1),
        **changes,
    }


def fold(folder: Path, name: str = "fold_0", **changes: Any) -> Path:
    (folder / name).mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint(**changes), folder / name / FINAL)
    return folder


def test_each_weight_is_there_once_and_numpys_numbers_do_no_harm(tmp_path: Path) -> None:
    found = read_checkpoints(fold(tmp_path))
    assert list(found.state) == ["members.0.encoder.stages.0.0.convs.0.conv.weight"]
    assert (found.configuration, found.trainer, found.mirrored) == ("2d", "nnUNetTrainer", (0, 1))
    without = fold(tmp_path / "b", inference_allowed_mirroring_axes=None)
    assert read_checkpoints(without).mirrored == ()


def test_what_nnunet_itself_wrote_is_read() -> None:
    found = read_checkpoints(RESULTS)
    assert found.folds == ("fold_0",)
    assert found.configuration == "3d_fullres"
    assert found.mirrored == (0, 1, 2)
    assert all(torch.isfinite(tensor).all() for tensor in found.state.values())


def test_all_folds_are_read_and_fold_all_only_where_it_is_alone(tmp_path: Path) -> None:
    fold(fold(fold(tmp_path), "fold_1"), "fold_all")
    (tmp_path / "fold_2").mkdir()  # not complete
    found = read_checkpoints(tmp_path)
    assert found.folds == ("fold_0", "fold_1")
    assert {name.split(".")[1] for name in found.state} == {"0", "1"}
    assert found.sha256 != read_checkpoints(fold(tmp_path / "b")).sha256
    for name in ("fold_0", "fold_1"):
        shutil.rmtree(tmp_path / name)
    assert read_checkpoints(tmp_path).folds == ("fold_all",)


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("/tmp/ldct-unpickled"),)


def test_what_would_run_code_is_refused_and_not_run(tmp_path: Path) -> None:
    fold(tmp_path, logging={"x": Harmful()})
    with pytest.raises(ConfigError, match="was not unpickled"):
        read_checkpoints(tmp_path)
    assert not Path("/tmp/ldct-unpickled").exists()
    (tmp_path / "fold_0" / FINAL).write_bytes(pickle.dumps(checkpoint()))
    with pytest.raises(ConfigError, match="was not unpickled"):
        read_checkpoints(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init_args": {}}, "is no checkpoint of nnU-Net v2"),
        ({"trainer_name": 3}, "is no checkpoint of nnU-Net v2"),
        ({"inference_allowed_mirroring_axes": ["0"]}, "mirroring_axes"),
        ({WEIGHTS: {"a": 1.0}}, "not a plain tensor"),
        ({WEIGHTS: None}, "not a plain tensor"),
        ({"logging": np.zeros(3)}, "was not unpickled"),
    ],
)
def test_what_is_no_checkpoint_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_checkpoints(fold(tmp_path, **changes))


def test_no_complete_fold_and_folds_of_two_trainings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no fold is complete"):
        read_checkpoints(tmp_path)
    fold(fold(tmp_path), "fold_1", trainer_name="another")
    with pytest.raises(ConfigError, match="of another training"):
        read_checkpoints(tmp_path)
