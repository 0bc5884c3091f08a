"""Export of a registered model as ONNX and torch.export's pt2, compared with the model itself.

Input and output are HU, of any size and batch where the model takes any: normalisation and
strength are in the file. The written files are run by ONNX Runtime and PyTorch for the comparison.
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
#: (batch, rows, columns) of test inputs, where the model leaves them open; some sides are odd.
_TEST_SHAPES = ((1, 47, 33), (3, 64, 50), (2, 96, 96))
#: The range of HU in real images, from air to metal.
_LOW_HU, _HIGH_HU = -1024.0, 3071.0
#: How far another engine may differ, relative to the largest absolute output.
TOLERANCE = 1e-5

Images = NDArray[np.float32]
Run = Callable[[Images], Images]


def export_model(model: ModelAdapter, card: ModelCard, folder: Path) -> dict[str, Any]:
    """Write folder/model.onnx, model.pt2 and card.json; returns the content of card.json.

    Raises ConfigError where ONNX is not installed, and for a model that sees images through
    transforms; LdctError where a file's output differs from the model's. Then nothing is written.
    """
    require_plain(model, card)
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"{package} is not installed: pip install 'ldct[onnx]'")
    model = model.eval()
    with replacing_folder(folder) as partial, quiet():
        program = _traced(model)
        torch.export.save(program, partial / PT2)
        _save_onnx(model, program, partial / ONNX)
        engines = {"onnxruntime": _by_onnx(partial / ONNX), "torch.export": _by_pt2(partial / PT2)}
        content = {
            "model": card.uri,
            "weights_sha256": card.weights_sha256,
            "strength": card.strength,
            "input": {"name": INPUT, "shape": model.input_shape, "type": "float32"},
            "output": {"name": OUTPUT, "shape": model.output_shape, "type": "float32"},
            "largest_difference": {
                name: largest_difference(name, model, run) for name, run in engines.items()
            },
            "not_for": "primary diagnosis: label what is made with it as derived",
        }
        write_json(partial / CARD, content)
    return content


def require_plain(model: ModelAdapter, card: ModelCard) -> None:
    """Raises ConfigError for a model whose transforms no exported file can hold."""
    if model.seen_through is not None:
        raise ConfigError(
            f"{card.uri}: transforms.inference cannot be exported: the file would hold the network "
            "without them, and give other HU; apply it by `ldct apply`, or train without them"
        )


def _traced(model: ModelAdapter) -> torch.export.ExportedProgram:
    """The traced model, for any batch, and any side that the model leaves open."""
    *_, example = test_inputs(model)
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


def largest_difference(name: str, model: ModelAdapter, run: Run) -> float:
    """The largest difference of an engine's output from the model's, in the output's units.

    Raises LdctError for a difference beyond TOLERANCE, and for an output of another shape.
    """
    worst = 0.0
    for images in test_inputs(model):
        with torch.inference_mode():
            expected = model(torch.from_numpy(images)).numpy()
        found = run(images)
        if found.shape != expected.shape:
            raise LdctError(f"{name} gives {found.shape} where the model gives {expected.shape}")
        difference = float(np.abs(found - expected).max())
        if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise LdctError(f"{name} differs from the model by {difference:g}; nothing was written")
        worst = max(worst, difference)
    return worst


def test_inputs(model: ModelAdapter) -> Iterator[Images]:
    """Uniform noise over the range of HU, or for a generator normal codes [batch, codes]."""
    generator = np.random.default_rng(0)
    for batch, *sides in _TEST_SHAPES:
        open_sides = iter(sides)
        own = model.input_shape[1:]
        shape = (batch, *(next(open_sides) if size == -1 else size for size in own))
        if len(own) == 1:
            yield generator.standard_normal(shape, dtype=np.float32)
        else:
            yield generator.uniform(_LOW_HU, _HIGH_HU, shape).astype(np.float32)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporter's warnings of missing packages that it does not need."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
