"""Where to compute: the only place that chooses between CPU and GPUs.

What a command's --device says holds for the whole process and for those that it starts, by the
environment variable LDCT_DEVICE, which may also be set by itself, for services and clusters.
"""

from __future__ import annotations

import os
import re

from pipeline.core.errors import ConfigError

AUTO, CPU, CUDA = "auto", "cpu", "cuda"
VARIABLE = "LDCT_DEVICE"
#: What a device may be called; cuda:N is the GPU of that number, from 0.
FORM = r"auto|cpu|cuda(:\d{1,3})?"
#: torchrun numbers the processes of a computer by it, and each takes the GPU of its number.
LOCAL_RANK = "LOCAL_RANK"


def compute_on(device: str | None) -> None:
    """Compute on `device` from now on, whatever a configuration says; None changes nothing.

    Raises ConfigError for another name than auto, cpu, cuda or cuda:N, and for a GPU that is not
    there.
    """
    if device is None:
        return
    if device != AUTO:  # which needs no GPU, and so no PyTorch yet
        resolved(device, asked_by="--device")
    os.environ[VARIABLE] = device


def choose_device(configured: str = AUTO, *, asked_by: str = "") -> str:
    """ "cpu" or "cuda": what --device or LDCT_DEVICE says, else what is `configured`.

    asked_by: the key that says what is configured, for the error. Raises ConfigError as `resolved`.
    """
    if device := os.environ.get(VARIABLE):
        return resolved(device, asked_by=VARIABLE)
    return resolved(configured, asked_by=asked_by)


def resolved(device: str, *, asked_by: str) -> str:
    """ "cpu", or "cuda" with the GPU that cuda:N names as PyTorch's current one.

    Raises ConfigError for another name than auto, cpu, cuda or cuda:N, for a GPU that PyTorch does
    not find, and for cuda:N under torchrun, whose processes each have a GPU of their own.
    """
    if not re.fullmatch(FORM, device):
        raise ConfigError(f"{asked_by} {device}: take auto, cpu, cuda or cuda:N")
    if device == CPU:
        return CPU
    import torch  # takes seconds: only where something is computed

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == AUTO:
        return CUDA if found else CPU
    if not found:
        raise ConfigError(f"{asked_by} {device}: PyTorch finds no GPU here; take auto or cpu")
    kind, _, number = device.partition(":")
    if number:
        if LOCAL_RANK in os.environ:
            raise ConfigError(f"{asked_by} {device}: with torchrun take cuda, a GPU a process")
        if int(number) >= found:
            there = ", ".join(f"{CUDA}:{n}" for n in range(found))
            raise ConfigError(f"{asked_by} {device}: not among the GPUs here: {there}")
        torch.cuda.set_device(int(number))
    return kind
