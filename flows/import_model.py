"""What `ldct models import` runs: a model from elsewhere becomes a version like any other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import is_zipfile

from flows import stages
from flows.runtime.orchestration import in_flow
from flows.tracking.datasets import sides_of_run
from flows.tracking.registration import NewVersion
from flows.tracking.registry import Registry
from pipeline.config.bundle_import import read_bundle
from pipeline.config.model_import import ModelImport, load_import
from pipeline.config.nnunet_import import read_plans, results_folder
from pipeline.config.run import RunConfig
from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.core.json_numbers import JsonRecord
from pipeline.core.types import Json
from pipeline.core.verdicts import Check, Verdict
from pipeline.models.adapters.base import ModelAdapter, build_model
from pipeline.models.adapters.bundle_files import bundle_folder
from pipeline.models.adapters.card import ModelCard
from pipeline.models.adapters.foreign_weights import load_foreign, read_weights
from pipeline.models.adapters.nnunet_checkpoint import FINAL, read_checkpoints
from pipeline.models.adapters.weights import file_sha256
from pipeline.promotion.import_checks import import_checks
from pipeline.store.published_splits import TEST
from pipeline.store.store import Store
from pipeline.tasks.base import Sides, task_of
from pipeline.tasks.sides import is_usable, keys_by_side

#: What its training data were is not known here.
UNKNOWN = "unknown"


@dataclass(frozen=True)
class ImportedVersion:
    """A registered version of a model from elsewhere."""

    card: ModelCard
    config: RunConfig
    figures: JsonRecord | None
    verdict: Verdict
    aliases: list[str]

    def to_dict(self) -> Json:
        """As `ldct models import --json` prints it."""
        card, imported = self.card, self.config.imported
        return {
            "model": {
                "name": card.name,
                "version": card.version,
                "aliases": self.aliases,
                "weights_sha256": card.weights_sha256,
                "parameters": card.parameters,
                "strength": card.strength,
                "uri": card.uri,
            },
            "task": self.config.task,
            "imported": imported.model_dump() if imported else None,
            "metrics": None if self.figures is None else self.figures.to_dict(),
            "gate": self.verdict.to_dict(),
        }


def import_model(
    settings: Path,
    store: Path | None,
    *,
    name: str | None = None,
    axes: str | None = None,
    licence: str | None = None,
) -> ImportedVersion:
    """Read, check, measure on all patients of `store` where there is one, and register.

    settings: a YAML as pipeline.config.model_import has it; or a MONAI bundle, a folder or a zip
    archive, or a results folder of nnU-Net, which is registered as `name`. axes, licence: of
    nnU-Net (pipeline.config.nnunet_import). Raises ConfigError for what cannot be
    read or does not fit, and LdctError where a check fails; then nothing is registered.
    """

    def body() -> ImportedVersion:
        config, model = read_model(settings, name=name, axes=axes, licence=licence)
        checks = import_checks(model, config)
        return _registered(model, config, checks, Store.existing(store) if store else None)

    return in_flow("ldct-import", body)


def read_model(
    settings: Path, *, name: str | None = None, axes: str | None = None, licence: str | None = None
) -> tuple[RunConfig, ModelAdapter]:
    """The run and the model of a YAML, a bundle or a results folder of nnU-Net, in eval mode, on
    the CPU."""
    results = results_folder(settings) if settings.is_dir() else None
    if results is None and (axes or licence):
        raise ConfigError("--axes, --licence: for a results folder of nnU-Net")
    if not (settings.is_dir() or is_zipfile(settings)):
        if name is not None:
            raise ConfigError("--name: for a MONAI bundle or nnU-Net's results; a YAML has its own")
        return _built(load_import(settings), settings.parent)
    if name is None:
        raise ConfigError(f"{settings}: say by --name as what it is registered")
    if results is not None:
        return _of_nnunet(results, name, axes, licence)
    with bundle_folder(settings) as folder:
        return _built(read_bundle(folder, name), folder)


def _of_nnunet(
    folder: Path, name: str, axes: str | None, licence: str | None
) -> tuple[RunConfig, ModelAdapter]:
    """All folds of a training, whose logits are averaged."""
    found = read_checkpoints(folder)
    settings = read_plans(
        folder,
        name,
        weights=f"{found.folds[0]}/{FINAL}",
        folds=len(found.folds),
        configuration=found.configuration,
        trainer=found.trainer,
        mirrored=found.mirrored,
        axes=axes,
        licence=licence,
    )
    config = settings.run(weights_sha256=found.sha256)
    model = build_model(config)
    load_foreign(model, found.state)
    return config, model.eval()


def _built(found: ModelImport, folder: Path) -> tuple[RunConfig, ModelAdapter]:
    """The model of the settings, with the weights that lie in the folder."""
    path = folder / found.weights
    state = read_weights(path, found.weights_key)
    config = found.run(weights_sha256=file_sha256(path))
    model = build_model(config)
    load_foreign(model, state, prefix=found.prefix)
    return config, model.eval()


def _registered(
    model: ModelAdapter, config: RunConfig, checks: list[Check], store: Store | None
) -> ImportedVersion:
    keys = Sides() if store is None else _measured_on(store, config)
    sides = {} if store is None else sides_of_run(store, keys, config)
    registry = Registry.default()
    with registry.run(config, data_digest=UNKNOWN, sides=sides) as run:
        figures = None
        if store is not None:
            figures = stages.evaluate_stage(model, store, config, keys[TEST])
            checks = [*checks, *task_of(config).judge(figures, config).checks]
        else:
            limit = "import it again with --store, a store of patients it has not seen"
            checks = [*checks, Check("measured on patients", None, limit, passed=False)]
        verdict = Verdict.of(checks)
        new = NewVersion(model, config, UNKNOWN, figures, verdict)
        card = stages.register_stage(run, new)
    aliases = list(registry.find(card.uri).aliases)
    return ImportedVersion(card, config, figures, verdict, aliases)


def _measured_on(store: Store, config: RunConfig) -> Sides:
    """All series that the task can use, on the test side, and what measuring them needs made."""
    records = store.records()
    usable = {record.patient for key, record in records.items() if is_usable(store, key, config)}
    if not usable:
        raise NothingUsableError(task_of(config).nothing_usable(config))
    sides = dict.fromkeys(sorted(usable), TEST)
    stages.degrade_stage(store, config, sides)
    keys = keys_by_side(store, config, sides)
    if not keys[TEST]:
        raise ConfigError(f"{store.path} has no series to measure on")
    return keys
