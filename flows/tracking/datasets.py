"""What a run learned from and is measured on, as MLflow's datasets and tags: counts and digests,
never a path, a name or a patient."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT
from mlflow.utils.validation import MAX_DATASET_DIGEST_SIZE

from pipeline.core.refusals import count_of
from pipeline.store.published_splits import TEST, TRAIN, VALIDATION

if TYPE_CHECKING:  # a look-up needs none
    from pipeline.config.run import RunConfig
    from pipeline.store.store import Store

#: MLflow's word for each side of the split.
CONTEXTS = {TRAIN: "training", VALIDATION: "validation", TEST: "testing"}
#: The kind of source: a store of ldct, which another computer has under another path.
SOURCE_TYPE = "ldct_store"


@dataclass(frozen=True)
class SideOfRun:
    """The stored series on one side of a run's split.

    source: where the images are from, as the configuration has it. digest: SHA-256 of all voxels
    (Store.data_digest). anatomies: those that are known.
    """

    side: str
    source: str
    digest: str
    patients: int
    series: int
    slices: int
    anatomies: tuple[str, ...]

    @classmethod
    def of(cls, side: str, store: Store, keys: list[str], config: RunConfig) -> SideOfRun:
        """What the store holds under these keys."""
        records = [store.record(key) for key in keys]
        anatomies = {str(record.provenance.get("anatomy") or "") for record in records}
        return cls(
            side=side,
            source=source_of(config),
            digest=store.data_digest(keys),
            patients=len({record.patient for record in records}),
            series=len(records),
            slices=sum(record.shape[0] for record in records),
            anatomies=tuple(sorted(anatomies - {""})),
        )

    @property
    def name(self) -> str:
        """As MLflow lists it: the same for runs that learn from the same kind of source."""
        return f"{self.source}.{self.side}"

    @property
    def short_digest(self) -> str:
        """As much of the digest as MLflow takes."""
        return self.digest[:MAX_DATASET_DIGEST_SIZE]

    @property
    def line(self) -> str:
        """For people, without what only this computer knows."""
        shown = f" ({', '.join(self.anatomies)})" if self.anatomies else ""
        return (
            f"{self.side}: {count_of(self.patients, 'patient')}, {self.series} series, "
            f"{count_of(self.slices, 'slice')}{shown}, SHA-256 {self.digest[:16]}"
        )

    def to_mlflow(self) -> DatasetInput:
        """The dataset with what it is for."""
        counts = {
            "patients": self.patients,
            "series": self.series,
            "slices": self.slices,
            "anatomies": list(self.anatomies),
        }
        dataset = Dataset(
            name=self.name,
            digest=self.short_digest,
            source_type=SOURCE_TYPE,
            source=json.dumps({"source": self.source, "sha256": self.digest}),
            profile=json.dumps(counts),
        )
        return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, CONTEXTS[self.side])])


def sides_of_run(
    store: Store, keys: dict[str, list[str]], config: RunConfig
) -> dict[str, SideOfRun]:
    """By side, those that have series."""
    return {side: SideOfRun.of(side, store, found, config) for side, found in keys.items() if found}


def source_of(config: RunConfig) -> str:
    """Where a run's images are from: a published split, pictures by their name, or "ct"."""
    if config.data.split.by != "patient":
        return config.data.split.by
    for section in ("generation", "restoration"):
        if (settings := getattr(config, section, None)) and settings.source != "series":
            return str(settings.source)
    return "ct"


def tags_of_run(config: RunConfig, train: SideOfRun | None) -> dict[str, str]:
    """Tags to filter runs and versions by: task, config, anatomy of the training images where
    known, and dose of the inputs where the run has one."""
    anatomies = train.anatomies if train else ()
    found = {
        "task": config.task,
        "config": config.name,
        "anatomy": ",".join(anatomies),
        "dose": dose_of(config),
    }
    if config.imported is not None:
        found |= {"licence": config.imported.licence, "source": config.imported.source[:500]}
    return {name: value for name, value in found.items() if value}


def dose_of(config: RunConfig) -> str:
    """The inputs' dose as a fraction of the targets': a number, a range of pairs of two doses,
    "real" for real low-dose series; "" where dose is not what the run is about."""
    if config.data.pairs:
        return "real"
    if config.data.nested:
        return "{:g}-{:g}".format(*config.data.nested.dose)
    fraction = config.degradation.args.get("dose_fraction") if config.degradation else None
    return "" if fraction is None else f"{float(fraction):g}"
