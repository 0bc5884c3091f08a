"""One YAML is one complete, typed run. Unknown keys are errors, and nothing is evaluated.

Every task has a type of its own below RunConfig (pipeline.config.task_runs has those of the tasks
that come with the software); `task:` chooses among them.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, get_args

from pydantic import Field, model_validator

from pipeline.config.sections import Component, Data, Imported, Register, Strict, Train
from pipeline.core.units import Window


class RunConfig(Strict):
    """What the runs of every task have. With its seed, the data's digest and the versions, a run
    reproduces.

    A subclass belongs to one task: it narrows `task` to a Literal, adds the task's sections, and
    says in `adapter` what puts its networks behind HU, as `module.function` of RunConfig.
    """

    #: Every subclass, by the task that it is for.
    types: ClassVar[dict[str, type[RunConfig]]] = {}
    adapter: ClassVar[str] = ""

    #: Of the run, in MLflow and in the report.
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    #: Which kind of run this is.
    task: str
    #: Which series are used, and how patches are cut from them.
    data: Data = Data()
    #: What made the inputs of the targets; a segmenter and a generator may do without.
    degradation: Component | None = None
    #: The network.
    model: Component
    #: What one iteration of the training does (pipeline.training.steps).
    step: Component
    #: None for steps whose loss is their network's or their objective's.
    loss: Component | None = None
    #: How long, how precisely and where to train.
    train: Train
    #: Display windows by name, as [centre, width] in HU; the first one gates.
    windows: dict[str, Window]
    #: By which name versions are registered, and what they must reach.
    register_: Register = Field(alias="register")
    #: Of a model that was trained elsewhere (`ldct models import` writes it).
    imported: Imported | None = None

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        for task in get_args(cls.model_fields["task"].annotation):
            cls.types[task] = cls

    @model_validator(mode="after")
    def _windows_named(self) -> RunConfig:
        if not self.windows:
            raise ValueError("windows: name at least one display window, such as [40, 400]")
        for name, (centre, width) in self.windows.items():
            if not (math.isfinite(centre) and math.isfinite(width) and width > 0):
                raise ValueError(f"windows.{name}: expected a centre and a positive width in HU")
        return self

    @property
    def first_window(self) -> tuple[str, Window]:
        """The window that is named first: the one that gates and headlines are about."""
        return next(iter(self.windows.items()))

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to planning, so that the network can be built."""
        return True

    def resolved(self) -> dict[str, Any]:
        """Every setting, defaults included, as plain data for YAML and JSON."""
        return self.model_dump(mode="json", by_alias=True)
