"""A saved model for MLflow's pyfunc: arrays in and out, weights by safetensors, no pickle.

MLflow imports this module by the name that every registered model's MLmodel gives, and calls
`_load_pyfunc`: neither may be moved or renamed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.models.adapters.base import ModelAdapter
from pipeline.models.adapters.card import DIGESTS
from pipeline.models.adapters.weights import load_model

#: Items in the network at once.
BATCH = 4


class Predictor:
    """A model in eval mode that takes and gives arrays of the shapes of its adapter."""

    def __init__(self, model: ModelAdapter) -> None:
        self.model = model

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """The model's output, float32: of a denoiser HU of HU.

        model_input: an array [images, 1, rows, columns] (or what else the adapter takes), or a
        table of one column whose cells are single images [rows, columns], which may differ in
        size; then a list of as many outputs. params: a part of MLflow's interface, not used.
        Raises ValueError for an array of another shape, and for a table of more columns.
        """
        if not hasattr(model_input, "columns"):
            return self._of_batch(np.asarray(model_input, dtype=np.float32))
        if len(model_input.columns) != 1:
            names = ", ".join(map(str, model_input.columns))
            raise ValueError(f"expected one column, of images; there are: {names}")
        cells = [np.asarray(cell, dtype=np.float32) for cell in model_input.iloc[:, 0]]
        return [self._of_batch(cell[None, None])[0, 0] for cell in cells]

    def _of_batch(self, items: NDArray[np.float32]) -> NDArray[np.float32]:
        wanted = self.model.input_shape
        fits = items.ndim == len(wanted) and all(
            size in (-1, found) for size, found in zip(wanted, items.shape, strict=True)
        )
        if not fits:
            raise ValueError(f"expected an array of shape {wanted}, -1 for any; got {items.shape}")
        device = next((each.device for each in self.model.parameters()), torch.device("cpu"))
        with torch.inference_mode():
            outputs = [
                self.model(some.to(device)).float().cpu()
                for some in torch.from_numpy(np.ascontiguousarray(items)).split(BATCH)
            ]
        return torch.cat(outputs).numpy()


def _load_pyfunc(data_path: str) -> Predictor:
    """The model in a folder that flows.tracking.model_files wrote (MLflow calls this).

    Raises LdctError where weights or configuration are not the ones that were registered.
    """
    folder = Path(data_path)
    digests = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
    model, _ = load_model(folder, **digests)
    return Predictor(model)
