"""When a hospital's jobs run: the section `schedule` of its YAML. Prefect keeps the time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, field_validator

from pipeline.config.sections import Strict
from pipeline.core.errors import ConfigError

#: Minute, hour, day of the month, month, day of the week.
Cron = Annotated[str, Field(pattern=r"^\S+( \S+){4}$")]


class Retrain(Strict):
    """Train from scratch, evaluate and register, by `config` on what `store` holds."""

    #: When.
    cron: Cron = "0 3 * * 0"
    #: The run's YAML.
    config: Path
    #: The store whose series are learned from.
    store: Path
    #: A folder that is ingested first.
    data: Path | None = None
    #: Whether a version that beats the champion replaces it without a person (see `ldct models
    #: promote`).
    promote: bool = False


class Schedule(Strict):
    """Cron times in `time_zone`; a job without one does not run."""

    #: In which the times are, such as Europe/Zurich or UTC.
    time_zone: str
    #: When the source is asked, and what is due is worked off.
    nightly: Cron | None = "0 1 * * *"
    #: When what waits after a failure is worked off.
    retry: Cron | None = "30 * * * *"
    #: Training again, where it is wanted.
    retrain: Retrain | None = None
    #: Whether what was missed is made up for, once, when the service is back.
    catch_up: bool = True
    #: How many jobs compute at once.
    gpu_slots: Annotated[int, Field(ge=1)] = 1

    @field_validator("time_zone")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in available_timezones():
            raise ValueError(f"no time zone {name}; write it as Europe/Zurich or UTC")
        return ZoneInfo(name).key

    def times(self) -> dict[str, str]:
        """Cron by job, of the jobs that run."""
        crons = {"nightly": self.nightly, "retry": self.retry}
        if self.retrain:
            crons["retrain"] = self.retrain.cron
        return {job: cron for job, cron in crons.items() if cron}


def required(schedule: Schedule | None) -> Schedule:
    """Raises ConfigError where the hospital's YAML has none."""
    if schedule is None:
        raise ConfigError("schedule: the hospital's YAML does not say when; see docs/schedule.md")
    return schedule
