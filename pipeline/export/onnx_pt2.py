"""A registered model for other programs: ONNX, and torch.export's pt2, checked equal.

HU in, HU out, any size and batch where the model takes any: normalisation and strength are in the
file. What is written is run again, by ONNX Runtime and by PyTorch, beside the model itself.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.core.atomic_files import replacing_folder, write_json
from pipeline.core.errors import ConfigError, LdctError
from pipeline.models.adapters.base import ModelAdapter
from pipeline.models.adapters.card import ModelCard

ONNX, PT2, CARD = "model.onnx", "model.pt2", "card.json"
#: Names in the ONNX file.
INPUT, OUTPUT = "input", "output"
#: Batches and sides that are tried where any will do; odd ones and a batch of one among them.
_TRIED = ((1, 47, 33), (3, 64, 50), (2, 96, 96))
#: As images of real scanners reach from air to metal.
_LOW_HU, _HIGH_HU = -1024.0, 3071.0
#: Of the largest absolute output, what the arithmetic of another engine may differ by.
TOLERANCE = 1e-5

Images = NDArray[np.float32]
Run = Callable[[Images], Images]


def export_model(model: ModelAdapter, card: ModelCard, folder: Path) -> dict[str, Any]:
    """Write OUT/model.onnx, model.pt2 and card.json; returns what the card says.

    Raises ConfigError where ONNX is not installed; LdctError where a file does not give what the
    model gives, and then nothing is written.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"{package} is not installed: pip install 'ldct[onnx]'")
    model = model.eval()
    with replacing_folder(folder) as partial, _quiet():
        program = _traced(model)
        torch.export.save(program, partial / PT2)
        _save_onnx(model, program, partial / ONNX)
        engines = {"onnxruntime": _by_onnx(partial / ONNX), "torch.export": _by_pt2(partial / PT2)}
        told = {
            "model": card.uri,
            "weights_sha256": card.weights_sha256,
            "strength": card.strength,
            "input": {"name": INPUT, "shape": model.input_shape, "type": "float32"},
            "output": {"name": OUTPUT, "shape": model.output_shape, "type": "float32"},
            "largest_difference": {
                name: _largest_difference(name, model, run) for name, run in engines.items()
            },
            "not_for": "primary diagnosis: label what is made with it as derived",
        }
        write_json(partial / CARD, told)
    return told


def _traced(model: ModelAdapter) -> torch.export.ExportedProgram:
    """Of any batch, and of any side that the model leaves open."""
    *_, example = _trials(model)
    free = {n: torch.export.Dim.AUTO for n, size in enumerate(model.input_shape) if size == -1}
    with torch.inference_mode():
        return torch.export.export(model, (torch.from_numpy(example),), dynamic_shapes=(free,))


def _save_onnx(model: ModelAdapter, program: torch.export.ExportedProgram, path: Path) -> None:
    written = torch.onnx.export(
        program, input_names=[INPUT], output_names=[OUTPUT], verbose=False, dynamo=True
    )
    assert written is not None  # only the old exporter returns nothing
    written.save(path)


def _by_onnx(path: Path) -> Run:
    from onnxruntime import InferenceSession

    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


def _by_pt2(path: Path) -> Run:
    module = torch.export.load(path).module()
    return lambda images: module(torch.from_numpy(images)).detach().numpy()


def _largest_difference(name: str, model: ModelAdapter, run: Run) -> float:
    """In the output's units, over noise of the whole range of HU."""
    worst = 0.0
    for images in _trials(model):
        with torch.inference_mode():
            wanted = model(torch.from_numpy(images)).numpy()
        found = run(images)
        if found.shape != wanted.shape:
            raise LdctError(f"{name} gives {found.shape} where the model gives {wanted.shape}")
        difference = float(np.abs(found - wanted).max())
        if not difference <= TOLERANCE * max(1.0, float(np.abs(wanted).max())):
            raise LdctError(f"{name} differs from the model by {difference:g}; nothing was written")
        worst = max(worst, difference)
    return worst


def _trials(model: ModelAdapter) -> Iterator[Images]:
    """HU, or codes of a generator: [batch, codes]."""
    generator = np.random.default_rng(0)
    for batch, *sides in _TRIED:
        open_sides = iter(sides)
        own = model.input_shape[1:]
        shape = (batch, *(next(open_sides) if size == -1 else size for size in own))
        if len(own) == 1:
            yield generator.standard_normal(shape, dtype=np.float32)
        else:
            yield generator.uniform(_LOW_HU, _HIGH_HU, shape).astype(np.float32)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of packages that are not there and are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
