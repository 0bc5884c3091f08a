"""Between the split and the training: what planning needs of the stored series, and its answer
written into the run."""

from __future__ import annotations

import numpy as np

from pipeline.config.run import RunConfig, parse_config
from pipeline.config.segmentation import IGNORED, Planned, Segmentation
from pipeline.data.planning import Fingerprint, foreground_range_hu, plan
from pipeline.data.working_grid import WorkingGrid
from pipeline.store.labels import stored_labels
from pipeline.store.store import Store

#: Of the voxels within the classes of a volume, so many at most tell its grey values.
SAMPLES = 100_000


def planned(store: Store, keys: list[str], config: RunConfig) -> RunConfig:
    """The run with its segmentation complete, and a network of as many levels as the patch
    allows where the model is a DynUNet without arguments; unchanged where nothing is left to
    planning."""
    section = config.segmentation
    if not isinstance(section, Planned):
        return config
    found = plan(
        fingerprint(store, keys, section),
        memory_gib=section.plan.memory_gib,
        dimensions=section.plan.dimensions,
        channels=len(section.classes) + 1,
        batch=config.train.batch,
    )
    raw = config.resolved()
    del raw["segmentation"]["plan"]
    raw["segmentation"] |= found.segmentation()
    if config.model.target == found.model()["target"] and not config.model.args:
        raw["model"] = found.model()
    return parse_config(raw, source="the planned run")


def fingerprint(store: Store, keys: list[str], section: Planned) -> Fingerprint:
    """Spacings and shapes on the patient's axes, and HU within the classes."""
    spacings, shapes, samples = [], [], []
    # Its spacing is not asked for: any will do to name the classes.
    settings = Segmentation(
        **section.model_dump(exclude={"plan"}), spacing_mm=(1.0, 1.0, 1.0), patch=[1, 1]
    )
    for key in keys:
        volume = store.load(key)
        order = WorkingGrid.of(volume, (1.0, 1.0, 1.0)).order
        spacings.append(tuple(volume.spacing_mm[axis] for axis in order))
        shapes.append(tuple(volume.image_hu.shape[axis] for axis in order))
        classes = settings.classes_of(stored_labels(store, key, section.labels))
        inside = np.asarray(volume.image_hu)[(classes > 0) & (classes != IGNORED)]
        samples.append(inside[:: max(1, len(inside) // SAMPLES)])
    return Fingerprint(spacings, shapes, foreground_range_hu(samples))  # type: ignore[arg-type]
