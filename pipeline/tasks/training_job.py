"""A training as each of its processes must know it: they do the same, on their own items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.config.load import parse_config
from pipeline.config.run import RunConfig
from pipeline.core.types import Json
from pipeline.models.adapters.base import ModelAdapter
from pipeline.store.store import Store
from pipeline.tasks.base import task_of
from pipeline.training.checkpoint import OnDamage
from pipeline.training.distributed import process_group
from pipeline.training.loop import Log, train
from pipeline.training.precision import Precision


@dataclass(frozen=True)
class TrainingJob:
    """What to train on what. All paths must be the same files in every process.

    keys, validation: of series in `store`. folder: of the checkpoint.
    """

    config: Json
    store: str
    keys: list[str]
    validation: list[str]
    folder: str

    @classmethod
    def of(
        cls,
        config: RunConfig,
        store: Store,
        keys: list[str],
        *,
        validation: list[str],
        folder: Path,
    ) -> TrainingJob:
        """The job as paths and plain data, so that other processes can be sent it."""
        paths = str(store.path.absolute()), str(folder.absolute())
        return cls(config.resolved(), paths[0], keys, validation, paths[1])

    def run(
        self,
        log: Log,
        on_precision: Callable[[Precision], None] = lambda precision: None,
        on_damage: OnDamage = lambda fault: None,
    ) -> ModelAdapter:
        """Train (pipeline.training.loop), together with whoever waits in `join_as_worker`."""
        process_group().broadcast(asdict(self))
        return self._run(log, on_precision, on_damage)

    def _run(
        self,
        log: Log,
        on_precision: Callable[[Precision], None] = lambda precision: None,
        on_damage: OnDamage = lambda fault: None,
    ) -> ModelAdapter:
        config, store = parse_config(self.config), Store.existing(Path(self.store))
        task, settings = task_of(config), config.train
        # What is only looked at is nothing that the result depends on.
        chosen_by = self.validation if settings.validate_every is not None else []
        items = settings.iterations * settings.batch * settings.accumulate
        return train(
            config,
            task.training_data(store, self.keys, config, items),
            folder=Path(self.folder),
            log=log,
            data_digest=store.data_digest([*self.keys, *chosen_by]),
            on_precision=on_precision,
            on_damage=on_damage,
            selection=task.selection(store, config, self.validation),
        )


def join_as_worker() -> bool:
    """In all processes but the first: wait for its training and take part in it.

    Returns False, at once, in the first.
    """
    own = process_group()
    if own.is_first:
        return False
    TrainingJob(**own.broadcast())._run(lambda metrics, iteration: None)
    return True
