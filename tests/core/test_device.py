"""Where it is computed: asked for in one place, and refused where it is not there."""

from __future__ import annotations

import pytest
import torch

from pipeline.core.device import VARIABLE, choose_device, compute_on, resolved
from pipeline.core.errors import ConfigError


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Two GPUs, as PyTorch would report them; the numbers that were made the current one."""
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    return chosen


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture(autouse=True)
def nothing_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")


def test_auto_is_a_gpu_where_there_is_one(gpus: list[int]) -> None:
    assert choose_device() == "cuda"
    assert choose_device("cpu") == "cpu"
    assert gpus == []


@pytest.mark.usefixtures("no_gpu")
def test_auto_is_the_cpu_elsewhere() -> None:
    assert choose_device() == "cpu"


def test_a_gpu_by_its_number_becomes_the_current_one(gpus: list[int]) -> None:
    assert choose_device("cuda:1") == "cuda"
    assert gpus == [1]


def test_what_a_command_asks_for_goes_before_what_is_configured(gpus: list[int]) -> None:
    compute_on(None)
    assert choose_device("cuda") == "cuda"
    compute_on("cpu")
    assert choose_device("cuda") == "cpu"
    compute_on("auto")
    assert choose_device("cpu") == "cuda"


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_no_gpu_is_a_sentence(device: str) -> None:
    with pytest.raises(ConfigError, match=f"--device {device}: PyTorch finds no GPU here; take"):
        compute_on(device)
    assert choose_device() == "cpu"  # what was refused does not hold


@pytest.mark.usefixtures("gpus")
def test_a_number_too_high_names_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="cuda:2: not among the GPUs here: cuda:0, cuda:1"):
        compute_on("cuda:2")


@pytest.mark.parametrize("device", ["gpu", "CUDA", "cuda:", "cuda:-1", "cuda:1,2", "mps", "0", ""])
def test_another_name_is_refused(device: str) -> None:
    with pytest.raises(ConfigError, match="take auto, cpu, cuda or cuda:N"):
        resolved(device, asked_by="--device")


@pytest.mark.usefixtures("gpus")
def test_processes_of_torchrun_have_a_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device("cuda") == "cuda"
    with pytest.raises(ConfigError, match="torchrun"):
        choose_device("cuda:0")


@pytest.mark.usefixtures("no_gpu")
def test_a_variable_that_asks_for_what_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "cuda")
    with pytest.raises(ConfigError, match="LDCT_DEVICE cuda"):
        choose_device()
