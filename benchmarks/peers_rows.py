"""The ways that benchmarks/peers.py measures, as functions that a process of its own can run."""

from __future__ import annotations

from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gdcm
import machine
import numpy as np
import pydicom
import SimpleITK as sitk
import torch
from reference.redcnn import PlainREDCNN
from speed import SLICES
from speed_training import our_training, plain_training, stored_phantoms
from torch import nn

from pipeline.config.sections import Normalize
from pipeline.core.types import ImageHU
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume
from pipeline.inference.denoise import apply_model
from pipeline.models.adapters.base import HUModel, ModelAdapter, place
from pipeline.models.adapters.pretrained import load_pretrained
from pipeline.models.computing.choice import MIN_SLICES, choose, synthetic_slice_hu
from pipeline.models.computing.ways import computed_by
from pipeline.models.redcnn import REDCNN

#: The networks that are timed: the rows of the issue that this table came from.
MODELS = ("swift", "redcnn-32", "RED-CNN-96")
BATCH, ITERATIONS = 8, 3
OPENVINO = "openvino"
SYNTAXES = {
    "JPEG-LS": gdcm.TransferSyntax.JPEGLSLossless,
    "JPEG lossless": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
}


def inference_ways(name: str) -> dict[str, machine.Way]:
    """ "plain": PyTorch's layers as they come, a slice after another; the same under bf16
    autocast; by OpenVINO where it is installed; and ours, in the way that is chosen for a
    series."""
    ways: dict[str, machine.Way] = {
        "plain": partial(plain_inference, name, bf16=False),
        "bf16 autocast": partial(plain_inference, name, bf16=True),
        "ldct": partial(our_inference, name),
    }
    if find_spec(OPENVINO):
        ways["OpenVINO"] = partial(openvino_inference, name)
        ways["OpenVINO, fp32"] = partial(openvino_inference, name, precision="f32")
    return ways


@cache
def images_hu() -> ImageHU:
    """SLICES times the same synthetic slice."""
    return np.repeat(synthetic_slice_hu((512, 512))[None], SLICES, axis=0)


def plain_inference(name: str, *, bf16: bool) -> None:
    network = _plain_network(name)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        for image in torch.from_numpy(images_hu())[:, None, None] / 1000:
            network(image)


@cache
def _plain_network(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "RED-CNN-96":
        return PlainREDCNN().eval()
    network = load_pretrained(name.removesuffix("-32")).model.network
    return network.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]


def openvino_inference(name: str, precision: str = "") -> None:
    """In the precision that it takes by itself, bf16 where the processor has it, or in another."""
    compiled = _by_openvino(name, precision)
    for image in images_hu()[:, None, None] / np.float32(1000):
        compiled(image)


@cache
def _by_openvino(name: str, precision: str) -> Any:
    import openvino  # of a peer's environment: see peers.py

    example = torch.zeros(1, 1, *images_hu().shape[1:])
    model = openvino.convert_model(_plain_network(name), example_input=example)
    model.reshape({0: list(example.shape)})
    asked = {"INFERENCE_PRECISION_HINT": precision} if precision else {}
    return openvino.Core().compile_model(model, "CPU", asked)


def our_inference(name: str) -> None:
    apply_model(_chosen(name), images_hu())


@cache
def _chosen(name: str) -> ModelAdapter:
    """In the way that `ldct apply --compute auto` takes for a series of 512 x 512."""
    if name == "RED-CNN-96":
        torch.manual_seed(0)
        network, level = REDCNN(), Normalize(centre=0, scale=1000)
        bare = HUModel(network, normalize=level, residual=True)
        model, identity = place(bare, "cpu", channels_last=True).eval(), "RED-CNN-96, seed 0"
    else:
        loaded = load_pretrained(name.removesuffix("-32"))
        model, identity = loaded.model, loaded.card.weights_sha256
    choice = choose(model, network=identity, shape=(512, 512), slices=MIN_SLICES, asked="auto")
    return computed_by(model, choice.way)


def training_ways(work: Path) -> dict[str, machine.Way]:
    """Three steps on patches of 64: a plain loop, and ours in the precision that it measures."""
    keys = stored_phantoms(work)
    return {
        "plain": partial(plain_training, work, 64, ITERATIONS),
        "ldct": partial(our_training, work, keys, 64, ITERATIONS),
    }


def write_compressed(source: Path, folder: Path, kind: str) -> None:
    """The series with another compression, by GDCM."""
    folder.mkdir()
    for path in sorted(source.glob("*.dcm")):
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        if not reader.Read():
            raise SystemExit(f"GDCM cannot read {path}")
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(SYNTAXES[kind]))
        change.SetInput(reader.GetImage())
        if not change.Change():
            raise SystemExit(f"GDCM cannot write {path} as {kind}")
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(folder / path.name))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.Write()
        # GDCM changes Rescale Type, without which values are not said to be HU: its pixels alone.
        packed, dataset = pydicom.dcmread(folder / path.name), pydicom.dcmread(path)
        dataset.PixelData = packed.PixelData
        dataset["PixelData"].is_undefined_length = True
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = packed.file_meta.TransferSyntaxUID
        dataset.save_as(folder / path.name)


def decode(folder: Path) -> None:
    """Every series below a folder as volumes in HU, checked."""
    found = find_series(folder)
    if not found.series:
        raise SystemExit(f"{folder} has no series that can be read: {found.refusals[0].reason}")
    for series in found.series:
        read_volume(series)


def simpleitk_reads(folder: Path) -> None:
    """The one series of a folder."""
    (uid,) = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid))
    reader.Execute()
