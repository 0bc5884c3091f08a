"""One training in MLflow: its settings, its figures as they come, and the model it ends with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import mlflow
import numpy as np
from mlflow.entities import Metric, Param
from mlflow.models import ModelSignature
from mlflow.models.model import ModelInfo
from mlflow.types import Schema, TensorSpec
from mlflow.utils.validation import MAX_PARAMS_TAGS_PER_BATCH

from pipeline.config.run import RunConfig
from pipeline.core.types import Json
from pipeline.core.versions import versions

if TYPE_CHECKING:
    from pipeline.models.adapters.base import ModelAdapter

#: Of an example's sides; a power of two, which every network takes.
_EXAMPLE_SIZE = 64


@dataclass(frozen=True)
class TrackedRun:
    """One MLflow run, written to by its ID: no global active run to get wrong."""

    client: mlflow.MlflowClient
    run_id: str

    def log_config(self, config: RunConfig) -> None:
        """Every setting as a parameter, sections joined by dots."""
        params = [Param(key, str(value)[:500]) for key, value in _flat(config.resolved()).items()]
        for first in range(0, len(params), MAX_PARAMS_TAGS_PER_BATCH):  # a request each
            some = params[first : first + MAX_PARAMS_TAGS_PER_BATCH]
            self.client.log_batch(self.run_id, params=some)

    def log_precision(self, used: str) -> None:
        """fp32 or bf16, whatever the configuration left open."""
        self.client.set_tag(self.run_id, "precision", used)

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Figures of one iteration."""
        rows = [Metric(key, value, 0, step) for key, value in metrics.items()]
        self.client.log_batch(self.run_id, metrics=rows)


def log_portable(model: ModelAdapter, run_id: str) -> ModelInfo:
    """Log the model as pt2 (traced, no pickle) for any size and batch; returns where it is.

    The example's batch of 2 keeps torch.export from freezing the batch to 1.
    """
    import mlflow.pytorch  # and with it torch, which a look-up needs not

    sizes = model.input_shape[1:]
    example = np.zeros(
        (2, *(_EXAMPLE_SIZE if size == -1 else size for size in sizes)), dtype=np.float32
    )
    given, made = (
        Schema([TensorSpec(np.dtype("float32"), shape)])
        for shape in (model.input_shape, model.output_shape)
    )
    with mlflow.start_run(run_id=run_id):
        # The requirements are given, since MLflow's own search for them takes 20 s.
        logged = mlflow.pytorch.log_model(
            model,
            name="model",
            signature=ModelSignature(given, made),
            input_example=example,
            pip_requirements=[f"torch=={versions()['torch'].partition('+')[0]}"],
        )
    return logged


def _flat(tree: Json, prefix: str = "") -> Json:
    flat: Json = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat
